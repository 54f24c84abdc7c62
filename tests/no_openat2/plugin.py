"""A pytest plugin: this process and all that it starts have no openat2(2) any more.

    pytest -p tests.no_openat2.plugin …        (make test-no-openat2)

A seccomp filter answers ENOSYS, as Linux before 5.6 does.  It is inherited by the launcher and by
every container, and nothing can take it off again.  It is set with CAP_SYS_ADMIN, without
no_new_privs, which would be inherited too (seccomp(2)); so set-user-id programs work as ever.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

SYS_OPENAT2 = 437
"""On every architecture (linux/unistd.h)."""

_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER = 1
_TSYNC = 1
"""For all threads of this process."""

_ERRNO, _ALLOW = 0x00050000, 0x7FFF0000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def filter_program(number: int = SYS_OPENAT2) -> bytes:
    """Return the filter that takes one call away: struct sock_filter each (linux/filter.h)."""
    return b"".join(
        struct.pack("=HBBI", *one)
        for one in (
            (0x20, 0, 0, 0),  # load the number of the call
            (0x15, 0, 1, number),  # is it that?
            (0x06, 0, 0, _ERRNO | errno.ENOSYS),
            (0x06, 0, 0, _ALLOW),
        )
    )


def refuse_openat2() -> None:
    """Take openat2(2) from this process and all that it starts from now on; see `refuse`."""
    refuse(SYS_OPENAT2)


def refuse(call: int) -> None:
    """Take a call from this process and all that it starts from now on.

    Raises:
        OSError: EACCES above all: it needs CAP_SYS_ADMIN.
    """
    code = filter_program(call)
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SYS_SECCOMP[platform.machine()]
    if libc.syscall(number, _SET_MODE_FILTER, _TSYNC, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def has_openat2() -> bool:
    """Whether this process has openat2(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC)
    fd = libc.syscall(SYS_OPENAT2, -100, b"/", ctypes.byref(how), ctypes.sizeof(how))
    if fd >= 0:
        os.close(fd)
    return bool(fd >= 0)


def pytest_configure() -> None:
    refuse_openat2()
    assert not has_openat2()


def pytest_report_header() -> str:
    return "openat2(2) answers ENOSYS"
