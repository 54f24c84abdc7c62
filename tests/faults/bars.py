"""What reliability means in figures, at size: each is measured, printed, and held to its bar.

    python -m tests.faults.bars [NAME …]     (make bars)

The tests of limits, life and embedding do the same in small, without looking at the clock.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import containerkit as ck
from tests import conftest
from tests.support import leaks, ocibuild
from tests.support.bomb import BOMB
from tests.support.idle import launcher_of, processor_time
from tests.support.races import Calls, Mounts, Place, Swapper, trusting
from tests.support.registry import RegistryServer

MIB = 1 << 20
SETTLES = 10.0
"""Seconds that the launcher has to make ready again what the last run used up."""


class Figure(NamedTuple):
    """One bar: whether it holds, and what was measured."""

    holds: bool
    said: str


# ---- runs, one after the other


class Counts(NamedTuple):
    """What there is of us on this machine, but for the places that are kept for the next starts.

    A launcher keeps a few places of ended containers, each a group in every hierarchy and the lock of
    a directory; how many are left in the end is a matter of timing.
    """

    descriptors: int
    launchers_descriptors: int
    mounts: int
    launchers_mounts: int
    cgroups: int
    netns: int

    def __str__(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in self._asdict().items())


MOST_PLACES = 5
"""Four that are kept (CK_KEPT), and that of the parked child."""


def count(engine: ck.Engine) -> Counts:
    launcher, _ = engine._runner.launcher()
    table = leaks.process_table()
    ours = [launcher.pid, *(one.pid for one in table.values() if one.parent == launcher.pid)]
    held = list(leads(launcher.pid))
    spaces = {lead for lead in held if lead.startswith("net:")}
    for pid in ours:
        with contextlib.suppress(OSError):
            spaces.add(os.readlink(f"/proc/{pid}/ns/net"))
    groups = [len(found) for path in launcher.group.paths for _, found, _ in os.walk(path)]
    places = min(max(groups), MOST_PLACES)
    return Counts(
        len(os.listdir("/proc/self/fd")),
        len(held) - places,
        mounts("self"),
        mounts(str(launcher.pid)),
        sum(max(0, here - places) for here in groups),
        len(spaces),
    )


def leads(pid: int) -> list[str]:
    """Return where the descriptors of a process lead to."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(path))
    return found


def mounts(pid: str) -> int:
    return Path(f"/proc/{pid}/mountinfo").read_text(errors="replace").count("\n")


def runs(engine: ck.Engine, image: str, times: int = 1000) -> Figure:
    """1,000 runs, one after the other: descriptors, mounts, groups, network namespaces as before."""
    for _ in range(10):
        assert engine.run(image, ["true"]).exit.ok
    time.sleep(1)
    before = count(engine)
    begun = time.monotonic()
    for number in range(times):
        assert engine.run(image, ["echo", str(number)]).stdout == b"%d\n" % number
    spent = time.monotonic() - begun
    deadline = time.monotonic() + SETTLES
    while (after := count(engine)) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    holds = after == before
    told = f"unchanged: {before}" if holds else f"before: {before}; after: {after}"
    return Figure(holds, f"{times} sequential runs in {spent:.1f} s; {told}")


# ---- limits


def ooms(engine: ck.Engine, image: str, times: int = 100) -> Figure:
    """100 containers that eat their memory: each is told to have died of that."""
    limits = ck.Limits(memory="16m")
    ends = [engine.run(image, ["tail", "/dev/zero"], limits=limits).exit for _ in range(times)]
    told = sum(end == ck.Exit.by_signal(9, cause="oom") for end in ends)
    return Figure(told == times, f"{times} OOM kills: {told} told as oom")


RESPONSIVE = 1.0
"""Seconds that a process of the host, or a container beside it, may take while a bomb goes off."""


def bomb(engine: ck.Engine, image: str) -> Figure:
    """A fork bomb of 128 processes: the host answers, and one kill ends it."""
    with engine.start(None, ["python3", "-c", BOMB], limits=ck.Limits(pids=128)) as container:
        most, deadline = 0, time.monotonic() + 60
        while most < 128 and time.monotonic() < deadline:
            found = container.stats().pids
            assert found is not None
            most = max(most, found.current)
        beside = [timed(lambda: subprocess.run(["/bin/true"], check=True)) for _ in range(50)]
        others = [timed(lambda: engine.run(image, ["true"]).check()) for _ in range(10)]
        container.kill()
        ended = timed(lambda: container.wait(timeout=60))
        signal = container.wait().signal
    slowest = max(*beside, *others)
    return Figure(
        most == 128 and signal == 9 and slowest < RESPONSIVE,
        f"fork bomb under pids=128: {most} processes, ended {ended * 1e3:.0f} ms after the kill;"
        f" meanwhile /bin/true took at most {max(beside) * 1e3:.0f} ms, a run {max(others) * 1e3:.0f} ms",
    )


