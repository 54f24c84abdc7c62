"""What the presets of `Security` mean for other options: limits, the user, the network.

Owns the values that "strict" has where a caller gives none.  They are as explicit as a caller's own:
what the host can not hold raises.  Neighbours: `limits` writes them down, `compile` and `execute`
ask here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from containerkit.errors import ConfigError
from containerkit.launch.limits import DEFAULTS, LIFTED
from containerkit.model.limits import Limits, Unlimited

if TYPE_CHECKING:
    from containerkit.launch.request import Ids
    from containerkit.model.options import ContainerOptions

STRICT: Final = Limits(
    memory=512 << 20,
    memory_swap=512 << 20,
    cpus=1.0,
    pids=128,
    ulimits={"nofile": 1024, "core": 0},
)
"""Enough for a build or a test suite of one user; no swap, since that is the host's disk."""

NOBODY: Final = "65534:65534"
"""The user that owns nothing, by number: an image may call anybody "nobody"."""


ALONE: Final = "0:0"
"""The user of an ordinary user's containers where no others are granted: itself."""


def is_strict(options: ContainerOptions) -> bool:
    """Return whether the container's security is the preset "strict", changed or not."""
    security = options.get("security")
    return security is not None and security.preset == "strict"


def limits_of(options: ContainerOptions) -> Limits:
    """Return the limits of a container: as given, with those of its preset."""
    given = options.get("limits")
    if isinstance(given, Unlimited):
        return LIFTED
    if not is_strict(options):
        return DEFAULTS if given is None else given
    return STRICT if given is None else _with_strict(given)


def changes_of(options: ContainerOptions, given: Limits) -> Limits:
    """Return what an update of a container changes: what is without swap by its preset stays so."""
    if is_strict(options) and isinstance(given.memory, int) and given.memory_swap is None:
        return attrs.evolve(given, memory_swap=given.memory, ulimits=_by_name(given))
    return given


def _by_name(*limits: Limits) -> dict[str, tuple[int, int]]:
    return {name: (soft, hard) for one in limits for name, soft, hard in one.ulimits}


def _with_strict(given: Limits) -> Limits:
    values = {
        name: getattr(STRICT, name)
        for name in ("memory", "cpus", "pids")
        if getattr(given, name) is None
    }
    memory = values.get("memory", given.memory)
    if given.memory_swap is None and isinstance(memory, int):
        values["memory_swap"] = memory
    return attrs.evolve(given, **values, ulimits=_by_name(STRICT, given))


def default_user(options: ContainerOptions, image: str, within: Ids | None = None) -> str:
    """Return who a container is when its caller says nothing.

    Args:
        options: of the container.
        image: the image's own user, which "strict" does not ask: it may be root.
        within: the ids of the launcher's user namespace; None: all.  Where there is one alone,
            "strict" is that.
    """
    if not is_strict(options):
        # As in Docker: an image may leave out either side.  A caller may not, whose empty name
        # for a user or a group is more likely a value that is missing.
        name, _, group = image.partition(":")
        return f"{name or '0'}:{group}" if group else name
    return ALONE if within is not None and within.single else NOBODY


def check_network(options: ContainerOptions) -> None:
    """Refuse a network for what has none.

    Raises:
        ConfigError: the security is the preset "strict", and a network is asked for.
    """
    if is_strict(options) and options.get("network") not in (None, "none"):
        raise ConfigError(
            f"network {options.get('network')!r}: the security strict has no network",
            hint="leave it out, or use Security.default(seccomp='strict', capabilities=())",
        )
