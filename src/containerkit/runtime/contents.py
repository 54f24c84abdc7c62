"""The way to a container's files: a descriptor of its root, whether it runs or not.

Owns: which root that is, and being sure whose; holding a container still while all of it is looked
at.  Must not resolve anything beneath (`beneath` does).

A running or paused container's root is found in /proc, by its pidfd.  A created or stopped one is
mounted for the time of the call: by the same plan as a start, whose child parks instead of executing
the command (`parked`).
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final

from containerkit.errors import ContainerNotFound, HostError, InvalidStatus
from containerkit.model.idmap import IdMap
from containerkit.runtime import begin, freezing, helper, idranges, nested, packets, subordinate
from containerkit.runtime import status as words
from containerkit.runtime.alive import pid_of
from containerkit.runtime.beneath import DIRECTORY, attempt
from containerkit.runtime.birth import Kept
from containerkit.runtime.rootplan import root_plan
from containerkit.runtime.sameness import Owners
from containerkit.state import userns

if TYPE_CHECKING:
    from containerkit.runtime.changes import Change
    from containerkit.runtime.export import Sink
    from containerkit.runtime.handle import Handle
    from containerkit.runtime.observed import Observed

Reach = Callable[[], AbstractContextManager[int]]
"""Gives an O_PATH descriptor of a container's root, for the time of one call."""

_SETTLE_SECONDS: Final = 10.0
"""How long a container may be neither running nor stopped: at its end, or between two runs."""
_POLL_SECONDS: Final = 0.005
NOT_APART: Final = "without namespaces what it wrote is not kept apart"
_STILL: Final = ("created", "stopped")


# ---- the root ----------------------------------------------------------------------------------


def open_root(pidfd: int) -> int | None:
    """Open the root directory of a process; None when it has ended.

    Its number is looked up before, and the process found alive afterwards: so nobody else can have
    had the number meanwhile.

    Raises:
        HostError: /proc does not show it.
    """
    pid = pid_of(pidfd)
    if pid <= 0:
        return None
    try:
        fd = os.open(f"/proc/{pid}/root", DIRECTORY)
    except OSError as error:
        if _has_ended(pidfd):
            return None
        raise HostError(
            f"cannot reach the files of process {pid}: {error.strerror}", errno=error.errno
        ) from error
    if _has_ended(pidfd):
        os.close(fd)
        return None
    return fd


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def reach(container: Handle) -> Iterator[int]:
    """Give a descriptor of a container's root.

    Raises:
        InvalidStatus: it was removed, or waits to be restarted for too long.
        HostError: its root can not be reached.
        LaunchError, ConfigError, MissingFeature: it does not run, and what it needs to be mounted
            is not there any more.
    """
    from containerkit.runtime.parked import parked

    container._keeper.require_open()
    if userns.is_bare():
        with nested.reach(container) as tree:
            yield tree
        return
    helper.allow(container._keeper.root)
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        fd = _open_running(container)
        if fd is not None:
            try:
                yield fd
            finally:
                os.close(fd)
            return
        status = container._look().status
        if status in _STILL:
            with contextlib.ExitStack() as stack:
                try:
                    root = stack.enter_context(parked(container))
                except InvalidStatus:  # it was started meanwhile
                    continue
                yield root
            return
        if status == "removed" or time.monotonic() > deadline:
            raise container._refusal("reach the files of", status, *words.STATUSES[:-1])
        time.sleep(_POLL_SECONDS)  # between its end and what it says of it


def _open_running(container: Handle) -> int | None:
    if not container._look().is_live:
        return None
    pidfd = container._open_pidfd()
    if pidfd < 0:
        return None
    try:
        return open_root(pidfd)
    finally:
        os.close(pidfd)


# ---- all of it at once -------------------------------------------------------------------------


@contextmanager
def held_still(container: Handle) -> Iterator[None]:
    """Let nothing change a container's files meanwhile: it is frozen, and not started or removed.

    Raises:
        InvalidStatus: it was removed.

    Blocking: while somebody else starts it, removes it or looks through it, at most
        `begin.LOCK_SECONDS`.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ContainerNotFound):
            stack.enter_context(begin.Operation(container._keeper, container.id))
        status = container._require("look through", *words.STATUSES[:-1]).status
        with contextlib.suppress(InvalidStatus):  # it has just ended
            if status == "running":
                # Thawed with the connection's end, also when this process is killed meanwhile.
                channel = container._connect(packets.FREEZE, values=(1,))
                stack.callback(channel.finish)
                channel.answer()
            if status in words.LIVE:  # somebody else may have asked for a pause just now
                with contextlib.suppress(HostError):
                    freezing.wait_frozen(container)
        yield


def diff(container: Observed) -> tuple[Change, ...]:
    """Do `Container.diff`."""
    from containerkit.runtime.changes import changes_inside, changes_of

    nested.refuse(f"compare the files of container {container.id[:12]}", NOT_APART)
    plan = root_plan(container._planned(copied=False))
    kept = Kept.of(container._read_row())
    with (
        begin.leased(container._keeper, kept),
        held_still(container),
        attempt("compare the files of container", container.id[:12]),
    ):
        owners = owners_of(container)
        try:
            return changes_of(plan, container._keeper.root, container._directory, owners)
        except PermissionError:
            if not userns.is_needed():
                raise
        ids = ids_within(container)
        return changes_inside(plan, container._keeper.root, container._directory, ids)


def export(container: Observed, file: Sink, max_size: int | str | None = None) -> None:
    """Do `Container.export`."""
    from containerkit.runtime.export import export_to
    from containerkit.runtime.whole import size_limit

    nested.refuse(f"export container {container.id[:12]}", NOT_APART)
    plan, limit = root_plan(container.plan()), size_limit(max_size)
    with reach(container) as root, contextlib.ExitStack() as stack:
        if container._look().status == "running":
            stack.enter_context(held_still(container))
        export_to(file, root, plan, ids_of(container), limit)


def ids_of(container: Observed) -> IdMap | None:
    """Return the ids by which a container's files are counted, as this host has them; None: as they are."""
    if userns.is_bare():
        return nested.own_ids()
    within = _layers_ids(container)
    if within is None:
        security = container.config.options.get("security")
        return None if userns.is_within() else idranges.ids_of(container._directory, security)
    own = _own_ids(container)
    return within if own is None else subordinate.of_files(own, within)


def ids_within(container: Observed) -> IdMap | None:
    """Return the same as a process in an ordinary user's namespace has them."""
    own = _own_ids(container)
    if own is None:
        return None
    there = userns.ids_of(container._keeper.root)
    same = [[(inside, inside, count) for inside, _, count in lines] for lines in there]
    return subordinate.of_files(own, IdMap(*same))


def owners_of(container: Observed) -> Owners:
    """Return by which ids owners in a container's own directories are counted."""
    return Owners(ids_of(container), _layers_ids(container))


def _own_ids(container: Observed) -> IdMap | None:
    """Return an ordinary user's container's range, as its launcher counts; None: it has none."""
    security = container.config.options.get("security")
    is_auto = security is not None and security.userns == "auto"
    return idranges.noted(container._directory) if is_auto else None


def _layers_ids(container: Observed) -> IdMap | None:
    """Return the same of what lies in its layers; None: as it is."""
    return IdMap(*userns.ids_of(container._keeper.root)) if userns.is_needed() else None
