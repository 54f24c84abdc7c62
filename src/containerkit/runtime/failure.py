"""A start that failed, as an exception: which step, on what, why, and what to do.

Owns the translation of the launcher's reports.  Must not: touch the host.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from containerkit.errors import (
    CommandNotFound,
    InvalidSpec,
    LaunchError,
    MissingFeature,
    NotExecutable,
)
from containerkit.launch.explain import hint_for
from containerkit.launch.ops import OPS, PREPARE, SECTIONS, Code

if TYPE_CHECKING:
    from containerkit.launch.plan import Plan
    from containerkit.runtime.packets import Event

_NO_SECTION = 0xFFFF
_MAPPED = frozenset((Code.ID_MAP, Code.SOURCE))
"""Steps that a kernel, or a file system, without id-mapped mounts refuses: not of copied layers."""
_REFUSED = frozenset((errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.ENOSPC))


def was_stillborn(event: Event) -> bool:
    """Whether a child ended by itself before it had read its plan: nothing of that was done.

    A child that was parked for the next start has found too late that it can not be of use: after
    it was sent the plan (ECHILD), or just before (EPIPE).
    """
    return (event.code, event.aux) == (0, 0) and event.errnum in (errno.ECHILD, errno.EPIPE)


def launch_error(plan: Plan, event: Event) -> LaunchError | InvalidSpec | MissingFeature:
    """Return the exception for a FAILED event of *plan*."""
    why = os.strerror(event.errnum)
    if event.code == 0:
        return _without_step(plan, event, why)
    if event.errnum == errno.EMFILE and event.section == PREPARE:
        return _too_many(plan)
    op = plan.step(event.section, event.step)
    name = OPS[op.code].name
    step = plan.describe(event.section, event.step)
    number = plan.number(event.section, event.step)
    if op.code == Code.EXEC:
        return _exec_error(plan, event, number)
    if op.code in _MAPPED and event.errnum in _REFUSED and _has_user_namespace(plan):
        return _no_user_namespace(plan, event, step)
    return LaunchError(
        f"{_attempt(plan)}: cannot {step}: {errno.errorcode.get(event.errnum, '')} ({why})",
        errno=event.errnum,
        hint=hint_for(op.code, event.errnum),
        op_index=number,
        op=name,
        plan=plan,
    )


def _attempt(plan: Plan) -> str:
    what = "execute in" if plan.kind == "exec" else "start"
    return f"cannot {what} the container"


def _exec_error(plan: Plan, event: Event, number: int) -> LaunchError:
    candidates, argv, _environment = plan.step(event.section, event.step).arena
    program = argv[0] if isinstance(argv, tuple) else "?"
    kind: type[LaunchError] = LaunchError
    if event.errnum in (errno.ENOENT, errno.ENOTDIR):
        kind = CommandNotFound
        if event.aux and isinstance(candidates, tuple):
            return kind(
                f"cannot run {candidates[event.aux - 1]!r}: it is there, but the interpreter that"
                f" its first line or its header names is not (step {number}, exec)",
                errno=event.errnum,
                hint="a program for another libc, or a script with Windows line ends, looks so",
                op_index=number,
                op="exec",
                plan=plan,
            )
        tried = candidates if isinstance(candidates, tuple) else ()
        where = "" if len(tried) < 2 else f" (looked for {', '.join(tried)})"
        message = f"cannot run {program!r}: it is not in the container{where}"
    elif event.errnum in (errno.EACCES, errno.ENOEXEC, errno.EISDIR, errno.EPERM):
        kind = NotExecutable
        message = f"cannot run {program!r}: {os.strerror(event.errnum)}"
    else:
        message = f"cannot run {program!r}: {os.strerror(event.errnum)}"
    return kind(
        f"{message} (step {number}, exec)",
        errno=event.errnum,
        hint=hint_for(Code.EXEC, event.errnum),
        op_index=number,
        op="exec",
        plan=plan,
    )


def _without_step(plan: Plan, event: Event, why: str) -> LaunchError | InvalidSpec:
    if event.errnum == errno.ECHILD:
        return LaunchError(
            f"{_attempt(plan)}: it {_end(event)} during its set-up",
            errno=errno.ECHILD,
            hint="a limit on memory or processes may be too small to start anything, or a filter of"
            " system calls too strict",
            plan=plan,
        )
    if event.errnum in (errno.EINVAL, errno.EPROTONOSUPPORT, errno.EBADF):
        where = (
            "its header"
            if event.section == _NO_SECTION
            else (f"step {event.step} of section {SECTIONS[event.section]}")
        )
        return InvalidSpec(f"{_attempt(plan)}: the launcher refused the plan at {where}: {why}")
    if event.errnum == errno.EMFILE and event.section == _NO_SECTION:
        return _too_many(plan)
    if event.errnum == errno.EAGAIN and plan.kind == "exec":
        return LaunchError(
            f"{_attempt(plan)}: its limit of processes is reached",
            errno=errno.EAGAIN,
            hint="update(limits=Limits(pids=…)) raises it; top() shows them",
            plan=plan,
        )
    return LaunchError(
        f"{_attempt(plan)}: {why}",
        errno=event.errnum,
        plan=plan,
    )


def _has_user_namespace(plan: Plan) -> bool:
    return any(op.code == Code.ID_MAP for op in plan.prepare)


def _no_user_namespace(plan: Plan, event: Event, step: str) -> MissingFeature:
    hint = (
        "as root: sysctl user.max_user_namespaces=15000 (and there may be 32 within each other);"
        " Security(userns='host') does without"
    )
    if event.code == Code.SOURCE:
        hint = (
            "to keep its owners, a bind mount must be id-mapped (mount_setattr(2)), which needs Linux"
            " 5.12 and the consent of its file system; put files into the container instead, or use"
            " Security(userns='host')"
        )
    return MissingFeature(
        f"{_attempt(plan)} in a user namespace of its own: cannot {step}:"
        f" {os.strerror(event.errnum)}",
        errno=event.errnum,
        hint=hint,
        feature="userns",
    )


def _end(event: Event) -> str:
    return f"was killed by signal {event.aux}" if event.aux else "ended"


def _too_many(plan: Plan) -> LaunchError:
    return LaunchError(
        "cannot start the container: this process runs as many of them as its limit of open"
        " files allows, or 8192 with what is executed in them",
        errno=errno.EMFILE,
        hint="raise the hard limit (ulimit -Hn), or start fewer at once",
        plan=plan,
    )
