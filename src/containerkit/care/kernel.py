"""Questions to the kernel that change nothing: system calls that can not succeed.

Each is made with arguments that the kernel refuses, and the way in which it refuses tells whether
it knows the call or the flag: ENOSYS and E2BIG say no, EPERM that a filter or a missing right is in
the way.  The numbers of these calls, but of bpf(2), are the same on every architecture.

Owns those questions.  Must not: make a call that has an effect.  Neighbour: `care.probe`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final, NamedTuple

from containerkit.launch.syscalls import ARCHITECTURES

_OPEN_TREE: Final = 428
_MOVE_MOUNT: Final = 429
_FSOPEN: Final = 430
_FSCONFIG: Final = 431
_PIDFD_OPEN: Final = 434
_CLONE3: Final = 435
_OPENAT2: Final = 437
_CLOSE_RANGE: Final = 436
_MOUNT_SETATTR: Final = 442

_BPF_PROG_LOAD: Final = 5
_BPF_PROG_TYPE_CGROUP_DEVICE: Final = 15
_FSCONFIG_SET_STRING: Final = 1
_MOUNT_ATTR_IDMAP: Final = 0x00100000
_CLOSE_RANGE_CLOEXEC: Final = 4
_CLONE_INTO_CGROUP: Final = 0x200000000
_AT_EMPTY_PATH: Final = 0x1000
_NO_FD: Final = 1 << 20
"""A descriptor number that nobody has: above every limit of open files that is usual."""

_INVALID_FLAG: Final = 1
"""No flag of unshare(2): part of the mask of a signal in clone(2)."""


class Answer(NamedTuple):
    """What came of a question.

    Attributes:
        known: whether the kernel knows it and this process may use it.
        said: "yes", or the name of the error that says no.
    """

    known: bool
    said: str


def _call(number: int, *arguments: object) -> int:
    """Return the errno of a call that is meant to fail; 0 if it did not."""
    libc = ctypes.CDLL(None, use_errno=True)
    ctypes.set_errno(0)
    if libc.syscall(ctypes.c_long(number), *arguments) >= 0:
        return 0
    return ctypes.get_errno()


def _answer(error: int, no: tuple[int, ...] = (errno.ENOSYS, errno.EPERM)) -> Answer:
    if error in no:
        return Answer(known=False, said=errno.errorcode.get(error, str(error)))
    return Answer(known=True, said="yes")


def openat2() -> Answer:
    """Ask by a structure that is too small."""
    return _answer(_call(_OPENAT2, ctypes.c_long(-1), None, None, ctypes.c_long(0)))


def clone3() -> Answer:
    """Ask by a structure that is too small."""
    return _answer(_call(_CLONE3, None, ctypes.c_long(0)))


def clone_into_cgroup() -> Answer:
    """Ask clone3(2) for a group that can not be: who does not know the field finds it too long."""
    arguments = struct.pack("=11Q", _CLONE_INTO_CGROUP, *[0] * 9, 1 << 63)
    error = _call(_CLONE3, arguments, ctypes.c_long(len(arguments)))
    return _answer(error, (errno.ENOSYS, errno.EPERM, errno.E2BIG))


def pidfd_open() -> Answer:
    """Ask for process 0, which is none."""
    return _answer(_call(_PIDFD_OPEN, ctypes.c_long(0), ctypes.c_long(0)))


def mount_api() -> Answer:
    """Ask for the calls of the mount API of Linux 5.2 with bad descriptors and names."""
    for number in (_OPEN_TREE, _MOVE_MOUNT):
        answer = _answer(_call(number, *[ctypes.c_long(_NO_FD), None] * 2, ctypes.c_long(0)))
        if not answer.known:
            return answer
    return _answer(_call(_FSOPEN, None, ctypes.c_long(0)))


def mount_attributes() -> Answer:
    """Ask mount_setattr(2) by a structure that is too small."""
    return _answer(
        _call(_MOUNT_SETATTR, ctypes.c_long(_NO_FD), None, *[ctypes.c_long(0)] * 3),
        (errno.ENOSYS,),
    )


def close_range() -> Answer:
    """Ask for the flag CLOEXEC on one descriptor that nobody has."""
    number = ctypes.c_long(_NO_FD)
    error = _call(_CLOSE_RANGE, number, number, ctypes.c_long(_CLOSE_RANGE_CLOEXEC))
    return _answer(error, (errno.ENOSYS, errno.EPERM, errno.EINVAL))


def idmapped_mounts() -> Answer:
    """Ask mount_setattr(2) to map ids by a namespace that is no descriptor.

    Who knows the attribute looks for the descriptor; who does not finds the attribute invalid.
    """
    attributes = struct.pack("=4Q", _MOUNT_ATTR_IDMAP, 0, 0, _NO_FD)
    here = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        error = _call(
            _MOUNT_SETATTR,
            ctypes.c_long(here),
            b"",
            ctypes.c_long(_AT_EMPTY_PATH),
            attributes,
            ctypes.c_long(len(attributes)),
        )
    finally:
        os.close(here)
    return _answer(error, (errno.ENOSYS, errno.EPERM, errno.EINVAL))


def device_program() -> Answer:
    """Ask bpf(2) for a program of devices whose instructions are nowhere: rights are looked at first."""
    machine = ARCHITECTURES.get(platform.machine())
    if machine is None:
        return Answer(known=False, said=platform.machine())
    licence = ctypes.create_string_buffer(b"GPL")
    load = struct.pack("=2I2Q24x", _BPF_PROG_TYPE_CGROUP_DEVICE, 1, 0, ctypes.addressof(licence))
    arguments = ctypes.c_long(_BPF_PROG_LOAD), load, ctypes.c_long(len(load))
    return _answer(_call(machine.numbers["bpf"], *arguments))


def namespace(flag: int) -> Answer:
    """Ask unshare(2) for a namespace, beside a flag that makes it refuse.

    A filter (seccomp) looks at the namespace's flag alone and says EPERM.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    ctypes.set_errno(0)
    libc.unshare(flag | _INVALID_FLAG)
    return _answer(ctypes.get_errno())


def overlay_option(name: str, value: str) -> bool:
    """Return whether overlayfs takes an option, of a mount that is never made."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(ctypes.c_long(_FSOPEN), b"overlay", ctypes.c_long(1))
    if fd < 0:
        return False
    try:
        taken: int = libc.syscall(
            ctypes.c_long(_FSCONFIG),
            ctypes.c_long(fd),
            ctypes.c_long(_FSCONFIG_SET_STRING),
            name.encode(),
            value.encode(),
            ctypes.c_long(0),
        )
    finally:
        os.close(fd)
    return taken == 0
