"""What a user installs: one wheel with the extension, the launcher and the types in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import containerkit

PROJECT = Path(__file__).parents[2]
LAUNCHER = Path(containerkit.__file__).with_name("ck-launcher")
LIMIT = 200 * 1024


def sections(program: Path) -> str:
    done = subprocess.run(
        ["readelf", "--program-headers", "--wide", program],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_the_launcher_needs_nothing_of_the_system() -> None:
    headers = sections(LAUNCHER)
    assert "INTERP" not in headers
    assert "GNU_RELRO" in headers or "DYNAMIC" not in headers


def test_no_memory_of_the_launcher_is_writable_and_executable() -> None:
    assert not [line for line in sections(LAUNCHER).splitlines() if "RWE" in line]


@pytest.mark.skipif(shutil.which("musl-gcc") is None, reason="needs musl-gcc: glibc is larger")
def test_the_launcher_is_small() -> None:
    assert LAUNCHER.stat().st_size <= LIMIT


@pytest.mark.needs("a checkout")
@pytest.mark.slow
def test_the_wheel_holds_everything_and_works_alone(tmp_path: Path) -> None:
    build = ["build", f"--build-base={tmp_path}/build"]
    wheel = ["bdist_wheel", f"--dist-dir={tmp_path}", f"--bdist-dir={tmp_path}/parts"]
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", *build, *wheel],
        cwd=PROJECT,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    [built] = tmp_path.glob("*.whl")
    assert "-cp311-abi3-linux_" in built.name
    with zipfile.ZipFile(built) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert {
        "containerkit/_ck.abi3.so",
        "containerkit/ck-launcher",
        "containerkit/py.typed",
    } <= names
    assert not [name for name in names if name.startswith(("tests", "_native", "benchmarks"))]
    program = "import containerkit, containerkit._ck; print(containerkit.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)