def timed(act: Callable[[], object]) -> float:
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


# ---- floods


def status(pid: int, field: str) -> int:
    """Return a number of /proc/PID/status; sizes are in KiB there."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.partition(f"\n{field}:")[2].split()[0])


def flood(engine: ck.Engine, image: str, seconds: int = 10) -> Figure:
    """`yes` for 10 s: our memory, the launcher's included, and the log keep to their bounds."""
    assert engine.run(image, ["true"]).exit.ok
    ours = status(os.getpid(), "VmRSS")
    log = ck.Log(max_size="1MiB", max_files=3)
    with engine.start(image, ["sh", "-c", f"timeout {seconds} yes; true"], log=log) as container:
        launcher = engine._runner.launcher()[0].pid
        before = status(launcher, "VmRSS")
        container.wait(timeout=120)
        grown = status(launcher, "VmHWM") - before + status(os.getpid(), "VmRSS") - ours
        files = list((engine.root / "containers" / container.id).glob("log*"))
        size = sum(path.stat().st_size for path in files)
    return Figure(
        grown << 10 < 16 * MIB and size <= log.max_size * log.max_files,
        f"yes for {seconds} s: memory grew by {grown / 1024:.1f} MiB; its log holds {size / MIB:.1f} MiB"
        f" of at most {log.max_size * log.max_files / MIB:.0f}",
    )


ORPHANS = """
i=0; while [ $i -lt {n} ]; do (sh -c 'true &' &); i=$((i+1)); done
n=1; while [ $n -gt 0 ] && [ $((i-=1)) -gt 0 ]; do
    n=$(cat /proc/[0-9]*/status 2>/dev/null | grep -c '^State:.Z'); done
echo $n
"""


def orphans(engine: ck.Engine, image: str, times: int = 10_000) -> Figure:
    """10,000 orphaned grandchildren: our init leaves no zombie."""
    script = ORPHANS.format(n=times)
    result = engine.run(image, ["sh", "-c", script], init=True, text=True, timeout=550)
    zombies = int(result.stdout)
    return Figure(zombies == 0, f"{times} orphaned grandchildren: {zombies} zombies")


# ---- execs

FORKS = "sleep 1000 & sleep 1000 & :"


def forks(engine: ck.Engine, image: str) -> Figure:
    """Execs that leave two processes each, whose container waits for nobody: none fails."""
    kinds: dict[str, tuple[int, ck.Security]] = {
        "strict": (500, ck.Security.strict()),
        "default": (5000, ck.Security.default()),
    }
    said, holds = [], True
    for kind, (times, security) in kinds.items():
        with engine.start(image, ["sleep", "1000000"], security=security) as box:
            failed = sum(not box.exec(FORKS).exit.ok for _ in range(times))
            left = len(box.top())
        said.append(f"{kind}: {failed} of {times} failed, {left} processes are there")
        holds = holds and failed == 0
    return Figure(holds, f"execs that fork; {'; '.join(said)}")


HELD = 3.0
"""Seconds that an exec with a timeout of 2 s may take where a process inside traces it."""
RESTING = 0.02
"""The part of a processor that the launcher may use meanwhile."""


def tracer(engine: ck.Engine, image: str) -> Figure:
    """A process inside that traces all execs and waits for none: the timeout holds, nothing spins."""
    base = conftest.make_root()
    try:
        source = Path(conftest.__file__).with_name("security") / "attacks" / "hold.c"
        hold = base / "hold"
        command = ["cc", "-D_GNU_SOURCE", "-static", "-Os", "-o", str(hold), str(source)]
        subprocess.run(command, check=True)
        with engine.start(image, ["sleep", "1000000"]) as box:
            box.files.put(hold, "/hold")
            with box.popen(["/hold"], text=True) as holder:
                assert holder.stdin is not None
                assert holder.stdout is not None
                holder.stdout.readline()
                before = processor_time(launcher_of(box))
                spent = timed(lambda: _times_out(box))
                used = (processor_time(launcher_of(box)) - before) / spent
                holder.stdin.close()
                held = int(holder.stdout.readline())
    finally:
        conftest.remove_root(base)
    return Figure(
        spent <= HELD and used <= RESTING and held > 0,
        f"a tracer inside: exec(timeout=2) ended in {spent:.2f} s, the launcher used {used:.1%}",
    )


