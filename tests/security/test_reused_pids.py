"""A number that was found in a list and has become another process's since: that one is not killed."""

from __future__ import annotations

from pathlib import Path

import pytest

import containerkit as ck
from tests.support.launchers import Change, build, used

STALE: tuple[Change, ...] = (
    (
        "ck_launcher_exec.c",
        "ck_each_listed(list, hold_member, &some);",
        "ck_each_listed(list, hold_member, &some); hold_member((pid_t)e->within->state.pid, &some);",
    ),
)
"""The list of an exec's group names the container's first process too, which is not in it."""
ONCE: Change = ("ck_launcher_exec.c", "if (some->pid[i] == pid && ", "if (")
"""Whether it is in the group is not looked at again."""


def survives(program: Path, root: Path, busybox: str) -> bool:
    """Whether a container outlives an exec that has left a process behind."""
    with (
        used(program),
        ck.Engine.open(root) as engine,
        engine.start(busybox, ["sleep", "100000"]) as container,
    ):
        try:
            container.exec("sleep 100000 >/dev/null 2>&1 & echo done")
            return container.exec(["true"]).exit.ok
        except ck.InvalidStatus:
            return False


@pytest.mark.needs("control groups")
def test_the_list_of_a_group(tmp_path: Path, engine_root: Path, busybox: str) -> None:
    assert survives(build(tmp_path / "stale", STALE), engine_root, busybox)
    assert not survives(build(tmp_path / "once", (*STALE, ONCE)), engine_root, busybox)
