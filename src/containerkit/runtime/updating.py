"""New limits for a container: of a running one now, of any for its next start.

Owns that request and its undoing.  Must not: know what a limit means (`launch.limits`), or write to
a control group itself: the launcher that runs it does.
Neighbours: `verbs` calls it; `records` keeps the limits.

Atomicity: the row changes after the kernel has taken all of them; one that it refuses puts those
before it back.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from containerkit.errors import ConfigError, HostError, InvalidStatus, refusals
from containerkit.launch.limits import (
    OPTIONAL_FILES,
    anew_settings,
    cgroup_settings,
    changed_settings,
    merged,
    update_settings,
)
from containerkit.launch.presets import changes_of, limits_of
from containerkit.launch.request import HostFacts
from containerkit.model.limits import Limits
from containerkit.runtime import begin, birth, cgroups, packets
from containerkit.runtime.devices import block_devices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from containerkit.model.options import ContainerOptions
    from containerkit.runtime.verbs import Verbs

_HINTS: Final = {
    errno.EBUSY: "it uses more than that now, and the kernel could not take it back",
    errno.EINVAL: "a group above has a lower limit, or the device can not be limited",
}


def update(container: Verbs, limits: Limits) -> None:
    """Change a container's limits.

    Args:
        container: created, running or stopped.
        limits: the new ones; what is None, and every device and resource not named, stays.

    Raises:
        ConfigError: together with the others they have no meaning.
        MissingFeature: the host can not hold one of them, or not of a running container.
        HostError: the kernel refused one.

    Blocking: on another operation on it, at most 25 s.
    """
    if not isinstance(limits, Limits):
        raise ConfigError(f"limits {limits!r} is not a value of Limits")
    keeper = container._keeper
    with begin.Operation(keeper, container.id):
        row = container._read_row()
        kept = birth.Kept.of(row)
        old = limits_of(kept.options)
        new = merged(old, changes_of(kept.options, limits))
        devices = block_devices(old) | block_devices(new)
        if container._look().is_live:
            facts = _facts(container)
            settings = update_settings(old, new, facts, devices)
            undo = changed_settings(new, old, facts, devices)
            _write(container, settings, undo, anew=anew_settings(new, facts, devices))
        else:
            cgroup_settings(new, keeper.runner.launcher()[1], [], devices)
            undo = ()
        options: ContainerOptions = {**kept.options, "limits": new}
        try:
            keeper.records.configure(container.id, kept._replace(options=options).dump())
        except BaseException:
            if undo:
                container._ask(packets.UPDATE, body=packets.strings(undo))
            raise


@refusals("read what the container's groups can do")
def _facts(container: Verbs) -> HostFacts:
    """Return what its own groups can do; those of this process where it has none at the moment."""
    pid = container.pid
    if pid is None:
        return container._keeper.runner.launcher()[1]
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, ProcessLookupError):
        raise InvalidStatus(
            f"cannot update container {container.id[:12]}: it has just ended"
        ) from None
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    found = cgroups.parse(text, mounts)
    controllers = frozenset(found.directories)
    if "unified" in found.directories:
        file = found.directories["unified"] / "cgroup.controllers"
        controllers = frozenset(file.read_text(encoding="ascii").split())
    files = frozenset(
        file
        for file in OPTIONAL_FILES
        for directory in found.directories.values()
        if (directory / file).exists()
    )
    version = found.version if any(map(_is_ours, found.directories.values())) else None
    return HostFacts(cgroup=version, controllers=controllers, cgroup_files=files)


def _is_ours(directory: Path) -> bool:
    return f"/{cgroups.PREFIX}" in str(directory)


def _write(
    container: Verbs, settings: Sequence[str], undo: Sequence[str], *, anew: Sequence[str]
) -> None:
    """Have its launcher write the settings, or those before them again.

    Args:
        container: it runs.
        settings: what changes.
        undo: what takes that back.
        anew: all of them, whatever the kernel has: who was killed in an update has left its own.
    """
    if not settings:
        return
    event, _fds = container._ask(packets.UPDATE, body=packets.strings(settings))
    if event is not None and event.errnum == errno.EINVAL:
        again, _fds = container._ask(packets.UPDATE, body=packets.strings(anew))
        if again is None or again.kind == packets.DONE:
            return
    if event is None or event.kind == packets.DONE:
        return  # without a word it has ended: the limits are for its next start
    container._ask(packets.UPDATE, body=packets.strings(undo))
    index = 3 * event.aux
    _controller, file, value = (*settings[index : index + 3], *("", "limits", "them"))[:3]
    name = os.strerror(event.errnum)
    raise HostError(
        f"cannot update container {container.id[:12]}: {file} can not be {value}: {name}",
        errno=event.errnum,
        hint=_HINTS.get(event.errnum),
    )
