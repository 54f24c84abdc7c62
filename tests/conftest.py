"""Fixtures for every test: what a test needs of the machine, roots, images, and the leak check.

Servers and builders are in tests/support.  A fixture here that is expensive is made once a session.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.rootless import user
from tests.support import leaks, ocibuild
from tests.support.registry import RegistryServer

if TYPE_CHECKING:
    from containerkit.engine import Engine

HERE = Path(__file__).parent

# A shell has what it runs in the background ignore SIGINT, and so would all that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

BASE = leaks.BASE
"""Where engine roots live: a file system that can hold the upper directory of an overlay."""


# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


# ---- what a test needs -------------------------------------------------------------------------


INTEGRATION = ("integration", "faults", "security")

KERNEL = (
    "integration/run",
    "integration/files/test_commit.py",
    "integration/files/test_diff.py",
    "integration/files/test_hostile.py",
    "integration/files/test_not_running.py",
    "integration/files/test_trees.py",
    "integration/logs/test_init.py",
    "integration/logs/test_terminals.py",
    "integration/store",
    "integration/layers/test_whiteouts.py",
    "security/test_layers.py",
    "integration/host/test_host_image_run.py",
    "integration/pull/test_pull.py",
    "integration/test_docs.py",
)
"""What `make test-kernel` runs: what asks the kernel, without what takes many processes."""

CGROUP2 = (
    "integration/care/test_engine.py::test_probe",
    "integration/devices",
    "integration/exec/test_bare_host.py",
    "integration/exec/test_ends.py",
    "integration/exec/test_exec.py::test_a_limit_of_processes",
    "integration/exec/test_exec.py::test_it_is_in_the_containers_namespaces_and_groups",
    "integration/exec/test_exec.py::test_many_at_once",
    "integration/exec/test_exec.py::test_the_container_sees_it_and_no_agent",
    "integration/exec/test_paused.py",
    "integration/exec/test_popen.py::test_a_terminal",
    "integration/files/test_not_running.py::test_the_files_of_a_paused_one",
    "integration/handles/test_detached.py",
    "integration/handles/test_lifecycle.py::test_its_own_stop_signal",
    "integration/handles/test_lifecycle.py::test_removing_a_paused_one",
    "integration/handles/test_lifecycle.py::test_stop_",
    "integration/handles/test_processes.py::test_the_owner_dies",
    "integration/handles/test_processes.py::test_what_a_dead_owner_had",
    "integration/life/test_alone.py",
    "integration/life/test_requests.py",
    "integration/life/test_restarts.py::test_a_pause",
    "integration/life/test_restarts.py::test_a_probe",
    "integration/life/test_restarts.py::test_limits_set_since_hold",
    "integration/life/test_restarts.py::test_stop_ends_it",
    "integration/limits",
    "integration/run/test_details.py::test_devices_open_only_in_dev",
    "integration/run/test_details.py::test_memory_runs_out",
    "integration/run/test_images.py::test_64_layers",
    "integration/run/test_images.py::test_a_mount_through",
    "integration/run/test_images.py::test_started_containers_write_to_disk",
    "integration/run/test_images.py::test_the_host_image",
    "integration/run/test_images.py::test_writes_and_removals",
    "integration/run/test_isolation.py::test_devices",
    "integration/run/test_isolation.py::test_mounts",
    "integration/run/test_isolation.py::test_namespaces_are_its_own",
    "integration/run/test_kills.py::test_a_parked_child_that_was_killed",
    "integration/run/test_kills.py::test_debris_of_every_kind",
    "integration/run/test_life.py::test_the_",
    "integration/run/test_run.py::test_many_at_once",
    "integration/run/test_run.py::test_timeout_kills_all",
    "integration/waits/test_events.py::test_an_end_is_told",
    "integration/waits/test_restarts.py::test_statistics_over_a_restart",
    "integration/waits/test_usage.py",
    "security/test_execve.py::test_marking_alone_lets_execs_out",
    "security/test_execve.py::test_no_path_leads_out[exec-image-",
    "security/test_execve.py::test_no_path_leads_out[probe-image-",
    "security/test_execve.py::test_what_is_open[exec-image-",
    "security/test_devices.py::test_each_defence",
    "security/test_devices.py::test_nodes_made_with",
    "security/test_devices.py::test_rules_hold",
    "security/test_own_files.py",
)
"""What `make test-cgroup2` runs: what a control group has a part in (limits, ends, pauses, execs,
statistics, recovery), and the ways of mounting that are for kernels older than the host's.
"""


CGROUP1 = (
    "test_pages_that_outlive_a_container_are_not_the_nexts",
    "test_stop_does_not_wait_for_who_gets_no_signal",
)
"""Not run with version 2: groups are used again in version 1 alone, and user-mode-linux has no
/proc/PID/syscall (proc_pid_syscall(5)), so that one who waits for a signal can not be told there."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is below INTEGRATION is an integration test, and needs root."""
    kernel = tuple(str(HERE / path) for path in KERNEL)
    # Each a path, or the beginning of a name in it.
    cgroup2 = tuple(str(HERE / path) for path in CGROUP2)
    for item in items:
        if {HERE / name for name in INTEGRATION} & set(item.path.parents):
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.needs("containers"))
        if str(item.path).startswith(kernel):
            item.add_marker(pytest.mark.kernel)
        if f"{item.path}::{item.name}".startswith(cgroup2) and item.name not in CGROUP1:
            item.add_marker(pytest.mark.cgroup2)


