"""Section start: create + start + wait + remove of /bin/true, beside every peer.

Back to back: blocks of starts, the runners taking turns block by block, the first two starts of a
block dropped.  Lone: one start at a time, 100 ms after whatever was before.  Sustained: one long loop,
which empties the pool of network namespaces.  See `runners` for how a start is timed.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import bundle, host, images, oci
from benchmarks.command import BenchmarkError, call
from benchmarks.daemons import Dockerd, Registry
from benchmarks.options import Options
from benchmarks.results import Bar, Chart, Line, Section, Series
from benchmarks.runners import Command, Runner, Server

OURS = "containerkit"
BIG = "containerkit, 5 GB parent"
LIMIT = "limit.c"
POOL = 16
_GAP = 0.1
_DROPPED = 2
"""Starts of a block that are not counted: on cgroup v1 the kernel is slow to move the first
processes after a pause (an RCU grace period), which is what the lone starts are for."""
_BACK_TO_BACK = {"docker": 100.0, "runc": 12.0, "crun": 3.0, "bwrap": 1.5}
_LONE = {"runc": 5.0, "crun": 5.0}

_METHOD = [
    (
        "One start is create + start + wait + remove of `/bin/true` (static busybox), measured inside "
        "Python: `engine.run(image, ['/bin/true'], network='none')` for containerkit, "
        "`posix_spawn` + `waitpid` of the command for the peers. Everything runs in the same private "
        "namespaces, stores on one fresh ext4. runc and crun get the spec that Docker gives its "
        "containers (less its hook and its binds in /etc) on an overlay that is mounted outside of the "
        "measured time; bwrap does less: no cgroup, no limits, no overlay. `limit.c` makes the "
        "launcher's system calls and nothing else, with the same pool of network namespaces."
    ),
    (
        "Back to back: blocks of 12 starts in turn, the first two of a block dropped. Lone: one start at a "
        "time in turn, each after a pause of 100 ms. Sustained: 1,000 starts in one loop, which drains "
        "the pool of network namespaces."
    ),
]


def build_limit(output: Path) -> str:
    """Compile limit.c statically, with musl if it is there; return the compiler's name."""
    sources = sorted(Path(__file__).parent.glob("limit*.c"))
    musl = shutil.which("musl-gcc")
    compiler = [musl or "cc", "-static", "-O2", "-std=c11"]
    if musl:
        multiarch = call(["cc", "-print-multiarch"]).strip()
        compiler += ["-idirafter", "/usr/include", "-idirafter", f"/usr/include/{multiarch}"]
    call([*compiler, *sources, "-o", output])
    return "static musl" if musl else "static glibc"


def _commands(disk: Path, dockerd: Dockerd | None, reference: str) -> list[Command]:
    rootfs = disk / "limit" / "layers" / "busybox"
    found = _podman(disk, reference)
    program = host.tool("bwrap")
    if program:
        view = ["--ro-bind", str(rootfs), "/", "--proc", "/proc", "--dev", "/dev"]
        found.append(Command("bwrap", [program, "--unshare-all", *view, "/bin/true"]))
    if dockerd is None:
        return found
    options = ["--rm", "--network=none", f"--pids-limit={bundle.PIDS_LIMIT}"]
    docker = [dockerd.client, "run", *options, reference, "/bin/true"]
    found.append(Command("docker", docker, dockerd.environment))
    spec = bundle.docker_spec(dockerd, reference)
    for name in ("runc", "crun"):
        program = host.tool(name)
        if program:
            directory = bundle.write_bundle(disk / name, spec, rootfs, name)
            state = f"--root=/run/bench-{name}"
            run = [program, state, "run", f"--bundle={directory}", "{id}"]
            found.append(Command(name, run))
    return found


def _podman(disk: Path, reference: str) -> list[Command]:
    program = host.tool("podman")
    if program is None:
        return []
    argv = [*podman(program, disk / "podman"), "run", "--rm", "--network=none"]
    argv += [
        f"--cgroup-parent=/{host.CGROUP}",
        f"--pids-limit={bundle.PIDS_LIMIT}",
        reference,
        "/bin/true",
    ]
    return [Command("podman", argv, podman_environment(disk))]


def podman(program: str, store: Path) -> list[str]:
    """Return podman's command line for a store of its own."""
    return [
        program,
        f"--root={store / 'root'}",
        f"--runroot=/run/bench-podman-{store.name}",
        "--storage-driver=overlay",
        "--cgroup-manager=cgroupfs",
        "--events-backend=file",
        "--runtime=runc",
    ]


