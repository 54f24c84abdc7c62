"""What is to be seen of execs, from within a container and from outside."""

from __future__ import annotations

import os
from typing import Any

import containerkit as ck
from tests.support.patience import descriptors_of

MARK = "987654"
"""Seconds that only a process of these tests sleeps."""


def sleepers(container: ck.Container) -> int:
    """Count the container's processes that sleep for so long."""
    listed = container.exec(["ps", "-o", "args"], text=True, check=True).stdout
    return sum(line.split() == ["sleep", MARK] for line in listed.splitlines())


def launcher_of(engine: ck.Engine) -> Any:
    """The launcher of this process."""
    runner: Any = engine._runner
    return runner.launcher()[0]


def counts(engine: ck.Engine) -> tuple[int, int]:
    """Count the launcher's descriptors, and the control groups below its own.

    Without the network namespaces that it keeps ready, which come and go by themselves.
    """
    launcher = launcher_of(engine)
    groups = sum(
        1 for path in launcher.group.paths for _, folders, _ in os.walk(path) for _ in folders
    )
    return sum(not lead.startswith("net:") for lead in descriptors_of(launcher.pid)), groups
