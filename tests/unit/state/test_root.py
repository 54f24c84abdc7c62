"""A root directory is private, on a local disk, and its owner's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from containerkit.errors import ConfigError, MissingFeature, PermissionDenied
from containerkit.state.root import (
    NETWORK_FILE_SYSTEMS,
    StoreRoot,
    boot_id,
    check_file_system,
    default_root,
    file_system_of,
    file_system_type,
)

MOUNTINFO = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 22 0:27 / /srv\\040data rw,nosuid shared:5 master:2 - nfs4 server:/x rw,vers=4.2
"""


def test_a_new_root_is_private_in_every_part(tmp_path: Path) -> None:
    root = StoreRoot.open(tmp_path / "a/root")
    parts = [root.path, *(path for path in root.path.rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in parts} == {0o700}
    assert {path.name for path in parts} >= {"blobs", "ingest", "layers", "containers"}


def test_an_empty_path_is_not_the_present_directory() -> None:
    with pytest.raises(ConfigError, match="empty"):
        StoreRoot.open("")


def test_a_root_open_to_others_is_closed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir(mode=0o755)
    StoreRoot.open(tmp_path / "root")
    assert stat.S_IMODE((tmp_path / "root").stat().st_mode) == 0o700


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    first = StoreRoot.open(tmp_path / "root")
    (first.path / "volumes" / "v").mkdir()
    assert StoreRoot.open(tmp_path / "root").path == first.path
    assert (first.path / "volumes" / "v").is_dir()


def test_a_file_is_no_root(tmp_path: Path) -> None:
    (tmp_path / "root").touch()
    with pytest.raises(ConfigError, match="not a directory"):
        StoreRoot.open(tmp_path / "root")


@pytest.mark.needs("host root")
def test_another_users_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    os.chown(tmp_path / "root", 12345, 12345)
    with pytest.raises(PermissionDenied, match="belongs to user 12345"):
        StoreRoot.open(tmp_path / "root")
    assert os.listdir(tmp_path / "root") == []


def test_the_file_system_is_found_by_mount_id() -> None:
    assert file_system_type("31", MOUNTINFO) == "nfs4"
    assert file_system_type("22", MOUNTINFO) == "ext4"
    assert file_system_type("3", MOUNTINFO) is None


def test_the_kernel_names_the_file_system_of_an_open_file() -> None:
    fd = os.open("/proc/self", os.O_RDONLY)
    try:
        assert file_system_of(fd) == "proc"
    finally:
        os.close(fd)


def test_network_file_systems_are_refused(tmp_path: Path) -> None:
    for kind in sorted(NETWORK_FILE_SYSTEMS):
        with pytest.raises(MissingFeature, match="is a network file system"):
            check_file_system(kind, tmp_path)
    check_file_system("ext4", tmp_path)
    check_file_system(None, tmp_path)


def test_the_environment_names_the_default_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINERKIT_ROOT", "/somewhere/else")
    assert default_root() == Path("/somewhere/else")


def test_a_boot_has_one_id() -> None:
    assert boot_id() == boot_id() != ""
