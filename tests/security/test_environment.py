"""Nothing of the process that embeds the engine comes into a container.

The same program says all that it has of whoever started it, in containers of two processes: an ordinary
one, and one with secrets in its environment and arguments, odd signals, priorities, directories and a
terminal.  Both containers must be told the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import containerkit as ck

SECRET = "hunter2-hunter2"

ODD = """
import contextlib, ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
os.umask(0o077 if os.geteuid() else 0o777)
os.chdir(sys.argv[-1])
for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGHUP, 40})
if os.geteuid() == 0:
    os.setpriority(os.PRIO_PROCESS, 0, -5)
    os.setgroups([4242])
with contextlib.suppress(PermissionError):  # not in every control group
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
libc.personality(0x0040000)  # ADDR_NO_RANDOMIZE
libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
libc.prctl(29, 123456, 0, 0, 0)  # PR_SET_TIMERSLACK
libc.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE
libc.prctl(67, 1, 0, 0, 0)  # PR_SET_MEMORY_MERGE
libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
fd = os.open(sys.argv[-1], os.O_RDONLY)
for number in (fd, 20, 300):
    os.dup2(fd, number, inheritable=True)
"""

ORDINARY = """
import os
if os.geteuid() == 0:  # a patient process's container would be patient, too
    os.setpriority(os.PRIO_PROCESS, 0, 0)
"""

ASK = """
import json
import containerkit as ck
from tests.support.patience import until
security = getattr(ck.Security, sys.argv[3])()
with ck.Engine.open(sys.argv[1]) as engine:
    found = {"run": engine.run(sys.argv[2], ["/attacks/around"], text=True, security=security,
                               hostname="box", limits=ck.UNLIMITED).stdout}
    check = ck.Healthcheck("/attacks/around >/dev/shm/said", interval=0.1)
    with engine.start(sys.argv[2], "/attacks/around; sleep 100000", security=security,
                      healthcheck=check, init=True, hostname="box",
                      limits=ck.UNLIMITED) as box:
        box.wait_ready(log="descriptor: 2")
        found["start"] = box.log_text()
        found["exec"] = box.exec(["/attacks/around"], text=True).stdout
        found["terminal"] = box.exec(["/attacks/around"], text=True, tty=True).stdout
        until(lambda: box.health == "healthy")
        found["probe"] = box.exec(["cat", "/dev/shm/said"], text=True, check=True).stdout
        found["around"] = box.exec(["sh", "-c", "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline"
                                    " /proc/mounts /proc/self/mountinfo"], text=True).stdout
print(json.dumps(found))
"""


def asked(odd: bool, root: Path, image: str, preset: str, place: Path) -> dict[str, str]:
    """Return what is said in containers of a process of its own; in odd surroundings or in ordinary ones."""
    program = "import sys\n" + (ODD if odd else ORDINARY) + ASK
    words = [sys.executable, "-c", program, str(root), image, preset, SECRET if odd else "-"]
    words.append(str(place))
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    if odd:
        environment |= {"PASSWORD": SECRET, "LD_PRELOAD_": SECRET, "HOME": f"/{SECRET}"}
    done = subprocess.run(
        words, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=300
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_it_is_the_same_for_whoever_starts_it(
    engine: ck.Engine, hostile: str, security: ck.Security, tmp_path: Path
) -> None:
    ordinary = asked(False, engine.root, hostile, security.preset, tmp_path)
    odd = asked(True, engine.root, hostile, security.preset, tmp_path)
    for name in ("run", "start", "exec", "terminal", "probe"):
        assert odd[name] == ordinary[name], name
        assert "descriptor: 2" in odd[name]
    for said in odd.values():
        assert SECRET not in str(said)
        assert tmp_path.name not in str(said)
        assert sys.executable not in str(said)


def test_it_would_be_seen(attacks: Path, tmp_path: Path) -> None:
    """The control: the same program as an ordinary child of such a process."""
    program = f"import sys\n{ODD}\nos.execve(sys.argv[1], [sys.argv[1]], os.environ)"
    words = [sys.executable, "-c", program, str(attacks / "around"), str(tmp_path)]
    environment = {"PASSWORD": SECRET}
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    lines = done.stdout.splitlines()
    expected = {
        f"environment: PASSWORD={SECRET}",
        f"directory: {tmp_path}",
        "personality: 40000",
        "subreaper: 1",
        "no huge pages: 1",
        "descriptor: 300",
    }
    if os.geteuid() == 0:
        expected |= {"Groups:\t4242 ", "niceness: -5"}
    assert expected <= set(lines)
    assert "timer slack: 50000" not in lines  # 0 with a real-time policy
    assert {"SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"}.isdisjoint(lines)
