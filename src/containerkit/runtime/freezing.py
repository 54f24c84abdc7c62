"""A container's control groups, and the waiting until all that is in them is frozen.

Owns the asking and the looking.  Must not: freeze or thaw; the launcher does, and records it, so that
nothing stays frozen that nobody paused.
Neighbours: `groups` finds groups; `verbs` pauses, `contents` holds still, `updating` writes to them.

Spec: kernel documentation, cgroup-v1 (freezer-subsystem), cgroup-v2 (cgroup.freeze).
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Final

from containerkit.errors import HostError, InvalidStatus, MissingFeature, refusals
from containerkit.runtime import groups, packets
from containerkit.runtime import status as words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from containerkit.runtime.handle import Handle

_FREEZE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.001
_GONE: Final = frozenset({errno.ESRCH, errno.ENOENT})


@refusals("find the container's control groups")
def groups_of(container: Handle) -> tuple[str, ...]:
    """Return the directories of a container's control groups; none where it has none now."""
    state = container._look().state
    if state is None:
        return ()
    row = container._read_row()
    alone = row.lifetime == "detached" or row.shared is not None
    return groups.of_container(container._keeper.root, state.launcher, state.group, alone=alone)


def is_frozen(places: Iterable[str]) -> bool | None:
    """Whether the kernel has frozen all that is in a container's groups; None: none of them tells."""
    for place in places:
        state = groups.text_of(f"{place}/freezer.state")
        if state is not None:
            return state.startswith("FROZEN")
        events = groups.text_of(f"{place}/cgroup.events")
        if events is not None:
            return "frozen 1" in events.splitlines()
    return None


def demand(container: Handle, attempt: str, kind: int, allowed: words.Status) -> None:
    """Have a container's launcher freeze or thaw it.

    Args:
        container: with a launcher.
        attempt: what is attempted, for messages.
        kind: `packets.FREEZE` or `packets.THAW`.
        allowed: the status in which it can be.

    Raises:
        InvalidStatus: it is in another one by now.
        MissingFeature: there is no control group to freeze.
        HostError: the kernel refuses.
    """
    event, _fds = container._ask(kind)
    if event is None or event.errnum in _GONE:
        raise container._refusal(attempt, container._look().status, allowed)
    if event.errnum == errno.EINTR:
        raise _meanwhile(container, "running")
    if event.errnum == errno.EOPNOTSUPP:
        raise MissingFeature(
            f"cannot {attempt} container {container._called()}: "
            "it is in no control group that freezes",
            hint='engine.probe()["cgroup freezer"] says why',
            errno=event.errnum,
            feature="cgroup freezer",
        )
    if event.kind != packets.DONE:
        raise _refused(container, attempt, event.errnum)


def _meanwhile(container: Handle, status: words.Status) -> InvalidStatus:
    return InvalidStatus(
        f"cannot pause container {container._called()}: it was ended or let go on meanwhile",
        status=status,
    )


def _refused(container: Handle, attempt: str, error: int) -> HostError:
    return HostError(
        f"cannot {attempt} container {container._called()}: {os.strerror(error)}", errno=error
    )


@refusals("see whether the container is frozen")
def wait_frozen(container: Handle) -> None:
    """Wait until all processes of a container are frozen, which was asked for.

    Where this process does not see the container's groups, there is nothing to look at: it is left to
    the kernel.

    Raises:
        InvalidStatus: it was ended, or let go on, meanwhile.
        HostError: the kernel did not freeze all of them in time, or does not tell.

    Blocking: at most 10 s; some may be slow to arrive where they can be frozen.
    """
    places = groups_of(container)
    deadline = time.monotonic() + _FREEZE_SECONDS
    while not (frozen := is_frozen(places)):
        status = container._look().status
        if status != "paused":
            raise _meanwhile(container, status)
        if frozen is None:
            return
        if time.monotonic() > deadline:
            raise _refused(container, "pause", errno.ETIMEDOUT)
        time.sleep(_POLL_SECONDS)
