"""Where a running container is in control groups, whatever version the host has."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import containerkit as ck
from containerkit.runtime import cgroups
from tests.support.patience import until

MORE = int(os.environ.get("CONTAINERKIT_TEST_MORE", "1"))
"""Multiplies how often a test repeats what it does."""

VERSION = cgroups.find().version


def groups(container: ck.Container) -> Mapping[str, Path]:
    """Return controller → the directory of a running container's group."""
    found = cgroups.parse(
        Path(f"/proc/{container.pid}/cgroup").read_text(encoding="utf-8"),
        Path("/proc/self/mountinfo").read_text(encoding="utf-8"),
    )
    return found.directories


def value(container: ck.Container, file: str) -> str:
    """Return what one file of its group holds, such as "pids.max"."""
    found = groups(container)
    directory = found.get("unified") or found[file.partition(".")[0]]
    return (directory / file).read_text(encoding="ascii").strip()


def has(controller: str) -> bool:
    """Whether this process can have its containers limited by a controller."""
    found = cgroups.find()
    if "unified" in found.directories:
        top = found.tops["unified"] / "cgroup.controllers"
        return controller in top.read_text(encoding="ascii").split()
    return controller in found.directories


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait for what the kernel or the launcher does in the background."""
    until(holds, what)


def whole_disk() -> str:
    """Return the numbers of any block device of this machine."""
    for device in sorted(
        os.listdir("/sys/block"), key=lambda name: name.startswith(("loop", "ram"))
    ):
        return Path(f"/sys/block/{device}/dev").read_text(encoding="ascii").strip()
    raise AssertionError("this machine has no block device")
