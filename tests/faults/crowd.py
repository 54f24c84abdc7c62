"""A crowd on one root: many processes do everything to each other's containers, and some are killed.

    python -m tests.faults.crowd [PROCESSES [OPERATIONS [SEED]]]     (make sweep-crowd)

Owns: the mixed operations, the kills, and the figures.  An error that says what another process did
meanwhile is part of the game; every other one is a finding, as is a wait of over 30 s, a problem
that `engine.check()` sees, and anything that is left after the root was opened again.
"""

from __future__ import annotations

import collections
import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

import containerkit as ck
from tests import conftest
from tests.support import ocibuild
from tests.support.registry import RegistryServer

LONGEST = 30.0
"""Seconds that any operation may take, whatever the others do."""

EXPECTED = (ck.errors.NotFound, ck.errors.Conflict)
"""What others did meanwhile: the container is gone, its name taken, its status another."""


# ---- one process of the crowd ------------------------------------------------------------------


class Member:
    """Does operations at random until it has done enough, or is killed."""

    def __init__(self, engine: ck.Engine, image: str, noise: random.Random, longest: float) -> None:
        self.engine = engine
        self.image = image
        self.noise = noise
        self.longest = longest
        self.operations: tuple[Callable[[], object], ...] = (
            self.run,
            self.start,
            self.start_detached,
            self.execute,
            self.stop,
            self.restart,
            self.remove,
            self.rename,
            self.list,
            self.logs,
            self.pull,
            self.pause,
            self.collect,
        )

    def any(self) -> ck.Container:
        """Return some container of anybody's; a new one when there are few."""
        found = self.engine.containers.list()
        if len(found) < 3:
            return self.start()
        return self.noise.choice(found)

    def run(self) -> None:
        number = self.noise.randrange(100)
        result = self.engine.run(self.image, ["sh", "-c", f"echo {number}; exit {number}"])
        assert (result.stdout, result.returncode) == (b"%d\n" % number, number)

    def start(self) -> ck.Container:
        return self.engine.start(self.image, ["sh", "-c", "echo up; sleep 1000 & sleep 1000"])

    def start_detached(self) -> None:
        name = f"crowd-{self.noise.randrange(8)}"
        self.engine.start(self.image, ["sleep", "1000"], name=name, lifetime="detached")

    def execute(self) -> None:
        box = self.any()
        try:
            result = box.exec(["sh", "-c", "sleep 100 & echo $((6 * 7))"], timeout=self.longest / 2)
        except ck.Timeout:
            if box.status != "paused":  # by one that was killed before it let it go on
                raise
            return
        # Whoever ends the container meanwhile ends the exec.
        assert result.stdout == b"42\n" or not result.exit.ok

    def stop(self) -> None:
        self.any().stop(grace=self.noise.choice([0, 0.1, None]))

    def restart(self) -> None:
        self.any().restart(grace=0)

    def remove(self) -> None:
        self.any().remove(force=True)

    def rename(self) -> None:
        self.any().rename(f"crowd-{self.noise.randrange(8)}")

    def list(self) -> None:
        for container in self.engine.containers.list():
            assert container.status in {
                "created", "running", "paused", "restarting", "stopped", "removed",
            }  # fmt: skip

    def logs(self) -> None:
        for entry in self.any().logs():
            assert entry.data == b"up\n"

    def pull(self) -> None:
        name = f"{self.image.rpartition(':')[0].rpartition('/')[0]}/other:latest"
        image = self.engine.images.pull(name)
        if self.noise.random() < 0.5:
            image.remove(force=True)

    def pause(self) -> None:
        container = self.any()
        container.pause()
        container.unpause()

    def collect(self) -> None:
        self.noise.choice([self.engine.gc, self.engine.recover, self.engine.containers.prune])()


def member(root: str, image: str, seed: str, longest: str, count: str) -> None:
    """Be one process of the crowd; tell of every operation in a line."""
    noise = random.Random(seed)
    with ck.Engine.open(root) as engine:
        me = Member(engine, image, noise, float(longest))
        for _ in range(int(count)):
            operation = noise.choice(me.operations)
            told: dict[str, Any] = {"operation": operation.__name__, "error": None}
            print(json.dumps({"begins": operation.__name__}), flush=True)
            begun = time.monotonic()
            try:
                operation()
            except EXPECTED as error:
                told["met"] = type(error).__name__
            except Exception as error:
                told["error"] = f"{type(error).__name__}: {error}"
            told["seconds"] = time.monotonic() - begun
            print(json.dumps(told), flush=True)


# ---- the crowd ---------------------------------------------------------------------------------


@attrs.define
class Figures:
    """What came of a crowd."""

    operations: int = 0
    met: int = 0
    killed: int = 0
    longest: float = 0.0
    longest_of: str = ""
    opened: float = 0.0
    kinds: collections.Counter[str] = attrs.field(factory=collections.Counter)
    findings: list[str] = attrs.field(factory=list)

    def take(self, line: str) -> None:
        with contextlib.suppress(ValueError):  # of one that was killed while it wrote
            told = json.loads(line)
            if "begins" in told:
                return
            self.operations += 1
            self.kinds[told["operation"]] += 1
            self.met += "met" in told
            if told["error"] is not None:
                self.findings.append(f"{told['operation']}: {told['error']}")
            if told["seconds"] > self.longest:
                self.longest, self.longest_of = told["seconds"], told["operation"]

    def __str__(self) -> str:
        return (
            f"{self.operations} operations, {self.met} of them met another's, {self.killed} processes"
            f" killed; longest wait {self.longest:.2f} s ({self.longest_of}); opened again in"
            f" {self.opened * 1000:.0f} ms; findings: {len(self.findings)}"
        )


