"""Paths that an image or a container chose: they lead nowhere but within it.

CVE-2018-15664, 2019-14271, 2021-29136, 2022-23648, 2024-21626, 2026-55686: links, `..` and magic links
under what the engine reads, writes and enters.  The same holds where there is no openat2(2): `make
test-no-openat2`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import ContainerKitError, LaunchError
from containerkit.runtime.files import Files
from tests.support import ocibuild, tars

SECRET = "outside"


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host that nothing may read or change."""
    top = tmp_path / "canary"
    top.mkdir()
    (top / "secret").write_text(SECRET)
    before = tars.describe(top, times=False)
    yield top
    assert tars.describe(top, times=False) == before


@pytest.fixture
def box(engine: ck.Engine, hostile: str, canary: Path) -> Iterator[ck.Container]:
    """A container in which links of every kind lead to where the canary is on the host."""
    with engine.start(hostile, ["sleep", "100000"]) as one:
        top = Path(f"/proc/{one.pid}/root/links")
        top.mkdir()
        for name, target in {
            "absolute": f"{canary}",
            "dots": f"{'../' * 20}{canary}",
            "root": f"/proc/self/root{canary}",
            "init": f"/proc/1/root{canary}",
            "cwd": f"/proc/self/cwd/{'../' * 20}{canary}",
            "chain": "absolute",
            "thread": f"/proc/thread-self/root{canary}",
        }.items():
            (top / name).symlink_to(target)
        yield one


LINKS = ["absolute", "dots", "root", "init", "cwd", "chain", "thread"]

CALLS: dict[str, Callable[[Files, str, Path], object]] = {
    "read": lambda files, path, _: files.read_text(f"{path}/secret"),
    "write": lambda files, path, _: files.write_text(f"{path}/secret", "changed"),
    "write new": lambda files, path, _: files.write_text(f"{path}/new", "changed"),
    "open": lambda files, path, _: files.open(f"{path}/secret", "w").close(),
    "list": lambda files, path, _: files.list(path),
    "mkdir": lambda files, path, _: files.mkdir(f"{path}/a/b", parents=True),
    "remove": lambda files, path, _: files.remove(f"{path}/secret"),
    "rename": lambda files, path, _: files.rename(f"{path}/secret", f"{path}/other"),
    "put": lambda files, path, local: files.put(local, f"{path}/put"),
    "get": lambda files, path, local: files.get(f"{path}/", local / "got"),
    "extract": lambda files, path, _: files.extract(path, ocibuild.tar([("x/y", "z")])),
    "archive": lambda files, path, _: files.archive(f"{path}/.").read(),
}


def test_calls_through_links(box: ck.Container, tmp_path: Path) -> None:
    """Each is refused: in the container there is nothing where the links lead."""
    local = tmp_path / "local"
    local.mkdir()
    for link in LINKS:
        for name, call in CALLS.items():
            with pytest.raises(ContainerKitError):
                call(box.files, f"/links/{link}", local)
                pytest.fail(f"{name} through {link}")
        assert not box.files.exists(f"/links/{link}/secret")
    assert not (local / "got").exists()


def test_the_control(box: ck.Container) -> None:
    """From this side they lead there."""
    for link in ("absolute", "chain"):
        assert Path(f"/proc/{box.pid}/root/links/{link}/secret").read_text() == SECRET


def test_directories_by_descriptor(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    """CVE-2024-21626: nothing of ours is open where a working directory could lead."""
    leaked = os.open("/", os.O_PATH)
    os.set_inheritable(leaked, True)
    try:
        for number in (3, 4, 5, 7, 9, 12, leaked):
            for path in (f"/proc/self/fd/{number}", f"/proc/1/fd/{number}", "/proc/self/cwd"):
                with pytest.raises(LaunchError):
                    engine.run(hostile, ["pwd"], workdir=path, security=security)
    finally:
        os.close(leaked)


def test_secrets_go_into_their_own_mount(engine: ck.Engine, hostile: str, tmp_path: Path) -> None:
    """Not to where somebody on a shared volume has the path lead."""
    (tmp_path / "secrets").mkdir()
    mounts = [ck.Mount.bind(tmp_path, "/run")]
    result = engine.run(
        hostile, ["cat", "/run/secrets/k"], text=True, mounts=mounts, secrets={"k": SECRET}
    )
    assert result.stdout == SECRET
    assert os.listdir(tmp_path / "secrets") == []
