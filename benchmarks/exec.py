"""Section exec: `true` in a running container, from the call to its collected result."""

from __future__ import annotations

from pathlib import Path

from benchmarks import host, peers
from benchmarks.command import call
from benchmarks.keeper import Keeper
from benchmarks.options import Options
from benchmarks.results import Bar, Chart, Line, Section, Series
from benchmarks.runners import Command

_OURS = "containerkit"
_BARS = {"docker exec": 60.0, "runc exec": 20.0}
_FIRST_MS = 10.0
_DROPPED = 2
_GAP = 0.1

_METHOD = [
    (
        "`container.exec(['/bin/true'])` from Python until its result is there, beside `docker exec` "
        "and `runc exec` of the same program, spawned and waited for, each in a running container of "
        "its own. Back to back: blocks in turn, the first two of each dropped. First: the first exec "
        "in a container, 100 ms after its start. Lone: later ones, each after a pause of 100 ms."
    )
]


def _commands(found: peers.Peers) -> list[Command]:
    if found.dockerd is None:
        return []
    idle = ["/bin/sleep", "100000"]
    name = found.docker("run", "--detach", "--network=none", found.reference, *idle)
    argv = [found.dockerd.client, "exec", name, "/bin/true"]
    commands = [Command("docker exec", argv, found.dockerd.environment)]
    runc = host.tool("runc")
    if runc:
        bundle = found.bundles(["runc-exec"], idle)[0]
        state = "--root=/run/bench-runc-exec"
        _run_detached(runc, state, bundle)
        commands.append(Command("runc exec", [runc, state, "exec", "bench-exec", "/bin/true"]))
    return commands


def _run_detached(runc: str, state: str, bundle: Path) -> None:
    """Start runc's container; its own output goes nowhere, else the pipe would never end."""
    words = f"{runc} {state} run --detach --bundle={bundle} bench-exec </dev/null >/dev/null 2>&1"
    call(["sh", "-c", words])


def run(options: Options) -> Section:
    """Measure the section."""
    section = Section("exec", "A command in a running container", list(_METHOD))
    rounds, block, lone = (2, 3, 3) if options.quick else (20, 10, 40)
    rounds = options.rounds or rounds
    with peers.prepared() as found, Keeper(found.disk / "engine", found.reference) as keeper:
        commands = _commands(found)
        if not commands:
            section.notes.append("no dockerd: docker exec and runc exec are left out")
        first: list[float] = []
        for _ in range(lone):
            keeper.ask("container")
            first += keeper.ask("exec", 1, _GAP)
        hot: dict[str, list[float]] = {_OURS: [], **{command.name: [] for command in commands}}
        for at in range(rounds):
            options.say(f"exec: round {at + 1} of {rounds}")
            hot[_OURS] += keeper.ask("exec", block + _DROPPED, 0.0)[_DROPPED:]
            for command in commands:
                hot[command.name] += command.block(block + _DROPPED)[_DROPPED:]
        alone: list[float] = keeper.ask("exec", lone, _GAP)
    _report(section, hot, first, alone)
    return section


def _report(
    section: Section, hot: dict[str, list[float]], first: list[float], lone: list[float]
) -> None:
    series = {name: Series(name, tuple(times)) for name, times in hot.items()}
    ours = series[_OURS]
    section.lines.append(Line(f"exec, back to back: {_OURS}", ours))
    for name, bar in _BARS.items():
        if name in series:
            section.lines.append(
                Line(f"exec, back to back: {name}", series[name], ours, Bar("at least", bar))
            )
    section.lines += [
        Line(
            f"exec, first in its container: {_OURS}",
            Series(f"{_OURS}, first", tuple(first)),
            None,
            Bar("at most", _FIRST_MS),
            "value",
        ),
        Line(
            f"exec, lone: {_OURS}",
            Series(f"{_OURS}, lone", tuple(lone)),
            ours,
            Bar("at most", 2.0),
        ),
    ]
    section.charts.append(
        Chart("exec", "exec of /bin/true, back to back", tuple(series.values()), frozenset({_OURS}))
    )
