"""Rights that a file gives to whoever executes it do not come out of a container with the file.

Set-user-id and set-group-id bits and file capabilities, of what a container made, by every way out:
`files.get` of one file, of a tree, with the owner kept, and over a file that is there.  The caller is
root: on the host such a file would be root's.  What the caller puts in arrives as it is, and gives
nothing there either (no_new_privs).
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.runtime.copies import Rules
from tests.security.inside import calls, outcome

pytestmark = pytest.mark.needs("host root")

CAPABILITY = "security.capability"
# struct vfs_ns_cap_data (linux/capability.h), revision 2: all of them, effective
ALL_RIGHTS = bytes.fromhex("01000002ffffffff00000000ff01000000000000")
GIVE = calls(
    ("setxattr", b"/tree/able\0", CAPABILITY.encode() + b"\0", ALL_RIGHTS, len(ALL_RIGHTS), 0)
)
MAKE = (
    "mkdir -m 2777 /tree && cp /attacks/call /tree/su && chmod 6755 /tree/su"
    " && ln /tree/su /tree/again && cp /attacks/call /tree/able && chmod 755 /tree/able"
)


@pytest.fixture
def box(engine: ck.Engine, hostile: str) -> Iterator[ck.Container]:
    with engine.start(hostile, ["sleep", "100000"]) as started:
        started.exec(["sh", "-c", MAKE], check=True)
        assert outcome(started.exec(GIVE, text=True)) == [0]
        yield started


def gives(place: Path) -> set[str]:
    """Return what in a tree, or which file, gives rights."""
    found = set()
    for path in [place, *place.rglob("*")]:
        if path.is_file() and path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID):
            found.add(path.name)
        if CAPABILITY in os.listxattr(path):
            found.add(path.name)
    return found


def take(box: ck.Container, place: Path) -> set[str]:
    for name in ("su", "again", "able"):
        box.files.get(f"/tree/{name}", place / name)
        box.files.get(f"/tree/{name}", place / f"kept-{name}", owner="keep")
    (place / "there").write_bytes(b"x")
    (place / "there").chmod(0o4755)
    box.files.get("/tree/su", place / "there")
    box.files.get("/tree", place / "tree")
    box.files.get("/tree", place / "kept", owner="keep")
    return gives(place)


@pytest.mark.needs("owners")
def test_they_stay_inside(box: ck.Container, tmp_path: Path) -> None:
    assert take(box, tmp_path) == set()


@pytest.mark.needs("owners")
def test_the_control(box: ck.Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rules, "mode", lambda _, status: stat.S_IMODE(status.st_mode))
    monkeypatch.setattr(Rules, "takes", lambda _, name: name == CAPABILITY)
    assert {"su", "again", "able", "there", "kept-su"} <= take(box, tmp_path)


def test_what_is_put_in_gives_nothing(
    engine: ck.Engine, hostile: str, security: ck.Security, attacks: Path, tmp_path: Path
) -> None:
    """A program that the host's root may run as root: over one of the container's own, too."""
    shutil.copy(attacks / "call", tmp_path / "su")
    (tmp_path / "su").chmod(0o6755)
    script = "cp /attacks/call /tmp/su; chmod 4777 /tmp/su"
    with engine.start(hostile, ["sleep", "100000"], security=security, user="1000") as box:
        box.exec(["sh", "-c", script], check=True)
        box.files.put(tmp_path / "su", "/tmp/su")
        number = calls(("geteuid",))[1]
        assert outcome(box.exec(["/tmp/su", number], text=True)) == [1000]


def test_by_new_privileges_it_would(
    engine: ck.Engine, hostile: str, tmp_path: Path, attacks: Path
) -> None:
    """The control."""
    shutil.copy(attacks / "call", tmp_path / "su")
    (tmp_path / "su").chmod(0o6755)
    security = ck.Security(no_new_privileges=False)
    with engine.start(hostile, ["sleep", "100000"], security=security, user="1000") as box:
        box.files.put(tmp_path / "su", "/home/su")
        number = calls(("geteuid",))[1]
        assert outcome(box.exec(["/home/su", number], text=True)) == [0]