def _times_out(box: ck.Container) -> None:
    with contextlib.suppress(ck.errors.Timeout):
        box.exec(["sleep", "100000"], timeout=2)


# ---- the end of the program

RUNNING = """
import sys, containerkit as ck
engine = ck.Engine.open(sys.argv[1])
kept = [engine.start(sys.argv[2], ["sh", "-c", "sleep 1000 & sleep 1000"]) for _ in range(20)]
print("begins to end", flush=True)
"""


def ends(engine: ck.Engine, image: str, times: int = 10) -> Figure:
    """An interpreter that exits with 20 containers running is gone within a second."""
    spent = []
    for _ in range(times):
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", RUNNING]
        with subprocess.Popen(
            [*command, str(engine.root), image],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as program:
            assert program.stdout is not None
            program.stdout.readline()
            spent.append(timed(program.communicate))
            assert program.returncode == 0
    return Figure(
        max(spent) < 1,
        f"interpreter exit with 20 running containers: {sorted(spent)[times // 2] * 1e3:.0f} ms,"
        f" at most {max(spent) * 1e3:.0f} ms of {times}",
    )


def races(engine: ck.Engine, image: str, times: int = 1000) -> Figure:
    """A directory swapped for links, 1,000 starts that mount on it and 1,000 rounds of file calls."""
    base = conftest.make_root()
    try:
        swap = Path(conftest.__file__).with_name("security") / "attacks" / "swap.c"
        (base / "attacks").mkdir()
        subprocess.run(
            ["cc", "-D_GNU_SOURCE", "-static", "-Os", "-o", base / "attacks/swap", swap], check=True
        )
        said, holds = [], True
        both: tuple[Swapper, Swapper] = ("sibling", "host")
        for who in both:
            (base / who).mkdir()
            place = Place(base / who)
            mounts = Mounts(engine, image, place)  # before: it opens what is swapped
            with place.swapped(who, engine, image, base / "attacks"):
                found = _race(engine, image, place, mounts, times)
            trusted = _trusted(engine, image, base, who, times)
            said.append(f"{who}: {found.said}; the control escaped {trusted} times")
            holds = holds and found.holds and trusted > 0
        return Figure(holds, f"{times} rounds each, swapped by a {'; by the '.join(said)}")
    finally:
        conftest.remove_root(base)


def _race(engine: ck.Engine, image: str, place: Place, mounts: Mounts, times: int) -> Figure:
    for number in range(times):
        mounts.run(number)
    mounts.close()
    volume = [ck.Mount.bind(place.volume, "/vol")]
    with engine.start(image, ["sleep", "100000"], mounts=volume) as box:
        box.files.mkdir(str(place.canary), parents=True)
        calls = Calls(box.files, place.scratch, "/vol/x")
        for number in range(times):
            calls.run(number)
        out = len(mounts.escapes) + place.escaped()
    return Figure(
        out == 0,
        f"{out} escapes ({mounts.started} starts, {mounts.refused} refused; {calls.done} calls done,"
        f" {calls.refused} refused)",
    )


def _trusted(engine: ck.Engine, image: str, base: Path, who: Swapper, times: int) -> int:
    """Return how often whoever trusts the path was led out, where that harms nothing."""
    top = base / f"{who}-control"
    top.mkdir()
    place = Place(top, control=True)
    with place.swapped(who, engine, image, base / "attacks"):
        return sum(trusting(place.volume / "x", place.canary, n) for n in range(times))


BARS: Final = {
    bar.__name__: bar for bar in (runs, ooms, bomb, flood, orphans, forks, tracer, ends, races)
}


def main(names: list[str]) -> int:
    """Measure some or all bars; return how many do not hold."""
    base = conftest.make_root()
    failed = 0
    try:
        with RegistryServer() as registry, ck.Engine.open(base / "root") as engine:
            image = registry.push("bars/busybox:latest", ocibuild.busybox())
            engine.images.pull(image)
            for name in names or BARS:
                figure = BARS[name](engine, image)
                print(f"{'holds' if figure.holds else 'FAILS'}  {figure.said}", flush=True)
                failed += not figure.holds
    finally:
        conftest.remove_root(base)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
