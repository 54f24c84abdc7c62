"""A root directory where somebody else could have written, before it was opened, is not opened.

What lies in its parts is executed, believed and, when nobody uses it, removed: `containers` that leads
elsewhere is how another user has files removed there.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import ConfigError, ContainerKitError, PermissionDenied
from containerkit.state import root as roots

PARTS = ("blobs", "blobs/sha256", "containers", "host", "ingest", "layers", "owners", "volumes")
ANYBODY = 0o777


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory of the caller's, which a recovery would take for debris of containers."""
    (tmp_path / "victim" / "home").mkdir(parents=True)
    (tmp_path / "victim" / "home" / "letter").write_text("dear")
    return tmp_path / "victim"


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_a_link(part: str, engine_root: Path, victim: Path) -> None:
    shutil.rmtree(engine_root, ignore_errors=True)
    (engine_root / part).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    (engine_root / part).symlink_to(victim)
    engine_root.chmod(0o700)
    with pytest.raises(ConfigError, match="not a directory"):
        ck.Engine.open(engine_root)
    assert (victim / "home" / "letter").exists()


def test_the_control_of_links(
    engine_root: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ck.Engine.open(engine_root):
        pass
    (engine_root / "containers").rmdir()
    (engine_root / "containers").symlink_to(victim)
    monkeypatch.setattr(roots, "_make_part", lambda *_: None)
    with ck.Engine.open(engine_root):
        assert not (victim / "home").exists()


@pytest.mark.parametrize("part", ["layers", "owners"])
def test_a_part_that_anybody_writes_to(part: str, engine_root: Path) -> None:
    with ck.Engine.open(engine_root):
        pass
    (engine_root / part).chmod(ANYBODY)
    with pytest.raises(PermissionDenied, match="other users may write"):
        ck.Engine.open(engine_root)
    (engine_root / part).chmod(0o700)
    with ck.Engine.open(engine_root):
        pass


@pytest.mark.needs("owners")
def test_a_part_of_somebody_else(engine_root: Path) -> None:
    with ck.Engine.open(engine_root):
        pass
    os.chown(engine_root / "layers", 12345, 12345)
    with pytest.raises(PermissionDenied, match="belongs to user 12345"):
        ck.Engine.open(engine_root)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_root_that_others_could_fill(mode: int, engine_root: Path) -> None:
    with ck.Engine.open(engine_root):
        pass
    engine_root.chmod(mode)
    with pytest.raises(PermissionDenied, match="other users may write"):
        ck.Engine.open(engine_root)
    assert stat.S_IMODE(engine_root.stat().st_mode) == mode


def test_an_empty_one_is_closed_and_used(tmp_path: Path) -> None:
    """The control: a mounted volume is often as open as that."""
    place = tmp_path / "volume"
    (place / "lost+found").mkdir(parents=True)
    place.chmod(ANYBODY)
    roots.StoreRoot.open(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


@pytest.mark.parametrize("way", ["itself", "a link"])
def test_a_directory_of_other_things_stays_open(way: str, tmp_path: Path) -> None:
    """As /etc would not, to all who need it: also by a link that somebody made of the root's name."""
    place = tmp_path / "etc"
    place.mkdir(mode=0o755)
    (place / "passwd").touch()
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(ContainerKitError, match="something else"):
        roots.StoreRoot.open(place if way == "itself" else tmp_path / "link")
    assert stat.S_IMODE(place.stat().st_mode) == 0o755
    assert os.listdir(place) == ["passwd"]
