"""Section parallel: starts per second, 16 at a time, from one Python process."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks import bundle, host, peers
from benchmarks.keeper import Keeper
from benchmarks.options import Options
from benchmarks.results import Bar, Chart, Line, Section, Series
from benchmarks.runners import Command

_OURS = "containerkit"
_WIDTH = 16
_BARS = {"bwrap": 1.5, "runc": 8.0, "docker": 40.0}
_STARTS = {"bwrap": 320, "runc": 96, "docker": 32}
_OUR_STARTS = 640

_METHOD = [
    (
        "create + start + wait + remove of `/bin/true`, 16 at a time in 16 threads of one Python "
        "process: `engine.run` for containerkit, `posix_spawn` + `waitpid` of the command for the "
        "peers, in turn. runc's sixteen take turns on sixteen bundles whose overlays are mounted "
        "outside of the measured time."
    )
]


def _rate(start: Callable[[], object], count: int) -> float:
    """Return starts per second."""
    with ThreadPoolExecutor(_WIDTH) as pool:
        list(pool.map(lambda _: None, range(_WIDTH)))
        begin = time.perf_counter()
        list(pool.map(lambda _: start(), range(count)))
        return count / (time.perf_counter() - begin)


def _starts(found: peers.Peers) -> dict[str, Callable[[], object]]:
    starts: dict[str, Callable[[], object]] = {}
    bwrap = host.tool("bwrap")
    if bwrap:
        view = ["--ro-bind", str(found.rootfs), "/", "--proc", "/proc", "--dev", "/dev"]
        command = Command("bwrap", [bwrap, "--unshare-all", *view, "/bin/true"])
        starts["bwrap"] = lambda: command.block(1)
    runc = host.tool("runc")
    if found.dockerd is None:
        return starts
    if runc:
        names = [f"runc-{number}" for number in range(_WIDTH)]
        idle: queue.SimpleQueue[Command] = queue.SimpleQueue()
        for path in found.bundles(names, ["/bin/true"]):
            argv = [runc, "--root=/run/bench-runc-parallel", "run", f"--bundle={path}", "{id}"]
            idle.put(Command("runc", argv))

        def start_one() -> None:
            mine = idle.get()
            try:
                mine.block(1)
            finally:
                idle.put(mine)

        starts["runc"] = start_one
    limits = f"--pids-limit={bundle.PIDS_LIMIT}"
    argv = [found.dockerd.client, "run", "--rm", "--network=none", limits, found.reference]
    docker = Command("docker", [*argv, "/bin/true"], found.dockerd.environment)
    starts["docker"] = lambda: docker.block(1)
    return starts


def run(options: Options) -> Section:
    """Measure the section."""
    section = Section("parallel", "Starting many at a time", list(_METHOD))
    rounds = options.rounds or (1 if options.quick else 7)
    share = 8 if options.quick else 1
    with peers.prepared() as found, Keeper(found.disk / "engine", found.reference) as keeper:
        starts = _starts(found)
        rates: dict[str, list[float]] = {_OURS: [], **{name: [] for name in starts}}
        keeper.ask("parallel", _WIDTH, _WIDTH)
        for at in range(rounds):
            options.say(f"parallel: round {at + 1} of {rounds}")
            rates[_OURS].append(keeper.ask("parallel", _OUR_STARTS // share, _WIDTH))
            for name, start in starts.items():
                rates[name].append(_rate(start, _STARTS[name] // share))
    series = {name: Series(name, tuple(found), "/s") for name, found in rates.items()}
    section.lines.append(Line(f"16 at a time: {_OURS}", series[_OURS]))
    # Ratios the other way round: how many times as many we start.
    for name in starts:
        ours = Series(f"{_OURS} over {name}", series[_OURS].samples, "/s")
        section.lines.append(Line(f"16 at a time: {name}", series[name]))
        bar = Bar("at least", _BARS[name])
        section.lines.append(Line(f"{_OURS} over {name}", ours, series[name], bar))
    section.charts.append(
        Chart(
            "parallel",
            "Starts per second, 16 at a time",
            tuple(series.values()),
            frozenset({_OURS}),
            ratios=False,
        )
    )
    return section
