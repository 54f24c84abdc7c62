"""New limits for a container: of a running one now, of any for its next start.

Owns the writing to its control groups, and the undoing of that.  Must not: know what a limit means
(`launch.limits`, `launch.updates`).
Neighbours: `verbs` calls it; `freezing` finds them; `records` keeps the limits.

Atomicity: the row changes after the kernel has taken all of them; one that it refuses puts those
before it back.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from containerkit.errors import ConfigError, HostError, InvalidStatus, refusals
from containerkit.launch.limits import OPTIONAL_FILES, cgroup_settings
from containerkit.launch.presets import changes_of, limits_of
from containerkit.launch.request import HostFacts
from containerkit.launch.updates import (
    TOTAL_LIFTED,
    anew_settings,
    changed_settings,
    merged,
    update_settings,
)
from containerkit.model.limits import Limits
from containerkit.runtime import begin, birth, cgroups, entering, freezing
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
        settings: Sequence[str] = ()
        anew = undo = places = settings
        if container._look().is_live:
            facts = _facts(container)
            places = freezing.groups_of(container)
            can_have = entering.possible(container, places) if facts.cgroup != "v2" else ()
            settings = update_settings(old, new, facts, devices, groups=can_have)
            anew = anew_settings(new, facts, devices)
            undo = changed_settings(new, old, facts, devices)
        else:
            cgroup_settings(new, keeper.runner.launcher()[1], [], devices)
        options: ContainerOptions = {**kept.options, "limits": new}
        made: Sequence[str] = ()
        try:
            made = entering.make(container, places, settings[::3])
            _write(container, (*places, *made), settings, anew)
            entering.move((*places, *made), settings[::3])
            keeper.records.configure(container.id, kept._replace(options=options).dump())
        except BaseException:  # an interrupt, too, may come between two writes
            _write_all((*places, *made), undo)
            entering.undo(made)
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
            f"cannot update container {container._called()}: it has just ended"
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
    container: Verbs, places: Sequence[str], settings: Sequence[str], anew: Sequence[str]
) -> None:
    """Write the settings to its control groups.

    One that has ended has none: then the limits are for its next start.

    Args:
        container: it runs.
        places: its groups.
        settings: what changes: (controller, file, value) in a row.
        anew: all of them, whatever the kernel has: who was killed in an update has left its own.
    """
    anew = _there(places, anew)
    refused = _write_all(places, settings) or _write_all(places, anew)
    if refused is not None and refused.error.errno == errno.EINVAL:
        room = _there(places, TOTAL_LIFTED)
        refused = refused if _write_all(places, (*room, *anew)) else None
    if refused is None or not container._look().is_live:
        return
    raise HostError(
        f"cannot update container {container._called()}: {refused.file} can not be {refused.value}: "
        f"{refused.error.strerror}",
        errno=refused.error.errno,
        hint=_HINTS.get(refused.error.errno or 0),
    )


class _Refused(NamedTuple):
    file: str
    value: str
    error: OSError


def _write_all(places: Sequence[str], settings: Sequence[str]) -> _Refused | None:
    """Write settings one after the other; return the first that is refused."""
    for file, value in zip(settings[1::3], settings[2::3], strict=True):
        try:
            _write_file(places, file, value)
        except OSError as error:
            return _Refused(file, value, error)
    return None


def _there(places: Sequence[str], settings: Sequence[str]) -> Sequence[str]:
    """Return those of the settings whose files are there."""
    return [
        text
        for at in range(0, len(settings), 3)
        if any(os.path.exists(f"{place}/{settings[at + 1]}") for place in places)
        for text in settings[at : at + 3]
    ]


def _write_file(places: Sequence[str], file: str, value: str) -> None:
    """Write to the one group that has a file: its name begins with its controller's."""
    refused: OSError | None = None
    for place in places:
        try:
            fd = os.open(f"{place}/{file}", os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError as error:
            refused = error
            continue
        try:
            os.write(fd, value.encode("ascii"))
        finally:
            os.close(fd)
        return
    raise refused or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), file)
