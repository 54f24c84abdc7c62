"""Platforms: what a program needs to run, and which image of an index fits a host.

Owns: the spelling of operating systems, architectures and variants, and which runs on which.
Must not: fetch or parse an index (`manifest` does).  Flow: `Index.select` asks it.
"""

from __future__ import annotations

import os
import re

import attrs

from containerkit.errors import ConfigError

_PART = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# Kernel and distribution names to those of the image-spec (Go's GOARCH).
_ARCHITECTURES = {
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "i386": ("386", None),
    "i486": ("386", None),
    "i586": ("386", None),
    "i686": ("386", None),
    "armhf": ("arm", "v7"),
    "armv8l": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv7": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "loongarch64": ("loong64", None),
}
# The variant that an absent one means; newer variants run what older ones do.
_BASE_VARIANT = {"arm": "v7", "arm64": "v8", "amd64": "v1"}
_LOWEST_VARIANT = {"arm": 5, "arm64": 8, "amd64": 1}


@attrs.frozen
class Platform:
    """An operating system, an architecture and, for some, a variant of it.

    Values are normalised: "x86_64" becomes "amd64", arm without variant is v7, arm64/v8 and
    amd64/v1 are plain arm64 and amd64.

    Raises:
        ConfigError: a part is not a word.

    Spec: image-spec image-index.md, platform.
    """

    os: str
    architecture: str
    variant: str | None = None

    def __attrs_post_init__(self) -> None:
        for part in (self.os, self.architecture, self.variant):
            if part is not None and _PART.fullmatch(part) is None:
                raise ConfigError(
                    f"cannot read platform: {part[:80]!a} is not a word",
                    hint="os/architecture[/variant], e.g. linux/arm64 or linux/arm/v7",
                )
        architecture, variant = _ARCHITECTURES.get(
            self.architecture.lower(), (self.architecture.lower(), None)
        )
        variant = self.variant.lower() if self.variant else variant
        if variant is not None and variant.isdigit():
            variant = f"v{variant}"
        base = _BASE_VARIANT.get(architecture)
        if variant is None and architecture == "arm":
            variant = base
        elif variant == base and architecture != "arm":
            variant = None
        object.__setattr__(self, "os", self.os.lower())
        object.__setattr__(self, "architecture", architecture)
        object.__setattr__(self, "variant", variant)

    @classmethod
    def parse(cls, text: object) -> Platform:
        """Read ``os/architecture[/variant]``; one word is an architecture of Linux.

        Raises:
            ConfigError: it is neither, or no text.
        """
        parts = text.split("/") if isinstance(text, str) else []
        if not 1 <= len(parts) <= 3 or not all(parts):
            raise ConfigError(
                f"cannot read platform {text!a:.120}: not one to three words",
                hint="os/architecture[/variant], e.g. linux/arm64 or linux/arm/v7",
            )
        if len(parts) == 1:
            parts.insert(0, "linux")
        return cls(*parts)

    @classmethod
    def host(cls) -> Platform:
        """Return the platform of the running kernel."""
        kernel = os.uname()
        return cls(kernel.sysname, kernel.machine)

    def distance(self, offered: Platform) -> int | None:
        """Return how far *offered* is from the best fit for this platform.

        Returns:
            0 for the same platform, more for each older variant, None when it does not run here.
        """
        if (self.os, self.architecture) != (offered.os, offered.architecture):
            return None
        if self.variant == offered.variant:
            return 0
        wanted, there = self._level(), offered._level()
        if wanted is None or there is None or not self._lowest() <= there <= wanted:
            return None
        return wanted - there

    def matches(self, offered: Platform) -> bool:
        """Return whether content made for *offered* runs on this platform."""
        return self.distance(offered) is not None

    def _lowest(self) -> int:
        return _LOWEST_VARIANT.get(self.architecture, 0)

    def _level(self) -> int | None:
        variant = self.variant or _BASE_VARIANT.get(self.architecture)
        if variant is None or re.fullmatch(r"v[0-9]", variant) is None:
            return None
        return int(variant[1:])

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
