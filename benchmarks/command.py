"""Running programs and failing with their own words when they fail.

Owns nothing but the wrapping of `subprocess`; every other module of the benchmarks calls it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class BenchmarkError(RuntimeError):
    """A step of the benchmark failed; the message names it and quotes the end of its output."""


def call(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 1800.0,
) -> str:
    """Run a program to its end and return its standard output.

    It is killed after `timeout` seconds.

    Raises:
        BenchmarkError: It exited with another code than 0.
    """
    words = [str(word) for word in argv]
    done = subprocess.run(
        words,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        tail = (done.stderr or done.stdout).decode(errors="replace")[-2000:].strip()
        raise BenchmarkError(f"cannot run {' '.join(words)}: exit code {done.returncode}: {tail}")
    return done.stdout.decode(errors="replace")
