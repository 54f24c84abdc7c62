"""`import containerkit` stays cheap: what is dear loads on first use."""

from __future__ import annotations

import subprocess
import sys

DEAR = ("attr", "attrs", "sqlite3", "urllib3", "tqdm", "asyncio", "containerkit._ck", "zstandard")


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after `statement`."""
    program = f"import sys; before = set(sys.modules); {statement}; "
    program += "print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def test_import_loads_nothing_dear() -> None:
    loaded = loaded_by("import containerkit")
    assert not loaded & set(DEAR)


def test_errors_load_without_the_rest() -> None:
    loaded = loaded_by("import containerkit.errors")
    assert not loaded & set(DEAR)
