"""The ways a start is made and timed: a peer's program, or a process that starts on request.

A runner's `block` makes some starts one after the other and returns their times; what is between
the blocks of a run is the start section's affair.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.command import BenchmarkError


class Runner(Protocol):
    """Something that can start /bin/true in a container, again and again."""

    name: str

    def block(self, count: int, *, gap: float = 0.0, drain: bool = False) -> list[float]:
        """Make `count` starts, each after a pause of `gap` seconds; return milliseconds each."""


class Command:
    """A peer's command line, spawned (never forked) and waited for; `{id}` becomes a fresh id."""

    _ids = itertools.count()

    def __init__(
        self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self._env = dict(os.environ | (env or {}))
        self._null = os.open(os.devnull, os.O_RDWR)

    def _spawn(self) -> int:
        argv = [word.replace("{id}", f"bench-{next(self._ids)}") for word in self.argv]
        actions = [(os.POSIX_SPAWN_DUP2, self._null, fd) for fd in range(3)]
        pid = os.posix_spawn(argv[0], argv, self._env, file_actions=actions)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def block(self, count: int, *, gap: float = 0.0, drain: bool = False) -> list[float]:  # noqa: ARG002
        times = []
        for _ in range(count):
            if gap:
                time.sleep(gap)
            begin = time.perf_counter_ns()
            code = self._spawn()
            times.append((time.perf_counter_ns() - begin) / 1e6)
            if code != 0:
                raise BenchmarkError(f"{' '.join(self.argv)} exited with {code}")
        return times

    def check(self) -> None:
        """Start once and fail with the program's own words."""
        argv = [word.replace("{id}", f"bench-{next(self._ids)}") for word in self.argv]
        done = subprocess.run(
            argv, env=self._env, capture_output=True, stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode != 0:
            raise BenchmarkError(f"{self.name}: {done.stderr.decode(errors='replace').strip()}")


class Server:
    """A process that speaks the line protocol of limit.c."""

    def __init__(self, name: str, argv: Sequence[str | Path], *, greets: bool) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        if greets and self._answer() != "ready":
            raise BenchmarkError(f"{name} did not start")

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError(f"{self.name} ended with {self._process.wait()}")
        return line.strip()

    def block(self, count: int, *, gap: float = 0.0, drain: bool = False) -> list[float]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count} {int(gap * 1e6)} {'drain' if drain else ''}\n")
        self._process.stdin.flush()
        times = []
        while (line := self._answer()) != ".":
            latency, total = line.split()
            times.append(int(latency if gap else total) / 1e6)
        return times

    def close(self) -> None:
        """End of file ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
