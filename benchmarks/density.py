"""Section density: a thousand idle detached containers, and questions asked of them."""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path

from benchmarks import bundle, host, peers, start
from benchmarks.keeper import Keeper
from benchmarks.kept_worker import pss
from benchmarks.options import Options
from benchmarks.results import Bar, Chart, Line, Section, Series

_OURS = "containerkit"
_IDLE = ["/bin/sleep", "100000"]
_BEFORE = 20

_METHOD = [
    (
        "Detached containers that sleep, started one after the other from one process. Memory is what "
        "each engine keeps for a container beside the container itself: the proportional set size "
        "(PSS) of its supervisor, the mean over all: containerkit's launcher, Docker's "
        "containerd-shim, podman's conmon, each with as many alive as the table says. Starts of "
        "`docker run --detach` and `engine.start(lifetime='detached')` are measured from the call to "
        "its return. The last lines are questions asked while all are alive."
    )
]


def _docker(found: peers.Peers, count: int) -> tuple[list[float], list[float]]:
    """Return start times, and the PSS of each shim in KiB."""
    times = []
    ids = []
    for _ in range(count):
        begin = time.perf_counter()
        limits = f"--pids-limit={bundle.PIDS_LIMIT}"
        ids.append(
            found.docker("run", "--detach", "--network=none", limits, found.reference, *_IDLE)
        )
        times.append((time.perf_counter() - begin) * 1e3)
    sizes = _sizes(b"containerd-shim")
    found.docker("rm", "--force", *ids)
    return times, sizes


def _podman(found: peers.Peers, count: int) -> list[float]:
    program = host.tool("podman")
    if program is None:
        return []
    argv = start.podman(program, found.disk / "podman")
    environment = start.podman_environment(found.disk)
    run = [*argv, "run", "--detach", "--network=none", f"--cgroup-parent=/{host.CGROUP}"]
    for _ in range(count):
        done = subprocess.run(
            [*run, found.reference, *_IDLE], env=environment, capture_output=True, check=False
        )
        if done.returncode != 0:
            return []
    sizes = _sizes(b"conmon")
    subprocess.run(
        [*argv, "rm", "--all", "--force", "--time=0"],
        env=environment,
        capture_output=True,
        check=False,
    )
    return sizes


def _sizes(program: bytes) -> list[float]:
    """Return the PSS, in KiB, of each process whose program has this in its name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if program in words[0].rpartition(b"/")[2]:
                found.append(float(pss(process)))
        except OSError:
            continue  # it has ended
    return found


def run(options: Options) -> Section:
    """Measure the section."""
    count = min(options.containers, 40) if options.quick else options.containers
    peer_count = 4 if options.quick else 30
    section = Section("density", f"{count:,} containers at rest", list(_METHOD))
    with peers.prepared() as found:
        shims: list[float] = []
        docker: list[float] = []
        if found.dockerd is not None:
            options.say(f"density: {peer_count} of docker's")
            docker, shims = _docker(found, peer_count)
        conmons = _podman(found, 10)
        if not conmons:
            section.notes.append("podman does not run here and is left out")
        with Keeper(found.disk / "engine", found.reference) as keeper:
            _ours(section, keeper, options, count, (docker, shims, conmons))
    return section


def _ours(
    section: Section,
    keeper: Keeper,
    options: Options,
    count: int,
    peer: tuple[list[float], list[float], list[float]],
) -> None:
    docker, shims, conmons = peer
    keeper.ask("detach", 3)
    keeper.ask("clear")
    few = keeper.ask("detach", _BEFORE)
    options.say(f"density: {count} of ours")
    times = few + keeper.ask("detach", max(count - _BEFORE, 1))
    memory = keeper.ask("memory")
    many = keeper.ask("detach", _BEFORE)
    asked = {name: keeper.ask(name, 20) for name in ("stats", "listing", "opening")}
    seconds = keeper.ask("clear")
    mine = Series(_OURS, (memory,), "KiB")
    section.lines.append(Line(f"memory of a supervisor: {_OURS}", mine))
    for name, sizes, bar in (("containerd-shim", shims, 20.0), ("conmon", conmons, 3.0)):
        if sizes:
            mean = Series(name, (statistics.mean(sizes),), "KiB")
            what = f"memory of a supervisor: {name}, mean of {len(sizes)}"
            section.lines.append(Line(what, mean, mine, Bar("at least", bar)))
    starts = Series(f"{_OURS}, mean", (statistics.mean(times),))
    section.lines.append(Line(f"detached start, mean of {len(times)}: {_OURS}", starts))
    if docker:
        mean = Series("docker, mean", (statistics.mean(docker),))
        what = f"detached start, mean of {len(docker)}: docker"
        section.lines.append(Line(what, mean, starts, Bar("at least", 25.0)))
    before = Series("with none alive", tuple(few))
    section.lines.append(Line(f"detached start, the first {_BEFORE}", before))
    after = Series("with all alive", tuple(many))
    what = f"detached start, {_BEFORE} more with {count:,} alive"
    section.lines.append(Line(what, after, before, Bar("at most", 1.5)))
    section.lines.append(
        Line(
            f"remove(force=True) of {count + _BEFORE:,}",
            Series("remove", (seconds,), "s"),
            None,
            Bar("at most", 5.0),
            "value",
        )
    )
    for name, what, bar in (
        ("stats", "stats of one container", 0.5),
        ("listing", f"containers.list() of {count + _BEFORE:,}", 30.0),
        ("opening", f"Engine.open with {count + _BEFORE:,} alive", 50.0),
    ):
        samples = Series(name, tuple(asked[name]))
        section.lines.append(Line(what, samples, None, Bar("at most", bar), "value"))
    if shims and conmons:
        bars = tuple(
            Series(n, (statistics.mean(s),), "KiB")
            for n, s in (("conmon", conmons), ("containerd-shim", shims))
        )
        section.charts.append(
            Chart(
                "memory",
                "Memory of a container's supervisor (PSS)",
                (mine, *bars),
                frozenset({_OURS}),
            )
        )
