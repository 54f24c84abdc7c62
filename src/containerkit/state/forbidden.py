"""What is said when the host refuses user namespaces, or what is to be mounted in them.

Owns: the settings of the host's that forbid them, and the words.  Neighbour: `userns`, which asks.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from containerkit.errors import HostError, MissingFeature, PermissionDenied
from containerkit.state.procstatus import effective_capabilities

FLOOR: Final = "5.12"
"""The oldest Linux that has all calls: mount_setattr(2) is of 5.12, CLOSE_RANGE_CLOEXEC of 5.11."""

KNOBS: Final = (
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user.max_user_namespaces", "0", "15000"),
)
"""Settings of the host, the value that forbids user namespaces, and one that allows them."""

_SETFCAP: Final = 1 << 31
REFUSALS: Final = frozenset((errno.EPERM, errno.EACCES))
_AROUND: Final = (
    "a seccomp filter or a security module around us refuses (in Docker: --security-opt"
    " seccomp=unconfined --security-opt apparmor=unconfined)"
)


def refused(number: int) -> HostError:
    """Return the error that says why this user can not have a user namespace, and what allows it.

    Args:
        number: errno of the refusal.
    """
    bad = knobs()
    if bad:
        why = ", ".join(f"{name} is {value}" for name, value, _ in bad)
        hint = "as root: " + ", ".join(f"sysctl {name}={good}" for name, _, good in bad)
    elif number == errno.ENOSPC:
        why = "there are as many as user.max_user_namespaces allows, or 32 within each other"
        hint = "as root: raise it with sysctl"
    elif number == errno.EAGAIN:
        why = f"{os.strerror(number)}: this user has as many processes as it may"
        hint = "raise the limit of processes (ulimit -u)"
    elif number == errno.EPERM and os.geteuid() == 0 and not _may_be_root():
        why = "root without the capability SETFCAP may not be root in another one"
        hint = "give it that (in Docker: --cap-add SETFCAP), or run as another user"
    else:
        why = os.strerror(number)
        hint = f"{_AROUND}: allow clone and unshare with CLONE_NEWUSER, or run as root"
    kind = PermissionDenied if bad or number in (errno.EPERM, errno.EACCES) else HostError
    return kind(
        f"cannot make a user namespace, which containers of user {os.geteuid()} need: {why}",
        errno=number,
        hint=hint,
    )


def _may_be_root() -> bool:
    """Whether a namespace that this process makes may have its root in it (user_namespaces(7))."""
    with contextlib.suppress(OSError):
        return bool(effective_capabilities() & _SETFCAP)
    return True


def not_set_up(step: str, number: int) -> HostError:
    """Return the error of a launcher that could not do a step, and what may allow it.

    Args:
        step: what it could not do.
        number: errno of the refusal.
    """
    if number == errno.ENOSYS:
        return too_old(f"cannot set up the launcher: it could not {step}", number)
    said = f"cannot set up the launcher: it could not {step}: {os.strerror(number)}"
    if number not in REFUSALS or step.startswith(("open", "claim")):
        return HostError(said, errno=number)
    bad = ", ".join(f"sysctl {name}={good}" for name, _, good in knobs())
    hint = f"as root: {bad}" if bad else _AROUND
    return PermissionDenied(said, errno=number, hint=hint)


def too_old(attempt: str, number: int) -> MissingFeature:
    """Return the error of a kernel without a call that every container needs, and which one has all.

    Args:
        attempt: what could not be done.
        number: errno of the refusal.
    """
    return MissingFeature(
        f"{attempt}: Linux {os.uname().release} does not know a system call that it takes,"
        f" and {FLOOR} is the oldest that has all",
        feature="kernel",
        errno=number,
        hint="use a newer kernel; on one, a seccomp filter around this process hides the call:"
        " see Engine.probe()",
    )


def knobs() -> list[tuple[str, str, str]]:
    """Return those of `KNOBS` that forbid user namespaces here."""
    bad = []
    for name, value, good in KNOBS:
        with contextlib.suppress(OSError):
            there = Path("/proc/sys", name.replace(".", "/")).read_text(encoding="ascii").strip()
            if there == value:
                bad.append((name, value, good))
    return bad
