"""The fault sweep: the n-th call of each kind fails, for n = 1, 2, … until a run is clean.

    python -m tests.faults.sweep_faults [--seconds S] [--points P] [--seed N] [--only OPERATION …]

Without --seconds and --points: the whole product of operations, kinds of calls and errors.  With them:
points of that product drawn at random for so long, or so many of each operation.  Prints what was wrong, then one line of figures; exits with 1
when something was.
"""

from __future__ import annotations

import argparse
import errno
import random
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests import conftest
from tests.faults.build import FaultBuild, build
from tests.faults.operations import OPERATIONS
from tests.faults.page import CLASSES, ERRORS, Page
from tests.faults.sufferer import Silent, Sufferer
from tests.support import leaks, ocibuild
from tests.support.registry import RegistryServer

CLEAN = 3
"""Runs without a failing call, one after the other, that end a kind of calls and an error."""

MOST_TRIES = 50
"""Points that may miss, of an operation of which none has hit yet."""


class Point(NamedTuple):
    """One call that fails."""

    operation: str
    kind: str
    error: int
    nth: int

    def __str__(self) -> str:
        return f"{self.operation}: {self.kind} {self.nth} {errno.errorcode[self.error]}"


class Sweep:
    """Points and what came of them.

    Attributes:
        points: calls that were made to fail.
        findings: what must not have happened, one text each.
    """

    def __init__(self, fault_build: FaultBuild, image: str) -> None:
        self.points = 0
        self.findings: list[str] = []
        self._build = fault_build
        self._image = image
        self._calls: dict[str, int] = {}

    def operation(self, name: str, chosen: Iterator[Point]) -> None:
        """Try points of one operation, each victim on a root of its own."""
        before = self.points
        while self._one_victim(name, chosen):
            continue
        if self.points == before:
            self.findings.append(f"{name}: no call was made to fail: is the build at work?")

    def _one_victim(self, name: str, chosen: Iterator[Point]) -> bool:
        """Try points until they are used up, or until the victim has to be replaced (True)."""
        root = conftest.make_root()
        before = leaks.take()
        replaced = False
        try:
            with Sufferer(self._build, root / "root", self._image) as victim:
                victim.ask(name)
                self._calls = victim.ask(name, "count")
                for point in chosen:
                    if not self._try(victim, point):
                        replaced = True
                        break
            left = leaks.settle(before)
            if left:
                self.findings.append(f"{name}: left by its victim: {left}")
        except Silent as silent:
            self.findings.append(f"{name}: it did not even work unharmed: {silent}")
            return False
        finally:
            conftest.remove_root(root)
        return replaced

    def _try(self, victim: Sufferer, point: Point) -> bool:
        """Try one point; False when the victim is of no use any more."""
        try:
            answer = victim.ask(point.operation, CLASSES[point.kind], point.error, point.nth)
        except Silent as silent:
            with Page(self._build.page) as page:
                self.findings.append(f"{point} ({page.look().name}): {silent}")
            victim.kill()
            return False
        self.last_hit = bool(answer["hit"])
        if not self.last_hit:
            return True
        self.points += 1
        found = list(self._wrong(answer))
        self.findings += [f"{point} ({answer['name']}): {text}" for text in found]
        return not found

    @staticmethod
    def _wrong(answer: dict[str, Any]) -> Iterator[str]:
        if answer["outcome"].startswith("untyped"):
            yield answer["outcome"]
        if answer["left"]:
            yield f"left: {answer['left']}"
        if answer["again"] != "ok":
            yield f"the same did not work afterwards: {answer['again']}"

    def every(self, name: str) -> Iterator[Point]:
        """Yield the whole product of one operation: n counts up until runs are clean.

        What is done in the background differs from run to run: one clean run alone ends nothing.
        """
        for kind in CLASSES:
            for error in ERRORS[kind]:
                nth = clean = 0
                while clean < CLEAN:
                    nth += 1
                    yield Point(name, kind, error, nth)
                    clean = 0 if self.last_hit else clean + 1

    def some(self, name: str, seed: int, deadline: float | None, most: int) -> Iterator[Point]:
        """Yield points of one operation at random until the deadline, at least one, at most so many.

        Each kind of calls is as likely as every other; the operation makes them, unharmed.  The
        n-th point of a seed and an operation is the same in every run, as far as they make the
        same calls.
        """
        noise = random.Random(f"{seed} {name}")
        begun, tries = self.points, 0
        while self._goes_on(deadline, self.points - begun, most, tries):
            tries += 1
            where, what, which = (noise.random() for _ in range(3))
            kinds = [kind for kind, calls in self._calls.items() if calls]
            kind = kinds[int(where * len(kinds))]
            error = ERRORS[kind][int(what * len(ERRORS[kind]))]
            yield Point(name, kind, error, 1 + int(which * self._calls[kind]))

    @staticmethod
    def _goes_on(deadline: float | None, points: int, most: int, tries: int) -> bool:
        if points == 0:
            return tries < MOST_TRIES
        return points < most and (deadline is None or time.monotonic() < deadline)


def sweep(
    *,
    image: str,
    seconds: float | None,
    seed: int,
    only: list[str],
    fault_build: FaultBuild,
    most: int | None = None,
) -> Sweep:
    """Run a sweep, at most so many points of each operation, and return what it found."""
    done = Sweep(fault_build, image)
    names = only or list(OPERATIONS)
    for name in names:
        begun, points, findings = time.monotonic(), done.points, len(done.findings)
        if seconds is None and most is None:
            done.operation(name, done.every(name))
        else:
            deadline = None if seconds is None else time.monotonic() + seconds / len(names)
            done.operation(name, done.some(name, seed, deadline, most or sys.maxsize))
        spent = time.monotonic() - begun
        print(f"{name}: {done.points - points} calls failed, {spent:.0f} s", flush=True)
        for finding in done.findings[findings:]:
            print(f"  {finding}", flush=True)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--points", type=int, help="of each operation")
    parser.add_argument("--only", nargs="*", default=[], choices=[*OPERATIONS])
    parsed = parser.parse_args()
    begin = time.monotonic()
    with RegistryServer() as registry:
        image = registry.push("test/busybox:latest", ocibuild.busybox())
        done = sweep(
            image=image,
            seconds=parsed.seconds,
            seed=parsed.seed,
            only=parsed.only,
            fault_build=build(),
            most=parsed.points,
        )
    spent = time.monotonic() - begin
    print(f"fault sweep: {done.points} calls failed, {len(done.findings)} findings, {spent:.0f} s")
    return bool(done.findings)


if __name__ == "__main__":
    sys.exit(main())
