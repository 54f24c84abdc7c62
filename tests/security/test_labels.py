"""Labels of security modules: a process in a container does not set its own by the call for it.

CVE-2019-16884, 2019-19921, 2023-27561, 2025-52881: a label was written to what a volume had put at
/proc/self/attr, so the process stayed without it, or the write went to another file of the kernel's.
We write none: where the host has a module, children have the label of their launcher.  Nothing is mounted
at /proc/self/attr: see test_mounts.
"""

from __future__ import annotations

import errno

import containerkit as ck
from containerkit.launch import syscalls
from tests.security.inside import calls, outcome


def test_a_process_does_not_set_its_own(
    engine: ck.Engine, hostile: str, security: ck.Security
) -> None:
    numbers = syscalls.ARCHITECTURES["x86_64"].numbers
    assert "lsm_set_self_attr" in numbers
    command = calls(("lsm_set_self_attr", 100, bytes(64), 64, 0))
    assert outcome(engine.run(hostile, command, security=security)) == [-errno.EPERM]
    # the control: it is a filter that refused it
    free = ck.Security(seccomp="unconfined")
    assert outcome(engine.run(hostile, command, security=free)) != [-errno.EPERM]
