"""Masks: what of /proc and /sys tells of, or changes, the host's hardware is covered by nothing.

CVE-2017-16539, 2018-10892, GHSA-jq35-85cj-fj4p, GHSA-6fw5-f8r9-fgfm.  CVE-2025-31133: what covers it is
the launcher's own, never something of the container's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.launch.defaults import MASKED_PATHS, READ_ONLY_PATHS
from containerkit.launch.ops import Code
from containerkit.runtime import facts
from tests.security import plans
from tests.support import ocibuild
from tests.support.registry import RegistryServer

HERE = [path for path in MASKED_PATHS if Path(path).exists()]
"""Of the paths, those that this kernel has."""

TOLD = "/proc/interrupts"
"""Of this every kernel has something to say."""


@pytest.fixture(autouse=True)
def core_pattern() -> Iterator[None]:
    path = Path("/proc/sys/kernel/core_pattern")
    before = path.read_bytes()
    yield
    assert path.read_bytes() == before


def look(engine: ck.Engine, image: str, security: ck.Security, paths: list[str]) -> dict[str, str]:
    """Return, of each path, what is in it, and whether anything could be written."""
    script = """
        for path; do
            if test -d $path; then seen=$(ls -A $path | head -n 1)
            else seen=$(head -c 8 $path | tr -c a-zA-Z0-9 .); fi
            (echo x >$path/x || echo x >$path) 2>/dev/null && seen=written
            test -c $path && seen=device
            echo "$path=$seen"
        done
    """
    result = engine.run(
        image, ["sh", "-c", script, "sh", *paths], text=True, security=security, user=0
    )
    return dict(line.split("=", 1) for line in result.stdout.splitlines())


def test_they_are_empty(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    assert TOLD in HERE
    assert look(engine, hostile, security, HERE) == dict.fromkeys(HERE, "")


def test_the_control(engine: ck.Engine, hostile: str) -> None:
    with plans.without(Code.MASK):
        assert all(look(engine, hostile, ck.Security.default(), [TOLD]).values())


def test_what_covers_them(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    """One file and one directory for all of them, of a read-only mount."""
    result = engine.run(hostile, ["cat", "/proc/self/mountinfo"], text=True, security=security)
    table = {line.split()[4]: line.split() for line in result.stdout.splitlines()}
    here = [path for path in HERE if f"/{path.split('/')[1]}" in table]  # strict has no /sys
    assert TOLD in here
    assert set(here) <= table.keys()
    assert {table[path][3] for path in here} <= {"/file", "/empty"}
    for path in here:
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(table[path][5].split(",")), path


@pytest.mark.parametrize("target", ["/proc/sys/kernel/core_pattern", "/etc/passwd"])
def test_an_images_null_covers_nothing(
    engine: ck.Engine, registry: RegistryServer, security: ck.Security, target: str
) -> None:
    files = {f"dev/{name}": ocibuild.symlink(target) for name in ("null", "zero", "console")}
    image = registry.push(f"test/null-{target[1:4]}:latest", ocibuild.busybox(files))
    assert look(engine, image, security, HERE) == dict.fromkeys(HERE, "")


def test_hardware_of_this_host(
    engine: ck.Engine, hostile: str, security: ck.Security, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has other names on each machine: the throttling of each processor, above all."""
    monkeypatch.setattr(facts, "HARDWARE", ("/sys/devices/system/cp[u]",))
    facts.hardware.cache_clear()
    try:
        with ck.Engine.open(engine.root) as fresh:
            path = "/sys/devices/system/cpu"
            assert look(fresh, hostile, security, [path]) == {path: ""}
    finally:
        facts.hardware.cache_clear()
    monkeypatch.undo()
    with ck.Engine.open(engine.root) as fresh:
        assert all(look(fresh, hostile, ck.Security.default(), [path]).values())


def test_paths_of_ones_own(engine: ck.Engine, hostile: str) -> None:
    security = ck.Security(masked_paths=["/etc/passwd", "/home", "/nowhere"])
    assert look(engine, hostile, security, ["/etc/passwd", "/home"]) == {
        "/etc/passwd": "",
        "/home": "",
    }


def test_a_mask_through_a_link(engine: ck.Engine, registry: RegistryServer) -> None:
    """It would cover something else than it says: better no start."""
    files = {"data": ocibuild.symlink("/etc")}
    image = registry.push("test/mask-link:latest", ocibuild.busybox(files))
    with pytest.raises(ck.LaunchError, match="hide /data/passwd"):
        engine.run(image, ["true"], security=ck.Security(masked_paths=["/data/passwd"]))


def writable(engine: ck.Engine, image: str, security: ck.Security) -> list[str]:
    """Return which files below the read-only paths can be opened for writing, of a few."""
    paths = ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches"]
    assert all(path.startswith(READ_ONLY_PATHS) for path in paths)
    script = "for path; do (exec 3<>$path) 2>/dev/null && echo $path; done; true"
    command = ["sh", "-c", script, "sh", *paths]
    return engine.run(image, command, text=True, security=security, user=0).stdout.split()


def test_read_only_paths(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    assert writable(engine, hostile, security) == []


@pytest.mark.needs("host root")
def test_the_control_of_read_only_paths(engine: ck.Engine, hostile: str) -> None:
    with plans.without(Code.READ_ONLY):
        assert "/proc/sys/kernel/core_pattern" in writable(engine, hostile, ck.Security.default())
