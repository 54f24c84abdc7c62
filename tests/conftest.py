"""Fixtures for every test: what a test needs of the machine, roots, images, and the leak check.

Servers and builders are in tests/support.  A fixture here that is expensive is made once a session.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support import leaks, ocibuild
from tests.support.registry import RegistryServer

if TYPE_CHECKING:
    from containerkit.engine import Engine

HERE = Path(__file__).parent

BASE = leaks.BASE
"""Where engine roots live: a file system that can hold the upper directory of an overlay."""


# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


# ---- what a test needs -------------------------------------------------------------------------


KERNEL = (
    "integration/run",
    "integration/files/test_diff.py",
    "integration/files/test_hostile.py",
    "integration/files/test_not_running.py",
    "integration/files/test_trees.py",
    "integration/logs/test_init.py",
    "integration/logs/test_terminals.py",
    "integration/store",
    "integration/layers/test_whiteouts.py",
    "integration/layers/test_hostile.py",
    "integration/host/test_host_image_run.py",
    "integration/pull/test_pull.py",
    "integration/test_docs.py",
)
"""What `make test-kernel` runs: what asks the kernel, without what takes many processes."""

CGROUP2 = (
    "integration/limits",
    "integration/exec",
    "integration/handles",
    "integration/waits",
    "integration/logs",
    "integration/life",
    "integration/run/test_details.py",
    "integration/run/test_life.py",
)
"""What `make test-cgroup2` runs: what a control group has a part in."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below tests/integration and tests/faults is an integration test, and needs root."""
    kernel = tuple(str(HERE / path) for path in KERNEL)
    cgroup2 = tuple(str(HERE / path) for path in CGROUP2)
    for item in items:
        if {HERE / "integration", HERE / "faults"} & set(item.path.parents):
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.needs("root"))
        if str(item.path).startswith(kernel):
            item.add_marker(pytest.mark.kernel)
        if str(item.path).startswith(cgroup2):
            item.add_marker(pytest.mark.cgroup2)


def missing(feature: str) -> str | None:
    """Say what is missing for `feature` on this machine, or None."""
    if feature == "cgroup2":
        there = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        return None if there else "needs cgroup version 2 with controllers (make test-cgroup2)"
    if feature == "root":
        return None if os.geteuid() == 0 else "needs root: namespaces, mounts and cgroups"
    if shutil.which(feature, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") is None:
        return f"needs the program {feature} (tools/debian-packages test installs it)"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine can not run, naming the missing feature."""
    for mark in item.iter_markers("needs"):
        for feature in mark.args:
            reason = missing(feature)
            if reason:
                pytest.skip(reason)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything must be there, as in a guest of our own, a test that was skipped failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CONTAINERKIT_TEST_NO_SKIP") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# ---- leaks -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail an integration test after which a descriptor, mount, cgroup or process is left.

    It starts before, and ends after, every other fixture of the test; what session fixtures hold
    was there before.  A session fixture that a test makes by `getfixturevalue` counts as a leak:
    ask for it by name.
    """
    if request.node.get_closest_marker("integration") is None:
        yield
        return
    before = leaks.take()
    yield
    left = leaks.settle(before)
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


# ---- roots -------------------------------------------------------------------------------------


def make_root() -> Path:
    BASE.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="ck-test-", dir=BASE))


def remove_root(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=False)
    with contextlib.suppress(OSError):  # others are there
        BASE.rmdir()


@pytest.fixture
def engine_root() -> Iterator[Path]:
    """An engine root of this test alone, on a file system that overlay accepts."""
    root = make_root()
    yield root / "root"
    remove_root(root)


@pytest.fixture(scope="session")
def shared_root() -> Iterator[Path]:
    """One engine root for all tests of the session: images in it stay, containers do not."""
    root = make_root()
    yield root / "root"
    remove_root(root)


@pytest.fixture
def engine(shared_root: Path) -> Iterator[Engine]:
    """An engine on the shared root, for this test: its launcher ends with it."""
    from containerkit.engine import Engine

    with Engine.open(shared_root) as opened:
        yield opened


# ---- images ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def registry() -> Iterator[RegistryServer]:
    """A real registry on loopback, open to everybody, for the whole session."""
    reason = missing("docker-registry")
    if reason:
        pytest.skip(reason)
    with RegistryServer() as server:
        yield server


@pytest.fixture(scope="session")
def busybox(registry: RegistryServer) -> str:
    """The name, in the session's registry, of an image with a shell and its commands."""
    return registry.push("test/busybox:latest", ocibuild.busybox())
