"""The Python in the documentation runs: a reader types it as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PAGES = [
    PROJECT / "README.md",
    *sorted((PROJECT / "docs").glob("*.md")),
    *sorted((PROJECT / "docs/guide").glob("*.md")),
]

BLOCK = re.compile(r"(<!-- not run: .*-->\n)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def programs(page: Path) -> list[str]:
    """Return the page's blocks of Python, but for those that a comment above takes out."""
    return [block for spared, block in BLOCK.findall(page.read_text("utf-8")) if not spared]


CASES = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(programs(page), 1)
]


def test_there_are_examples() -> None:
    assert len(programs(PROJECT / "README.md")) >= 2


def run(program: list[str], root: Path) -> str:
    """Run a program of Python with a root of its own, and return what it prints."""
    environment = os.environ | {"CONTAINERKIT_ROOT": str(root), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, *program],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    missing = re.findall(r"^containerkit\.errors\.MissingFeature: (.*)$", done.stderr, re.MULTILINE)
    if missing and os.geteuid():  # not everything that is shown is for ordinary users
        pytest.skip(f"needs what an ordinary user lacks here: {missing[-1]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", CASES)
def test_example_runs(program: str, shared_root: Path) -> None:
    run(["-c", program], shared_root)


def test_a_service_answers_from_its_container(shared_root: Path) -> None:
    said = run(["examples/service.py"], shared_root)
    assert "says <h1>Hello from a container</h1>" in said


def test_of_jobs_at_once_each_ends_its_own_way(shared_root: Path) -> None:
    said = run(["examples/parallel.py"], shared_root)
    ends = {name: end for name, _, end in (line.partition(" ") for line in said.splitlines())}
    assert ends["square"].strip() == "144"
    assert ends["slow"].strip() == "took too long"
