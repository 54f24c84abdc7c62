"""An entry of the launcher's table that is used again: what was to be told of the one before is not
taken for the next one's.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import containerkit as ck
from containerkit.launch.execute import ExecRequest
from containerkit.runtime import home, packets
from containerkit.runtime.channel import Channel
from containerkit.runtime.execute import planned
from tests.integration.exec.look import launcher_of
from tests.integration.life.support import end_of
from tests.support import patience


def parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])


def listed(group: Path) -> str:
    """Return who is in the control groups of execs: while somebody is, their entries are kept."""
    return "".join(file.read_text("ascii") for file in group.glob("*/x*/cgroup.procs"))


def test_the_end_of_an_adopter(engine: ck.Engine, box: ck.Container) -> None:
    """An exec's process ends, the next exec is asked for, the adopter ends; all seen at one look."""
    box.exec("sleep 1000 & :")  # from now on there are adopters
    launcher = launcher_of(engine)
    plan = planned(box._target(), ExecRequest(("sh", "-c", "exit 7"), streams=()))
    asked = home.connect(engine.root, launcher.id)
    with box.popen(["sleep", "1000"]) as process:  # by now the connection is taken
        adopter = parent_of(process.pid)
        pidfds = [os.pidfd_open(pid) for pid in (adopter, process.pid)]
        os.kill(launcher.pid, signal.SIGSTOP)
        try:
            patience.stopped(launcher.pid)
            signal.pidfd_send_signal(pidfds[0], signal.SIGSTOP)
            patience.stopped(adopter)
            signal.pidfd_send_signal(pidfds[1], signal.SIGKILL)
            assert patience.ends(pidfds[1])
            asked.send(packets.request(packets.EXEC, box.id, body=plan.encode()))
            signal.pidfd_send_signal(pidfds[0], signal.SIGCONT)
            assert patience.ends(pidfds[0])
            patience.until(lambda: not any(map(listed, launcher.group.paths)))
        finally:
            os.kill(launcher.pid, signal.SIGCONT)
            for pidfd in pidfds:
                os.close(pidfd)
        channel = Channel(asked)
        try:
            event = end_of(channel)
        finally:
            channel.close()
        assert (event.kind, event.exit_code) == (packets.EXITED, 7)
