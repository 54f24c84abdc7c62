"""The kill sweep: the embedding process is killed at many points; the next open finds it all.

    python -m tests.faults.sweep_kills [--points N] [--seed N]

Half of the points are moments, half are the n-th system call of the operation, in whichever of its
processes.  After each: nothing is left once the root is opened again, its check is clean, the same
operation then works.  Prints how long those opens took; exits with 1 when something was wrong.
"""

from __future__ import annotations

import argparse
import random
import select
import sys
import time
from pathlib import Path

import containerkit as ck
from tests import conftest
from tests.faults.build import FaultBuild, build
from tests.faults.operations import OPERATIONS, act, undo
from tests.faults.page import EVERY, Page
from tests.faults.sufferer import Sufferer
from tests.support import claims, leaks, ocibuild
from tests.support.registry import RegistryServer

KILLED = (
    "pull", "create", "start", "detach", "execute", "stop", "remove", "restart", "run",
    "strict", "own_ids", "own_ids_removed", "commit",
)  # fmt: skip


class KillSweep:
    """Points and what came of them."""

    def __init__(self, fault_build: FaultBuild, image: str, seed: int) -> None:
        self.points = 0
        self.findings: list[str] = []
        self.opens: list[float] = []
        self._build = fault_build
        self._image = image
        self._noise = random.Random(seed)

    def points_of(self, name: str, count: int) -> None:
        """Kill at so many points of one operation, all on one root."""
        place = conftest.make_root()
        root = place / "root"
        try:
            with ck.Engine.open(root) as engine:
                engine.images.pull(self._image, insecure=True)
            for number in range(count):
                self._kill_once(name, root, by_call=number % 2 == 0)
        finally:
            conftest.remove_root(place)

    def _kill_once(self, name: str, root: Path, *, by_call: bool) -> None:
        before = leaks.take()
        with Page(self._build.page) as page, Sufferer(self._build, root, self._image) as victim:
            victim.ask(name)
            nth = int(self._noise.random() ** 2 * 200) + 1 if by_call else 1 << 30
            pause = 0.0 if by_call else self._noise.random() ** 2 * 0.03
            victim.tell(name, EVERY, 0, nth)
            where = self._await_moment(victim, page, pause)
            victim.kill()
            page.disarm()
        self.points += 1
        self._look_after(f"{name}, {where}", name, root, before)

    @staticmethod
    def _await_moment(victim: Sufferer, page: Page, pause: float) -> str:
        """Wait for the victim to reach its call, to pass its moment, or to have finished."""
        poll = select.poll()
        assert victim.process.stdout is not None
        poll.register(victim.process.stdout, select.POLLIN)
        deadline = time.monotonic() + (pause or 10.0)
        while not poll.poll(1) and not page.look().hit:
            if time.monotonic() > deadline:
                break
        fault = page.look()
        return f"at call {fault.counted} ({fault.name})" if fault.hit else f"after {pause:.4f} s"

    def _look_after(self, where: str, name: str, root: Path, before: leaks.Snapshot) -> None:
        begin = time.perf_counter()
        engine = ck.Engine.open(root)
        self.opens.append((time.perf_counter() - begin) * 1e3)
        with engine:
            listed = engine.containers.list(all=True)
            kept = [one.config.options.get("lifetime", "owner") for one in listed]
            if "owner" in kept:
                self.findings.append(f"{where}: containers of the dead are listed: {kept}")
            undo(engine)
            directories = [path.name for path in (root / "containers").iterdir()]
            if directories:
                self.findings.append(f"{where}: left in containers/: {directories}")
            report = engine.check()
            if not report.ok:
                self.findings.append(f"{where}: {report}")
            try:
                act(OPERATIONS[name](engine, self._image), lambda: None, lambda: None)
            except Exception as error:
                self.findings.append(f"{where}: the same did not work afterwards: {error!r}")
            undo(engine)
        left = leaks.settle(before) + [f"ids of {one}" for one in claims.of(root).values()]
        if left:
            self.findings.append(f"{where}: left behind: {left}")
        records = [path.name for path in (root / "owners").iterdir()]
        if records:
            self.findings.append(f"{where}: records left: {records}")


def sweep(*, image: str, points: int, seed: int, fault_build: FaultBuild) -> KillSweep:
    """Run a sweep and return what it found."""
    done = KillSweep(fault_build, image, seed)
    share, more = divmod(points, len(KILLED))
    for number, name in enumerate(KILLED):
        findings = len(done.findings)
        done.points_of(name, share + (number < more))
        print(f"{name}: {share + (number < more)} points", flush=True)
        for finding in done.findings[findings:]:
            print(f"  {finding}", flush=True)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=540)
    parser.add_argument("--seed", type=int, default=1)
    parsed = parser.parse_args()
    with RegistryServer() as registry:
        image = registry.push("test/busybox:latest", ocibuild.busybox())
        done = sweep(image=image, points=parsed.points, seed=parsed.seed, fault_build=build())
    opens = sorted(done.opens)
    p99 = opens[min(len(opens) - 1, int(len(opens) * 0.99))]
    print(
        f"kill sweep: {done.points} points, {len(done.findings)} findings;"
        f" opening the root again: p99 {p99:.0f} ms, median {opens[len(opens) // 2]:.1f} ms"
    )
    return bool(done.findings)


if __name__ == "__main__":
    sys.exit(main())
