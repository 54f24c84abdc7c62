"""Floods: of output, which costs neither memory nor disk; of orphans, of which none stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.model.log import Log
from tests.integration.limits.support import MORE, eventually

MIB = 1 << 20


def status(pid: int, field: str) -> int:
    """Return a number of /proc/PID/status; sizes are in KiB there."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.partition(f"\n{field}:")[2].split()[0])


@pytest.mark.slow
@pytest.mark.parametrize("log", [Log(max_size="256KiB", max_files=3), Log.none()])
def test_of_output(engine: ck.Engine, shared_root: Path, busybox: str, log: Log) -> None:
    """Hundreds of megabytes of `yes`, of which the log keeps the last files."""
    assert engine.run(busybox, ["true"]).exit.ok  # what every first run needs is there
    ours = status(os.getpid(), "VmRSS")
    with engine.start(busybox, ["sh", "-c", "yes | head -c 300000000"], log=log) as container:
        assert container.pid is not None
        launcher = status(container.pid, "PPid")
        before = status(launcher, "VmRSS")
        container.wait(timeout=250)
        grown = status(launcher, "VmHWM") - before + status(os.getpid(), "VmRSS") - ours
        assert grown << 10 < 16 * MIB
        directory = shared_root / "containers" / container.id
        files = {path.name: path.stat().st_size for path in directory.glob("log*")}
        if log.max_size == 0:
            assert sum(files.values()) == 0
        else:
            assert len(files) == log.max_files
            assert max(files.values()) <= log.max_size
            assert container.log_text(tail=3).startswith("y\ny\n")


ORPHANS = "i=0; while [ $i -lt {n} ]; do (true &); i=$((i+1)); done"


@pytest.mark.slow
def test_of_orphans_below_our_init(engine: ck.Engine, busybox: str) -> None:
    """It reaps them as they end: inside, soon none is left."""
    count = 'until ! grep -q "^State:.Z" /proc/[0-9]*/status 2>/dev/null; do :; done; echo none'
    script = f"{ORPHANS.format(n=200 * MORE)}; {count}"
    result = engine.run(busybox, ["sh", "-c", script], init=True, text=True, timeout=250)
    assert result.stdout == "none\n"


@pytest.mark.slow
@pytest.mark.needs("control groups")
def test_of_orphans_that_nobody_reaps(engine: ck.Engine, busybox: str) -> None:
    """Its first process lets them lie; they go with it."""
    n = 200 * MORE
    script = f"({ORPHANS.format(n=n)}) & exec sleep 1000"
    limits = ck.Limits(pids=n + 100)
    with engine.start(busybox, ["sh", "-c", script], limits=limits) as container:
        first = container.pid
        assert first is not None
        launcher = status(first, "PPid")
        # The loop that made them, and each of its children, ends as an orphan or beneath it.
        eventually(lambda: zombies_of(first) > n, "the orphans did not end")
        container.kill()
        container.wait(timeout=250)
        eventually(lambda: zombies_of(first) + zombies_of(launcher) == 0, "zombies are left")


def zombies_of(parent: int) -> int:
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_text(errors="replace").rsplit(")", 1)[1]
            except OSError:
                continue
            state, above = fields.split()[:2]
            count += state == "Z" and int(above) == parent
    return count
