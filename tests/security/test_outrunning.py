"""What an exec has left does not outrun its end: a process that is another one each millisecond, its own
child, has ended by itself whenever somebody comes to kill it.  So its group is frozen first.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import containerkit as ck
from containerkit.runtime.launcher import Launcher
from tests.integration.exec.look import launcher_of
from tests.support.launchers import Change, build, used
from tests.support.patience import until

LATE: tuple[Change, ...] = (
    (
        "ck_launcher_exec.c",
        "    kill_members(&some);\n    ck_pool_freeze",
        "    ck_wait_for(-1, 0, 50);\n    kill_members(&some);\n    ck_pool_freeze",
    ),
)
"""The launcher is held up for 50 ms between its list of them and the killing."""
RUNNING: Change = ("ck_launcher_exec.c", 'path, ""), true);', 'path, ""), false);')
"""They run on meanwhile."""

RUNNER = "run() { run & exit; }; run"
LOOKS = 20


def who(launcher: Launcher) -> set[str]:
    """Return the processes in the groups of execs."""
    return {
        line
        for path in launcher.group.paths
        for file in path.glob("*/x*/cgroup.procs")
        for line in file.read_text("ascii").split()
    }


def look(launcher: Launcher, seen: set[str]) -> set[str]:
    """Return who is there now, and add them to those seen."""
    now = who(launcher)
    seen |= now
    return now


def is_outrun(program: Path, root: Path, busybox: str) -> bool:
    """Whether some of an exec is there long after the exec was killed."""
    with (
        used(program),
        ck.Engine.open(root) as engine,
        engine.start(busybox, ["sleep", "100000"], init=True) as box,
    ):
        launcher = launcher_of(engine)
        with box.popen(["sh", "-c", f"({RUNNER}) & sleep 100000"]) as process:
            seen: set[str] = set()
            until(lambda: bool(look(launcher, seen)) and len(seen) > LOOKS)
            process.kill()
            process.wait(timeout=60)
        left: set[str] = set()
        until(lambda: not look(launcher, left) or len(left) > LOOKS)
        return bool(who(launcher))


@pytest.mark.needs("control groups")
def test_what_runs_from_process_to_process(tmp_path: Path, engine_root: Path, busybox: str) -> None:
    assert not is_outrun(build(tmp_path / "late", LATE), engine_root, busybox)
    assert is_outrun(build(tmp_path / "running", (*LATE, RUNNING)), engine_root, busybox)
