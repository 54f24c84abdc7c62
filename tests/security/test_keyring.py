"""Keys of the host's session stay there: a container has a session keyring of its own (keyrings(7))."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator

import pytest

import containerkit as ck
from containerkit.launch.ops import Code
from containerkit.launch.syscalls import ARCHITECTURES
from tests.security import plans
from tests.security.inside import calls, outcome, room

SEARCH, READ, JOIN = 10, 11, 1
SESSION = -3
NAME = b"containerkit-canary"
SECRET = b"the host's own key"


@pytest.fixture
def key() -> Iterator[int]:
    """A key in this process's session keyring."""
    numbers = ARCHITECTURES[os.uname().machine].numbers
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    found = libc.syscall(numbers["add_key"], b"user", NAME, SECRET, len(SECRET), SESSION)
    if found < 0:
        pytest.skip(f"needs keys: {os.strerror(ctypes.get_errno())}")
    yield found
    libc.syscall(numbers["keyctl"], 9, found, SESSION, 0, 0)  # KEYCTL_UNLINK


def tries(key: int) -> list[str]:
    """Look for it by name in the session's, then read it by its number."""
    buffer = room(64)
    return calls(
        ("keyctl", SEARCH, SESSION, b"user", NAME, 0),
        ("keyctl", READ, key, buffer, len(buffer)),
    )


@pytest.mark.parametrize("filtered", [True, False])
def test_the_hosts_keys(
    engine: ck.Engine, hostile: str, security: ck.Security, key: int, filtered: bool
) -> None:
    if not filtered:
        security = ck.Security(seccomp="unconfined", capabilities=security.capabilities)
    refused = {-errno.EPERM, -errno.EACCES, -errno.ENOKEY, -errno.ENOSYS}
    found = outcome(engine.run(hostile, tries(key), text=True, security=security))
    assert set(found) <= refused
    with engine.start(hostile, ["sleep", "100000"], security=security) as box:
        assert set(outcome(box.exec(tries(key), text=True))) <= refused
        assert box.exec(["cat", "/proc/keys"], text=True).stdout == ""


def test_without_a_keyring_of_its_own(engine: ck.Engine, hostile: str, key: int) -> None:
    """The control."""
    with plans.without(Code.KEYRING):
        result = engine.run(
            hostile, tries(key), text=True, security=ck.Security(seccomp="unconfined")
        )
    assert outcome(result) == [key, len(SECRET)]
