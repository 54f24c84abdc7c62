"""Section pull: download, verify and unpack an image from a registry on loopback.

Every pull goes onto an ext4 made for it.  Peers: `docker pull`, `podman pull`, and
`igzip -dc | tar x` of the same blobs, which neither downloads nor verifies.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import host, images, oci, trees
from benchmarks.command import BenchmarkError, call
from benchmarks.daemons import Dockerd, Registry
from benchmarks.options import Options
from benchmarks.results import Bar, Chart, Line, Section, Series
from benchmarks.start import podman, podman_environment

OURS = "containerkit"
TAR = "igzip | tar"
_BARS = {"docker": 3.0, "podman": 3.0, TAR: 1.2}
_MEMORY_MIB = 64.0

_METHOD = [
    (
        "Each pull starts from nothing on an ext4 made for it (loop device, direct I/O, journal); "
        "the registry's blobs are in the page cache, cached names are dropped before. Measured is "
        "the command from spawn to exit, for containerkit a fresh `python` process that imports it, "
        "opens an engine and pulls, until `pull` has returned; the `sync` after is not part of it "
        "and is given beside. "
        "`igzip -dc | tar x` unpacks the same blobs from local files, each layer into a directory "
        "of its own: it neither downloads nor checks a digest."
    ),
    (
        "After the first round the trees of containerkit are compared with those of GNU tar: "
        "types, modes, owners, times in nanoseconds, extended attributes, links, devices, contents."
    ),
]


def _timed(argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> tuple[float, str]:
    """Run a command; return seconds and its output."""
    host.drop_names()
    begin = time.perf_counter()
    output = call(argv, env=os.environ | (env or {}))
    return time.perf_counter() - begin, output


class _Case:
    """One image and the ways to pull it; each way returns seconds, leaving its result on disk."""

    def __init__(self, image: str, registry: Registry, section: Section) -> None:
        self.image = image
        self.layout = images.layout(image)
        self.reference = registry.reference(image)
        self.section = section
        self.memory: list[float] = []

    def ours(self, disk: Path) -> float:
        argv = [sys.executable, "-m", "benchmarks.puller", str(disk / "root"), self.reference]
        host.drop_names()
        begin = time.perf_counter()
        environment = os.environ | host.CACHED_BYTECODE
        with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment, text=True) as puller:
            assert puller.stdout is not None
            said = puller.stdout.readline()
            seconds = time.perf_counter() - begin
            rest = puller.stdout.read()
        if said != "pulled\n" or puller.returncode:
            raise BenchmarkError(f"cannot pull {self.reference}: exit code {puller.returncode}")
        self.sync = time.perf_counter() - begin - seconds
        idle, peak = map(int, rest.split())
        self.memory.append((peak - idle) / 1024)
        return seconds

    def docker(self, disk: Path) -> float:
        with Dockerd(disk / "docker", disk / "run") as dockerd:
            argv = [dockerd.client, "pull", "--quiet", self.reference]
            seconds, _ = _timed(argv, dockerd.environment)
            begin = time.perf_counter()
            os.sync()
            self.sync = time.perf_counter() - begin
        return seconds

    def podman(self, disk: Path) -> float:
        program = str(host.tool("podman"))
        environment = podman_environment(disk)
        options = ["--quiet", "--tls-verify=false"]
        argv = [*podman(program, disk / "podman"), "pull", *options, self.reference]
        seconds, _ = _timed(argv, environment)
        return seconds

    def tar(self, disk: Path) -> float:
        host.drop_names()
        begin = time.perf_counter()
        for directory, blob in zip(self.directories(disk), self.blobs(), strict=True):
            directory.mkdir()
            with subprocess.Popen(["igzip", "-dc", blob], stdout=subprocess.PIPE) as inflate:
                # As root tar keeps owners and modes by itself; xattrs it has to be told.
                extract = ["tar", "-x", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
                done = subprocess.run(
                    [*extract, "-C", directory], stdin=inflate.stdout, check=False
                )
            if done.returncode or inflate.returncode:
                raise BenchmarkError(f"cannot unpack {blob} with igzip and tar")
        return time.perf_counter() - begin

    def blobs(self) -> list[Path]:
        """Local blobs; named *.gz, or igzip refuses them."""
        return [self.layout.parent / f"{self.image}-{i}.gz" for i in range(self._count())]

    def _count(self) -> int:
        return len(oci.layout_layers(self.layout))

    def directories(self, disk: Path) -> list[Path]:
        return [disk / f"tar-{i}" for i in range(self._count())]

    @contextlib.contextmanager
    def named_blobs(self) -> Iterator[None]:
        for path, blob in zip(self.blobs(), oci.layout_layers(self.layout), strict=True):
            path.unlink(missing_ok=True)
            path.hardlink_to(blob)
            path.read_bytes()
        try:
            yield
        finally:
            for path in self.blobs():
                path.unlink()

    def compare(self, disk: Path) -> None:
        """Compare containerkit's trees with GNU tar's, and report what differs."""
        chain = ""
        differing = total = 0
        for at, (diff_id, theirs) in enumerate(
            zip(oci.layout_diff_ids(self.layout), self.directories(disk), strict=True)
        ):
            both = f"{chain} {diff_id}" if chain else diff_id
            digest = hashlib.sha256(both.encode()).hexdigest()
            chain = f"sha256:{digest}" if chain else diff_id
            ours = disk / "root" / "layers" / chain.removeprefix("sha256:")
            found = trees.differences(ours, theirs)
            differing += len(found)
            if found:
                where = f"{self.image}, layer {at}"
                self.section.notes.append(
                    f"{where}: differs from GNU tar's: {trees.summary(found)}"
                )
            total += len(trees.listing(theirs))
        series = Series("entries", (float(differing),), "entries")
        what = f"pull {self.image}: of {total:,} entries, unlike GNU tar's"
        self.section.lines.append(Line(what, series, None, Bar("at most", 0), "value"))


def _ways(case: _Case, options: Options) -> dict[str, Callable[[Path], float]]:
    needs = {"docker": "dockerd", "podman": "podman", TAR: "igzip"}
    ways = {OURS: case.ours, "docker": case.docker, "podman": case.podman, TAR: case.tar}
    if options.peers_only:
        del ways[OURS]
    return {name: way for name, way in ways.items() if name == OURS or host.tool(needs[name])}


def _measure(case: _Case, options: Options, section: Section) -> None:
    times: dict[str, list[float]] = {}
    syncs: dict[str, list[float]] = {}
    rounds = options.rounds or (1 if options.quick else 5)
    ways = _ways(case, options)
    for at in range(rounds):
        for name, way in ways.items():
            options.say(f"pull {case.image}: {name}, round {at + 1} of {rounds}")
            with host.fresh_ext4(images.cache_directory()) as disk:
                times.setdefault(name, []).append(way(disk))
                begin = time.perf_counter()
                os.sync()
                after = time.perf_counter() - begin
                if name == "docker":  # taken before its daemon ended
                    after = case.sync
                elif name == OURS:  # its own, when the engine closes
                    after += case.sync
                syncs.setdefault(name, []).append(after)
                if at == 0 and name == OURS and TAR in ways:
                    case.tar(disk)
                    case.compare(disk)
    _report(case, times, syncs, section)


def _report(
    case: _Case,
    times: dict[str, list[float]],
    syncs: dict[str, list[float]],
    section: Section,
) -> None:
    series = {name: Series(name, tuple(found), "s") for name, found in times.items()}
    first = series.get(OURS)
    for name, found in series.items():
        to = None if name == OURS else first
        bar = None if to is None else Bar("at least", _BARS[name])
        section.lines.append(Line(f"pull {case.image}: {name}", found, to, bar))
    for name, waits in syncs.items():
        waited = Series(f"{name}, sync", tuple(waits), "s")
        section.lines.append(Line(f"pull {case.image}: sync after {name}", waited))
    if case.memory:
        memory = Series("peak", tuple(case.memory), "MiB")
        what = f"pull {case.image}: peak memory above the idle interpreter"
        bar = Bar("at most", _MEMORY_MIB)
        section.lines.append(Line(what, memory, None, bar, "value"))
    title = f"Pull and unpack {case.image}: {images.facts(case.image)}"
    section.charts.append(
        Chart(f"pull-{case.image}", title, tuple(series.values()), frozenset({OURS}))
    )


def run(options: Options) -> Section:
    """Measure the section."""
    section = Section("pull", "Pulling an image", list(_METHOD))
    for image in ("pysci", "npm"):
        section.method.append(f"`{image}`: {images.facts(image)}.")
    # The registry keeps its blobs on a disk of its own, so that no peer's disk holds them.
    with host.fresh_ext4(images.cache_directory()) as disk, Registry(disk) as registry:
        for image in ("pysci", "npm"):
            registry.push(image)
            case = _Case(image, registry, section)
            with case.named_blobs():
                _measure(case, options, section)
    return section
