"""A sweep's hold on its victim: started, asked, waited for with a deadline, killed."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tests.faults.build import FaultBuild
from tests.support import builds


class Silent(Exception):
    """The victim ended, or did not answer in time."""


class Sufferer:
    """One victim process."""

    def __init__(self, build: FaultBuild, root: Path, image: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.victim", str(root), image],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=build.environment(),
            cwd=builds.PROJECT,
        )
        self.answer(300)

    def tell(self, *request: object) -> None:
        """Send a request."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self, seconds: float) -> Any:
        """Return the next answer.

        Raises:
            Silent: there is none within so many seconds.
        """
        assert self.process.stdout is not None
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        if not poll.poll(seconds * 1000):
            raise Silent(f"no answer within {seconds} s")
        line = self.process.stdout.readline()
        if not line:
            raise Silent(f"it ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, *request: object, seconds: float = 300) -> Any:
        """Send a request and return its answer."""
        self.tell(*request)
        return self.answer(seconds)

    def kill(self) -> None:
        """End it as the kernel would."""
        self.process.send_signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Let it end, and wait for that."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.close()
