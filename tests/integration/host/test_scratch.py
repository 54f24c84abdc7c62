"""A Python that lives in /tmp is there also where /tmp is a tmpfs: a checkout may lie anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = """
import sys
import containerkit as ck

script = "import os, sys; open('/tmp/new', 'w'); print(sys.prefix, sorted(os.listdir('/tmp')))"
options = {"strict": {"security": ck.Security.strict()}, "tmpfs": {"mounts": [ck.Mount.tmpfs("/tmp")]}}
with ck.Engine.open(sys.argv[1]) as engine:
    for command in (sys.executable, "python3"):
        result = engine.run(None, [command, "-c", script], text=True, **options[sys.argv[2]])
        print(result.stdout + result.stderr, end="")
"""


@pytest.fixture
def venv() -> Iterator[Path]:
    place = tempfile.mkdtemp(prefix="ck-test-venv-", dir="/tmp")
    os.chmod(place, 0o755)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    yield Path(place)
    shutil.rmtree(place)


@pytest.mark.parametrize("kind", ["strict", "tmpfs"])
def test_a_python_in_tmp(venv: Path, engine_root: Path, kind: str) -> None:
    """By its path and by its name; of the rest of the host's /tmp nothing is there."""
    source = Path(__file__).parents[3] / "src"
    env = {**os.environ, "PYTHONPATH": f"{source}:{sysconfig.get_path('purelib')}"}
    done = subprocess.run(
        [venv / "bin" / "python", "-c", PROGRAM, engine_root, kind],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    expected = f"{venv} ['{venv.name}', 'new']"
    assert done.stdout.splitlines() == [expected, expected], done.stdout + done.stderr
