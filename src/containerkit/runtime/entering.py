"""A running container enters a control group of a kind that it had none of (version 1).

Groups of cpuset and blkio cost each start something, so that a container has them only when it asks for
such a limit.  Who asks while it runs has one made, and all that runs in it moved there: what starts in
it afterwards is there from birth, and its next start joins.

Owns the making and the moving.  Must not: know limits.
Neighbours: `updating` writes them; the launcher removes the group with the others of the container.

Spec: kernel documentation, cgroup-v1 (cgroups, cpusets).
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from containerkit.errors import HostError, refusals
from containerkit.runtime import groups

if TYPE_CHECKING:
    from containerkit.runtime.handle import Handle

_SIGNS: Final = {"cpuset": "cpuset.cpus", "blkio": "blkio.reset_stats"}
"""A file that each group of a kind has, and no other."""

_SECONDS: Final = 10.0


def _of_kind(places: Iterable[str], kind: str) -> str | None:
    return next((place for place in places if os.path.exists(f"{place}/{_SIGNS[kind]}")), None)


@refusals("find the container's control groups")
def possible(container: Handle, places: Sequence[str]) -> frozenset[str]:
    """Return the kinds of groups that a container is in, or can be given while it runs.

    Args:
        container: it runs.
        places: its groups.
    """
    state = container._look().state
    bases = () if state is None else groups.of_launcher(container._keeper.root, state.launcher)
    return frozenset(kind for kind in _SIGNS if _of_kind((*places, *bases), kind))


@refusals("make a control group for the container")
def make(container: Handle, places: Sequence[str], kinds: Iterable[str]) -> tuple[str, ...]:
    """Make the groups of these kinds that a container lacks; nothing is in them yet.

    Returns:
        Their directories.

    Raises:
        HostError: the kernel refuses one.
    """
    state = container._look().state
    made: list[str] = []
    if state is None:
        return ()
    bases = groups.of_launcher(container._keeper.root, state.launcher)
    for kind in _SIGNS.keys() & {*kinds}:
        base = _of_kind(bases, kind)
        if base is not None and not _of_kind(places, kind):
            try:
                os.mkdir(f"{base}/{state.group}", 0o755)
            except OSError:
                undo(made)
                raise
            made.append(f"{base}/{state.group}")
    return tuple(made)


@refusals("move the container into a control group")
def move(places: Sequence[str], kinds: Iterable[str]) -> None:
    """Have all that runs in a container be in its groups of these kinds.

    What starts meanwhile is where its parent is: this goes on until none is elsewhere.

    Args:
        places: the container's groups.
        kinds: of those that they may not be in yet.

    Raises:
        HostError: the kernel refuses, or they have not come to an end in time.

    Blocking: at most 10 s for a container that makes processes all the time.
    """
    deadline = time.monotonic() + _SECONDS
    own = {place for kind in _SIGNS if (place := _of_kind(places, kind))}
    # All are in each of the others, but for the freezer's: there, an exec has one of its own.
    all_of = (p for p in places if p not in own and not os.path.exists(f"{p}/freezer.state"))
    whole = next(all_of, None)
    for kind in _SIGNS.keys() & {*kinds}:
        place = _of_kind(places, kind)
        while whole and place and (rest := _members(whole) - _members(place)):
            for pid in rest:
                with contextlib.suppress(ProcessLookupError):
                    Path(f"{place}/cgroup.procs").write_text(pid, encoding="ascii")
            if time.monotonic() > deadline:
                raise HostError(
                    f"cannot move the container into its group of {kind}: it makes processes faster",
                    errno=errno.EAGAIN,
                )


def _members(place: str) -> set[str]:
    """Return the processes in a group; those that are not seen from here, which are 0, left out."""
    return set(Path(f"{place}/cgroup.procs").read_text(encoding="ascii").split()) - {"0"}


def undo(made: Sequence[str]) -> None:
    """Remove groups that were made, or have them limit nothing where something is in them by now."""
    for place in made:
        try:
            os.rmdir(place)
        except OSError:
            with contextlib.suppress(OSError):
                above = Path(place).parent / "cpuset.cpus"
                Path(f"{place}/cpuset.cpus").write_text(above.read_text())