class Crowd:
    """Some processes on one root.

    Args:
        root: of the engine, with the image pulled.
        image: what they start.
        operations: each process does.
        kills: how many of them are killed, each replaced by another.
        seed: of all that is random, but for the machine's own.
        longest: seconds that any operation may take.
    """

    def __init__(
        self,
        root: Path,
        image: str,
        *,
        operations: int,
        kills: int,
        seed: int,
        longest: float = LONGEST,
    ) -> None:
        self._root, self._image, self._longest = root, image, longest
        self._operations, self._kills = operations, kills
        self._noise = random.Random(seed)
        self._guard = threading.Lock()
        self.figures = Figures()

    def run(self, processes: int) -> Figures:
        threads = [
            threading.Thread(target=self._place, args=(number,)) for number in range(processes)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._look()
        return self.figures

    def _place(self, number: int) -> None:
        """Keep one place in the crowd filled until its operations are done."""
        left = self._operations
        while left > 0:
            with self._guard:
                doomed = self._kills > 0 and self._noise.random() < 0.7
                self._kills -= doomed
                after = self._noise.random() * min(left, 20)
                seed = f"{number}-{self._noise.random()}"
            left -= self._one(seed, left, after if doomed else None)

    def _one(self, seed: str, count: int, doomed_after: float | None) -> int:
        """Run one process; return how many operations it has told of.

        One that is doomed goes on until it is killed, however late that is.
        """
        command = [sys.executable, "-m", "tests.faults.crowd", "member", str(self._root)]
        most = count if doomed_after is None else sys.maxsize
        with subprocess.Popen(
            [*command, self._image, seed, str(self._longest), str(most)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as process:
            try:
                done = self._listen(process, doomed_after)
            finally:
                process.kill()
        with self._guard:
            if process.returncode == -signal.SIGKILL and doomed_after is not None:
                self.figures.killed += 1
            elif process.returncode != 0:
                self.figures.findings.append(f"a process ended with {process.returncode}")
                return count
        return done

    def _listen(self, process: subprocess.Popen[str], doomed_after: float | None) -> int:
        done = 0
        killer: threading.Timer | None = None
        for line in lines_of(process, 2 * self._longest, self.figures):
            with self._guard:
                self.figures.take(line)
            done += '"seconds"' in line
            if killer is None and doomed_after is not None and done >= int(doomed_after):
                # In the middle of an operation, not between two.
                killer = threading.Timer((doomed_after % 1) * 0.1, process.kill)
                killer.start()
        if killer is not None:
            killer.cancel()
            killer.join()
        return done

    def _look(self) -> None:
        """Open the root again: it is whole, and nothing but what is detached is there."""
        figures = self.figures
        begun = time.monotonic()
        with ck.Engine.open(self._root) as engine:
            figures.opened = time.monotonic() - begun
            engine.gc()
            report = engine.check()
            figures.findings += [str(problem) for problem in report.problems]
            for container in engine.containers.list():
                if container.config.options.get("lifetime") != "detached":
                    figures.findings.append(f"left: {container!r}")
                container.remove(force=True)
            if not engine.run(self._image, ["true"]).exit.ok:
                figures.findings.append("nothing runs any more")
        deadline = time.monotonic() + self._longest
        while any((self._root / "owners").iterdir()) and time.monotonic() < deadline:
            time.sleep(0.01)  # launchers of detached containers end by themselves
        for part in ("containers", "owners"):
            figures.findings += [f"left: {path}" for path in (self._root / part).iterdir()]


def lines_of(process: subprocess.Popen[str], seconds: float, figures: Figures) -> Iterator[str]:
    """Yield what a process says; one that says nothing for too long is a finding, and killed."""
    assert process.stdout is not None

    def hangs() -> None:
        figures.findings.append(f"hangs for {seconds:.0f} s; it had begun: {last.strip()}")
        process.kill()

    last = "nothing"
    while True:
        watchdog = threading.Timer(seconds, hangs)
        watchdog.start()
        try:
            line = process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            return
        last = line
        yield line


def crowd(
    base: Path,
    registry: RegistryServer,
    processes: int,
    operations: int,
    *,
    seed: int = 1,
    longest: float = LONGEST,
) -> Figures:
    """Make a root, let a crowd loose on it, and look at what is left."""
    image = registry.push("crowd/busybox:latest", ocibuild.busybox())
    layers = [{f"{n}": "x" * 50_000} for n in range(4)]
    registry.push("crowd/other:latest", ocibuild.image(layers))
    with ck.Engine.open(base) as engine:
        engine.images.pull(image)
    kills = max(2, processes * operations // 40)
    made = Crowd(base, image, operations=operations, kills=kills, seed=seed, longest=longest)
    figures = made.run(processes)
    if figures.longest > longest:
        figures.findings.append(f"{figures.longest_of} took {figures.longest:.0f} s")
    return figures


def main(processes: int = 16, operations: int = 200, seed: int = 1) -> int:
    """Run the whole crowd and print its figures."""
    base = conftest.make_root()
    begun = time.monotonic()
    try:
        with RegistryServer() as registry:
            figures = crowd(base / "root", registry, processes, operations, seed=seed)
    finally:
        conftest.remove_root(base)
    print(
        f"{processes} processes x {operations}, seed {seed}, {time.monotonic() - begun:.0f} s: {figures}"
    )
    print(", ".join(f"{count} {kind}" for kind, count in sorted(figures.kinds.items())))
    for finding, count in collections.Counter(figures.findings).most_common():
        print(f"  {count} x {finding}")
    return min(1, len(figures.findings))


if __name__ == "__main__":
    if sys.argv[1:2] == ["member"]:
        member(*sys.argv[2:])
    else:
        sys.exit(main(*map(int, sys.argv[1:])))