def podman_environment(directory: Path) -> dict[str, str]:
    """Write configuration without the default ulimits, which need rights above a hard limit."""
    config = directory / "containers.conf"
    config.write_text('[containers]\ndefault_ulimits = []\ncgroups = "enabled"\n')
    registries = directory / "registries.conf"
    registries.write_text('[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n')
    policy = directory / "home" / ".config" / "containers"
    policy.mkdir(parents=True, exist_ok=True)
    (policy / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    return {
        "CONTAINERS_CONF": str(config),
        "CONTAINERS_REGISTRIES_CONF": str(registries),
        "HOME": str(directory / "home"),
    }


def _servers(
    stack: contextlib.ExitStack, disk: Path, reference: str, options: Options
) -> list[Server]:
    limit = disk / "limit.bin"
    build_limit(limit)
    argv = [str(limit), str(disk / "limit"), f"{host.CGROUP}/limit", str(POOL)]
    servers = [Server(LIMIT, argv, greets=False)]
    if not options.peers_only:
        worker = [sys.executable, "-m", "benchmarks.worker", str(disk / "engine"), reference]
        big = "256" if options.quick else "5120"
        servers.append(Server(OURS, [*worker, "0"], greets=True))
        servers.append(Server(BIG, [*worker, big], greets=True))
    for server in servers:
        stack.callback(server.close)
    return servers


def _measure(runners: list[Runner], options: Options, section: Section) -> None:
    rounds, block, lone = (2, 3, 3) if options.quick else (20, 10, 50)
    rounds = options.rounds or rounds
    hot: dict[str, list[float]] = {runner.name: [] for runner in runners}
    cold: dict[str, list[float]] = {runner.name: [] for runner in runners}
    for at in range(rounds):
        options.say(f"start: back to back, round {at + 1} of {rounds}")
        for runner in runners:
            hot[runner.name] += runner.block(block + _DROPPED)[_DROPPED:]
    for at in range(lone):
        if at % 10 == 0:
            options.say(f"start: lone, round {at + 1} of {lone}")
        for runner in runners:
            cold[runner.name] += runner.block(1, gap=_GAP)
    long = 50 if options.quick else 1000
    steady = {
        runner.name: tuple(runner.block(long, drain=True))
        for runner in runners
        if runner.name in {LIMIT, OURS}
    }
    _report(section, hot, cold, steady)


def _bar(name: str, bars: dict[str, float], first: str) -> Bar | None:
    """A peer's bar, which counts against containerkit only."""
    return Bar("at least", bars[name]) if name in bars and first == OURS else None


def _report(
    section: Section,
    hot: dict[str, list[float]],
    cold: dict[str, list[float]],
    steady: dict[str, tuple[float, ...]],
) -> None:
    first = next((name for name in (OURS, LIMIT) if name in hot), next(iter(hot)))
    series = {name: Series(name, tuple(times)) for name, times in hot.items()}
    lone = {name: Series(f"{name}, lone", tuple(times)) for name, times in cold.items()}
    last = {name: Series(f"{name}, sustained", times) for name, times in steady.items()}
    names = [OURS, BIG, LIMIT, "bwrap", "crun", "runc", "podman", "docker"]
    present = [name for name in names if name in series]
    for name in present:
        what = f"start, back to back: {name}"
        if name == OURS:
            line = Line(what, series[name], series.get(LIMIT), Bar("at most", 2.0))
        elif name == BIG:
            line = Line(what, series[name], series[first], Bar("at most", 1.2))
        else:
            to = None if name == first else series[first]
            line = Line(what, series[name], to, _bar(name, _BACK_TO_BACK, first))
        section.lines.append(line)
    for name in present:
        what = f"start, lone: {name}"
        if name == OURS:
            line = Line(what, lone[name], series[name], Bar("at most", 2.0))
        else:
            to = None if name == first else lone[first]
            line = Line(what, lone[name], to, _bar(name, _LONE, first))
        section.lines.append(line)
    for name in (OURS, LIMIT):
        if name in last:
            to = last.get(LIMIT) if name == OURS else None
            section.lines.append(Line(f"start, sustained: {name}", last[name], to))
    section.charts += _charts(present, series, lone)


def _charts(present: list[str], series: dict[str, Series], lone: dict[str, Series]) -> list[Chart]:
    ours = frozenset({OURS, BIG})
    near = [name for name in present if name not in {"docker", "podman"}]
    return [
        Chart(
            "start",
            "Create, start, wait, remove /bin/true, back to back",
            tuple(series[name] for name in present),
            ours,
        ),
        Chart(
            "start-near",
            "The same, without the engines",
            tuple(series[name] for name in near),
            ours,
        ),
        Chart(
            "start-lone",
            "A lone start, 100 ms after anything else",
            tuple(Series(name, lone[name].samples) for name in near),
            ours,
        ),
    ]


def run(options: Options) -> Section:
    """Measure the section."""
    section = Section("start", "Starting a container", list(_METHOD))
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(host.fresh_ext4(images.cache_directory()))
        registry = stack.enter_context(Registry(disk))
        registry.push("busybox")
        reference = registry.reference("busybox")
        layer = disk / "limit" / "layers" / "busybox"
        layer.mkdir(parents=True)
        for blob in oci.layout_layers(images.layout("busybox")):
            call(["tar", "-xzf", blob, "-C", layer])
        runners: list[Runner] = []
        dockerd: Dockerd | None = None
        if host.tool("dockerd"):
            dockerd = stack.enter_context(Dockerd(disk / "docker", disk / "docker-run"))
            dockerd.docker("pull", "--quiet", reference)
        else:
            section.notes.append("no dockerd: docker, runc and crun are left out")
        for command in _commands(disk, dockerd, reference):
            try:
                command.check()
            except (BenchmarkError, subprocess.SubprocessError) as error:
                section.notes.append(f"{command.name} does not run here and is left out: {error}")
            else:
                runners.append(command)
        for server in _servers(stack, disk, reference, options):
            try:
                server.block(3)
            except BenchmarkError as error:
                if server.name != LIMIT:
                    raise
                section.notes.append(f"{LIMIT} needs Linux 6.5 and is left out: {error}")
            else:
                runners.append(server)
        _measure(runners, options, section)
    return section
