"""Have a launcher freeze a container, or let it go on, and say what came of it.

Neighbours: `verbs` asks; the launcher's control group does it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from containerkit.errors import HostError, InvalidStatus, MissingFeature
from containerkit.runtime import packets

if TYPE_CHECKING:
    from containerkit.runtime import status as words
    from containerkit.runtime.handle import Handle

_GONE: Final = frozenset({errno.ESRCH, errno.ENOENT})


def demand(container: Handle, attempt: str, kind: int, allowed: words.Status) -> None:
    """Freeze it or thaw it.

    Args:
        container: a handle of it.
        attempt: what this is, in an error.
        kind: of the request.
        allowed: the status that it needs.

    Raises:
        InvalidStatus: it is in another, or is ended meanwhile.
        MissingFeature: there is no control group to freeze.
        HostError: the kernel did not.
    """
    event, _fds = container._ask(kind)
    what = f"cannot {attempt} container {container.id[:12]}"
    if event is None or event.errnum in _GONE:
        raise container._refusal(attempt, container._look().status, allowed)
    if event.errnum == errno.EINTR:
        raise InvalidStatus(f"{what}: it was ended or let go on meanwhile", status="running")
    if event.errnum == errno.EOPNOTSUPP:
        raise MissingFeature(
            f"{what}: it is in no control group that freezes",
            hint='engine.probe()["cgroup freezer"] says why',
            errno=event.errnum,
            feature="cgroup freezer",
        )
    if event.kind != packets.DONE:
        raise HostError(f"{what}: {os.strerror(event.errnum)}", errno=event.errnum)
