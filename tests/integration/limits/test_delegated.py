"""An ordinary user to whom control groups are delegated: limits, and strict in full.

As systemd does it (``Delegate=yes``): the user owns a group, and its program is in one below.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerkit.runtime import cgroups
from tests.rootless import user

pytestmark = pytest.mark.needs("control groups")

NAME = "delegated-to-a-user"

PROGRAM = """
import json, os, sys
from pathlib import Path
import containerkit as ck
with ck.Engine.open(sys.argv[2]) as engine:
    strict = {"security": ck.Security.strict()}
    with engine.start(sys.argv[1], ["sleep", "100000"], **strict) as one:
        stats = one.stats()
        found = {"memory": stats.memory.limit, "pids": stats.pids.limit}
        found["user"] = one.exec("id -u", text=True, check=True).stdout.strip()
        one.pause()
        found["paused"] = one.status
        one.unpause()
        one.update(limits=ck.Limits(pids=64))
        found["updated"] = one.stats().pids.limit
    hog = ["sh", "-c", "head -c 64m /dev/zero | tail"]
    run = engine.run(sys.argv[1], hog, limits=ck.Limits(memory="24m"), **strict)
    found["cause"] = run.exit.cause
    show = ["sh", "-c", "sed 's/.*://' /proc/self/cgroup | sort -u; ls /sys/fs/cgroup | wc -l"]
    run = engine.run(sys.argv[1], show, security=ck.Security.privileged(), text=True)
    top, groups = run.stdout.split()
    found["privileged"] = [top, int(groups) > 0]
print(json.dumps(found))
"""


def give(group: Path) -> None:
    """Let the user make groups in one, and move what is in it."""
    group.mkdir()
    for path in (group, *(group / name for name in ("cgroup.procs", "tasks", "cgroup.threads"))):
        if path.exists():
            os.chown(path, user.UID, user.UID)
    control = group / "cgroup.subtree_control"
    if control.exists():
        os.chown(control, user.UID, user.UID)


@pytest.fixture
def groups() -> Iterator[list[Path]]:
    """Files to write a process to, so that it is in groups that are the user's."""
    if os.geteuid():
        pytest.skip("needs root, to delegate them")
    found = cgroups.find()
    tops = [
        (directory.parent if name == "unified" else directory) / NAME
        for name, directory in found.directories.items()
        if name
    ]
    made: list[Path] = []
    try:
        for top in dict.fromkeys(tops):
            for group in (top, top / "program"):
                give(group)
                made.append(group)
            if (top / "cpuset.cpus").exists() and found.version != "v2":
                for group in (top, top / "program"):
                    for file in ("cpuset.cpus", "cpuset.mems"):
                        (group / file).write_text((group.parent / file).read_text())
        yield [group / "cgroup.procs" for group in made[1::2]]
    finally:
        for group in reversed(made):
            cgroups.remove_tree(group)


def test_strict_holds_all_that_it_promises(
    engine_root: Path, busybox: str, groups: list[Path]
) -> None:
    engine_root.parent.chmod(0o755)
    engine_root.mkdir(mode=0o700)
    os.chown(engine_root, user.UID, user.UID)
    enter = "".join(f"echo $$ >{path} && " for path in groups)
    words = [sys.executable, "-m", "tests.rootless.user", "--ids", sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        ["sh", "-c", f'{enter} exec "$@"', "sh", *words, busybox, str(engine_root)],
        capture_output=True,
        text=True,
        check=False,
        cwd=user.REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "memory": 512 << 20,
        "pids": 128,
        "user": "65534",
        "paused": "paused",
        "updated": 64,
        "cause": "oom",
        "privileged": ["/", True],
    }
    with contextlib.suppress(OSError):  # its home, unless it is somebody's else too
        Path(os.environ.get("CONTAINERKIT_TEST_DIR", "/var/tmp"), "ck-user-ids").rmdir()
