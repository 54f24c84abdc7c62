"""One process's texts in /proc, as a kernel writes them, and the container's own passwd."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime

from containerkit.model.stats import Task
from containerkit.runtime import top

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

STATUS = b"""\
Name:\tweird) (x
Umask:\t0022
State:\tS (sleeping)
Tgid:\t23150
NSpid:\t23150\t17\t1
PPid:\t23149
Uid:\t0\t1000\t0\t0
Gid:\t0\t0\t0\t0
"""
STAT = (
    b"23150 (weird) (x) S 23149 23150 23150 0 -1 4194560 100 0 0 0 "
    + b"%d %d 0 0 20 0 4 0 %d 4538368 300 18446744073709551615 1 1 0" % (TICKS, TICKS, 5 * TICKS)
)


def test_a_process_with_an_awkward_name() -> None:
    task = top.parse_task(STATUS, STAT, b"a prog\0-x\0\0", depth=3, names={1000: "ann"}, boot=100.0)
    assert task == Task(
        pid=1, host_pid=23150, parent=23149, user="ann", uid=1000, cpu=2.0, rss=300 * PAGE,
        state="S", threads=4, started=datetime.fromtimestamp(105, UTC), command=("a prog", "-x"),
    )  # fmt: skip


def test_without_a_command_line_and_a_name() -> None:
    task = top.parse_task(STATUS, STAT, b"", depth=2, names={})
    assert (task.pid, task.user, task.command) == (17, "1000", ("[weird) (x]",))


def test_the_first_name_of_an_id_counts_and_bad_lines_do_not() -> None:
    text = b"root:x:0:0::/:/bin/sh\ntoor:x:0:0\n\n:x:5:5\nbad:x:y\nann:x:7\nhuge:x:99999999999:0\n"
    assert top.parse_passwd(text) == {0: "root", 7: "ann"}


def test_this_process_is_among_those_of_its_namespace() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = {task.host_pid: task for task in top.read_tasks(os.getpid())}
        child.communicate(b"\n")
    me = found[os.getpid()]
    assert me.uid == os.geteuid()
    assert me.rss > 1 << 20
    assert abs(me.started.timestamp() - datetime.now(UTC).timestamp()) < 3600
    assert found[child.pid].parent == me.pid
