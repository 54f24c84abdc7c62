"""Labels of security modules (/proc/self/attr): nothing of ours is written there, nothing of the
container's is believed.

CVE-2019-16884, 2019-19921, 2023-27561, 2025-52881: a label was written to what a volume had put at
/proc/self/attr, so the process stayed without it, or the write went to another file of the kernel's.
We write none: where the host has a module, children have the label of their launcher.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import ConfigError
from containerkit.launch import syscalls
from tests.security.inside import calls, outcome

PLACES = (
    "/proc/self/attr",
    "/proc/self/attr/exec",
    "/proc/thread-self/attr/current",
    "/proc/1/attr",
)
NAMES = ("current", "exec", "fscreate", "keycreate", "sockcreate", "apparmor/exec")


def test_nothing_is_mounted_there(
    engine: ck.Engine, hostile: str, security: ck.Security, tmp_path: Path
) -> None:
    for place in PLACES:
        with pytest.raises(ConfigError, match="system's"):
            engine.run(
                hostile, ["true"], security=security, mounts=[ck.Mount.bind(tmp_path, place)]
            )


def writes(engine: ck.Engine, image: str, security: ck.Security, text: str) -> Sequence[str]:
    """Return which labels of its own a process may write."""
    script = f"for n in {' '.join(NAMES)}; do echo {text} >/proc/self/attr/$n && echo $n; done"
    return engine.run(image, ["sh", "-c", script], security=security, text=True).stdout.split()


def test_a_process_does_not_name_its_own(
    engine: ck.Engine, hostile: str, security: ck.Security
) -> None:
    assert writes(engine, hostile, security, "unconfined") == []


def test_nor_by_the_call(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    numbers = syscalls.ARCHITECTURES["x86_64"].numbers
    assert "lsm_set_self_attr" in numbers
    command = calls(("lsm_set_self_attr", 100, bytes(64), 64, 0))
    assert outcome(engine.run(hostile, command, security=security)) == [-errno.EPERM]
    # the control: it is a filter that refused it
    free = ck.Security(seccomp="unconfined")
    assert outcome(engine.run(hostile, command, security=free)) != [-errno.EPERM]
