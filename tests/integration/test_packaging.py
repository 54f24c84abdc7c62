"""What a user installs: one wheel with the extension, the launcher and the types in it."""

from __future__ import annotations

import os
import platform
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
MACHINE = platform.machine()


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


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What `make wheel` builds."""
    into = tmp_path_factory.mktemp("wheels")
    subprocess.run(
        [sys.executable, "tools/wheels.py", "--into", into],
        cwd=PROJECT,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return sorted(into.glob("*.whl"))


def of(libc: str, wheels: list[Path]) -> Path:
    [found] = [wheel for wheel in wheels if f"{libc}linux_" in wheel.name]
    return found


@pytest.mark.needs("a checkout")
@pytest.mark.slow
def test_the_wheel_holds_everything_and_works_alone(wheels: list[Path], tmp_path: Path) -> None:
    """By its tag pip takes it, and an index; the floor is that of manylinux2014."""
    wheel = of("many", wheels)
    assert f"-cp311-abi3-manylinux2014_{MACHINE}.manylinux_2_17_{MACHINE}.whl" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {
        "containerkit/_ck.abi3.so",
        "containerkit/ck-launcher",
        "containerkit/py.typed",
    } <= names
    assert not [name for name in names if name.startswith(("tests", "_native", "benchmarks"))]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    place = ["--no-index", "--no-deps", "--target", str(tmp_path / "site")]
    subprocess.run([*pip, *place, wheel], check=True)
    program = "import containerkit as ck; print(ck.__file__); ck.run(None, ['true']).check()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)


@pytest.mark.needs("a checkout")
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("musl-gcc") is None, reason="needs musl-gcc")
def test_the_wheel_for_musl_needs_musl_alone(wheels: list[Path], tmp_path: Path) -> None:
    """Before 3.13 a Python that is built with musl has no `os.getxattr`, so that pip must not take it."""
    wheel = of("musl", wheels)
    assert wheel.name.endswith(f"-cp313-abi3-musllinux_1_2_{MACHINE}.whl")
    with zipfile.ZipFile(wheel) as archive:
        extension = archive.extract("containerkit/_ck.abi3.so", tmp_path)
        launcher = archive.extract("containerkit/ck-launcher", tmp_path)
    show = ["readelf", "--dynamic", "--wide", extension]
    dynamic = subprocess.run(show, check=True, capture_output=True, text=True).stdout
    needed = [line.split("[")[1].rstrip("]") for line in dynamic.splitlines() if "NEEDED" in line]
    assert needed == [f"libc.musl-{MACHINE}.so.1"]
    assert "INTERP" not in sections(Path(launcher))