def missing(feature: str) -> str | None:
    """Say what is missing for `feature` on this machine, or None."""
    if feature == "cgroup2":
        there = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        return None if there else "needs cgroup version 2 with controllers (make test-cgroup2)"
    if feature == "swap":
        there = len(Path("/proc/swaps").read_text(encoding="utf-8").splitlines()) > 1
        return None if there else "needs swap space"
    if feature == "block device":
        device = os.stat(BASE).st_dev
        there = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").exists()
        return None if there else f"needs a block device below {BASE}"
    if feature == "host root":
        return None if os.geteuid() == 0 else "needs root of the host"
    if feature == "containers":
        return None if os.geteuid() == 0 or user.is_ours() else "needs root, or make test-rootless"
    if feature == "control groups":
        return None if has_groups() else "needs control groups: limits, pauses, statistics"
    if feature == "mounts":
        return None if os.geteuid() == 0 else "needs to mount on the host (CAP_SYS_ADMIN)"
    if feature == "a checkout":
        there = os.access(HERE.parent, os.W_OK)
        return None if there else f"needs to write into {HERE.parent}"
    if feature == "all rights":
        return None if os.geteuid() == 0 else "needs to look into any directory (CAP_DAC_OVERRIDE)"
    if feature == "owners":
        return None if os.geteuid() == 0 else "needs to give files to others (CAP_CHOWN)"
    if feature == "device nodes":
        return None if os.geteuid() == 0 else "needs to make device nodes (CAP_MKNOD)"
    if feature == "ordinary user":
        return None if user.is_ours() else "needs to be an ordinary user (make test-rootless)"
    if feature == "ids":
        there = os.geteuid() == 0 or user.has_ids()
        return None if there else "needs more than one id: subordinate ids (/etc/subuid)"
    if shutil.which(feature, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") is None:
        return f"needs the program {feature} (tools/debian-packages test installs it)"
    return None


@functools.cache
def has_groups() -> bool:
    """Whether this process may make control groups of the kinds that every container is given."""
    from containerkit.care import groups

    found = {feature.name for feature in groups.features() if feature.present}
    return found >= {"cgroup pids", "cgroup memory", "cgroup cpu", "cgroup freezer"}


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
    leaks.note_roots(root)
    if os.geteuid():
        remove_files_of_others(root)
    shutil.rmtree(root, ignore_errors=False)
    with contextlib.suppress(OSError):  # others are there
        BASE.rmdir()


def remove_files_of_others(place: Path) -> None:
    """Remove what only a process in the user namespace of a root can, of the roots in a directory."""
    from containerkit.state.atomic import remove_tree

    for directory in place.glob("*/*/"):
        if directory.name != "owners":  # by which a root is known
            remove_tree(directory)


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
