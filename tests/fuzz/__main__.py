"""Each fuzz target of the C core for some seconds, then a table.

    python -m tests.fuzz [--seconds S] [TARGET …]

What is new in a run is kept in ``.cache/fuzz``, and the next one goes on from there.  An input that
is a finding is put into ``tests/fuzz/corpus``, where `make test` replays it; the program ends with 1.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import seeds

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
OUT = HERE.parent.parent / ".cache" / "fuzz"

LONGEST = 8192
"""Bytes of an input: larger ones show no more, and take longer."""

ENVIRONMENT = {
    "ASAN_OPTIONS": "allow_addr2line=1:quarantine_size_mb=16",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


class Result(NamedTuple):
    """What came of one target."""

    target: str
    executions: int
    new: int
    edges: int
    findings: list[Path]


def fuzz(target: str, seconds: int) -> Result:
    """Run one target; what it prints is kept beside its corpus, and shown when it found something."""
    work, seed, found = (OUT / kind / target for kind in ("corpus", "seeds", "found"))
    seeds.write(target, seed)
    for folder in (work, found, CORPUS / target):
        folder.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": seconds,
        "max_len": LONGEST,
        "timeout": 60,  # an input takes 1 ms; but a machine may be busy
        "report_slow_units": 60,
        "print_final_stats": 1,
        "artifact_prefix": f"found/{target}/",
    }
    command = [
        str(OUT / f"{target}.fuzz"),
        *(f"-{name}={value}" for name, value in options.items()),
        f"corpus/{target}",
        os.path.relpath(CORPUS / target, OUT),
        f"seeds/{target}",
    ]
    log = OUT / f"{target}.log"
    with log.open("wb") as output:
        code = subprocess.run(
            command, stderr=output, cwd=OUT, env={**os.environ, **ENVIRONMENT}, check=False
        ).returncode
    text = log.read_text(errors="replace")
    findings = []
    for path in sorted(found.iterdir()):
        findings.append(path.replace(CORPUS / target / path.name))
    if code and not findings:
        findings.append(log)
    if findings:
        sys.stderr.write(text[-8000:])
    return Result(
        target,
        _last(r"stat::number_of_executed_units: *(\d+)", text),
        _last(r"stat::new_units_added: *(\d+)", text),
        _last(r" cov: (\d+)", text),
        findings,
    )


def _last(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(seeds.SEEDS))
    chosen = parser.parse_args()
    subprocess.run(["make", "-s", "-C", HERE, "targets"], check=True)
    print(f"{'target':<10} {'executions':>12} {'new paths':>10} {'edges':>7} {'findings':>9}")
    failed = False
    for target in chosen.targets or seeds.SEEDS:
        result = fuzz(target, chosen.seconds)
        failed |= bool(result.findings)
        print(
            f"{target:<10} {result.executions:>12,} {result.new:>10,} {result.edges:>7,} "
            f"{len(result.findings):>9}",
            flush=True,
        )
        for path in result.findings:
            print(f"  {os.path.relpath(path)}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
