"""A fresh Python process that keeps containers and times what is done to them.

    python -m benchmarks.kept_worker ROOT REFERENCE

reads requests, one JSON array [name, arguments…] a line, and answers each with one line of JSON.
Times are milliseconds of this process's own clock.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import containerkit as ck
from benchmarks import host

_IDLE = ["/bin/sleep", "100000"]


def timed(action: Callable[[], object], *, count: int = 1, gap: float = 0.0) -> list[float]:
    """Do something `count` times, each after a pause of `gap` seconds."""
    times = []
    for _ in range(count):
        if gap:
            time.sleep(gap)
        begin = time.perf_counter_ns()
        action()
        times.append((time.perf_counter_ns() - begin) / 1e6)
    return times


class Worker:
    """What can be asked for; every public method is a request."""

    def __init__(self, root: str, reference: str) -> None:
        self.root = root
        self.engine = ck.Engine.open(root)
        self.image = self.engine.images.pull(reference, insecure=True)
        self.engine.run(self.image, ["/bin/true"], network="none", check=True)
        self.one: ck.Container | None = None

    def _start(self, *, detached: bool) -> ck.Container:
        return self.engine.start(
            self.image, _IDLE, network="none", lifetime="detached" if detached else "owner"
        )

    # ---- exec

    def container(self) -> None:
        """Have one container for `exec`."""
        if self.one is not None:
            self.one.remove(force=True)
        self.one = self._start(detached=False)

    def exec(self, count: int, gap: float) -> list[float]:
        """Execute true in it."""
        container = self.one
        assert container is not None
        return timed(lambda: container.exec(["/bin/true"]).check(), count=count, gap=gap)

    # ---- parallel

    def parallel(self, count: int, width: int) -> float:
        """Make `count` starts, `width` at a time; return starts per second."""
        with ThreadPoolExecutor(width) as pool:
            list(pool.map(lambda _: None, range(width)))
            begin = time.perf_counter()
            done = pool.map(
                lambda _: self.engine.run(self.image, ["/bin/true"], network="none").exit.ok,
                range(count),
            )
            assert all(done)
            return count / (time.perf_counter() - begin)

    # ---- many detached ones

    def detach(self, count: int) -> list[float]:
        """Start idle detached containers."""
        return timed(lambda: self._start(detached=True), count=count)

    def memory(self) -> float:
        """Return the mean PSS of a detached container's launcher, in KiB."""
        sizes = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cmdline").read_bytes().startswith(b"ck-launcher\0"):
                    sizes.append(pss(process))
            except OSError:
                continue  # it has ended
        return sum(sizes) / len(sizes)

    def listing(self, count: int) -> list[float]:
        """List all containers."""
        return timed(self.engine.containers.list, count=count)

    def opening(self, count: int) -> list[float]:
        """Open the root once more, and close it."""

        def action() -> None:
            opened.append(ck.Engine.open(self.root))

        opened: list[ck.Engine] = []
        times = timed(action, count=count)
        for engine in opened:
            engine.close()
        return times

    def stats(self, count: int) -> list[float]:
        """Read the stats of one container."""
        container = self.engine.containers.list()[0]
        container.stats()
        return timed(container.stats, count=count)

    def clear(self) -> float:
        """Remove all containers; return seconds."""
        containers = self.engine.containers.list(all=True)
        begin = time.perf_counter()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda container: container.remove(force=True), containers))
        return time.perf_counter() - begin


def pss(process: Path) -> int:
    """Return a process's proportional set size in KiB (proc_pid_smaps(5))."""
    for line in (process / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise OSError(f"{process}: no Pss")


def main() -> None:
    host.enter_cgroup("kept")
    worker = Worker(sys.argv[1], sys.argv[2])
    print(json.dumps("ready"), flush=True)
    try:
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            answer: Any = getattr(worker, name)(*arguments)
            print(json.dumps(answer), flush=True)
    finally:
        worker.engine.close()


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main()
