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


@pytest.mark.parametrize("program", CASES)
def test_example_runs(program: str, shared_root: Path) -> None:
    environment = os.environ | {"CONTAINERKIT_ROOT": str(shared_root), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
