"""How an engine handle is set up.

Owns the value `EngineConfig`, and `Pace`, the part of it that registries are held to.  Must not: know
the engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import attrs

from containerkit.errors import ConfigError

if TYPE_CHECKING:
    from containerkit.model.image_limits import ImageLimits

RATE: Final = 1024
WINDOW: Final = 60.0


def _texts(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value)


def _rate(value: int | str) -> int:
    if not isinstance(value, str):
        return value
    from containerkit.model.limits import parse_size

    return parse_size(value, what="download_rate")


@attrs.frozen
class Pace:
    """The least rate of an answer.

    Args:
        rate: bytes a second, or as "10KiB", over each window; 0: any.
        window: seconds of waiting that are looked at together.

    Raises:
        ConfigError: a value out of range.
    """

    rate: int = attrs.field(default=RATE, converter=_rate)
    window: float = WINDOW

    def __attrs_post_init__(self) -> None:
        if type(self.rate) is not int or not 0 <= self.rate <= 1 << 40:
            raise ConfigError(f"download_rate {self.rate!r} is no number of bytes from 0 to 2**40")
        window: object = self.window
        if isinstance(window, bool) or not isinstance(window, int | float) or not 0 < window < 1e6:
            raise ConfigError(f"download_window {window!r} is no number of seconds above 0")


@attrs.frozen(kw_only=True)
class EngineConfig:
    """Settings of one engine handle.

    Args:
        mirrors: registries asked before docker.io, for images that name no registry.
        netns_pool: network namespaces kept ready for starts, 0 to 512; each costs the kernel some
            100 KiB, and a start without one 0.5 ms.
        classic_overlay: mount as on kernels before 6.5, to test that on a later one.
        copied_layers: copy an image's layers for a container with a user namespace of its own, as on
            kernels before 5.19, to test that on a later one.
        image_limits: what an image that is pulled may declare and expand to; None: `ImageLimits()`.
        token_realms: hosts that the login of any registry may be sent to when the registry says that
            tokens come from there; without, one of its own domain.
        download_rate: bytes a second, or as "10KiB", that an answer of a registry has to bring, once
            it began; 0: any.  A slow answer is given up and asked for again, and in the end is a
            `TransportError`.
        start_timeout: seconds until a start that the launcher or the kernel does not end is given up,
            with a `Timeout`.
        download_window: seconds, spent on waiting for an answer, over which that is counted.
    """

    mirrors: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    netns_pool: int = attrs.field(default=32)
    classic_overlay: bool = False
    copied_layers: bool = False
    image_limits: ImageLimits | None = None
    token_realms: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    download_rate: int | str = RATE
    download_window: float = WINDOW
    start_timeout: float = 120.0

    def __attrs_post_init__(self) -> None:
        seconds: object = self.start_timeout
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, int | float)
            or not 0 < seconds < 1e6
        ):
            raise ConfigError(f"start_timeout {seconds!r} is no number of seconds above 0")
        if not 0 <= self.netns_pool <= 512:
            raise ConfigError(f"netns_pool {self.netns_pool} is not from 0 to 512")
        self.pace()

    def pace(self) -> Pace:
        """Return what `download_rate` and `download_window` ask for.

        Raises:
            ConfigError: they are out of range.
        """
        return Pace(self.download_rate, self.download_window)
