"""A root directory is private, on a local disk, and its owner's."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path
from unittest import mock

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


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    monkeypatch.setattr(os, "getuid", lambda: 4321)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: mock.Mock(pw_dir="/home/me"))
    for name in ("CONTAINERKIT_ROOT", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("home", "data", "found"),
    [
        (None, None, "/home/me/.local/share/containerkit"),
        ("", "", "/home/me/.local/share/containerkit"),
        (
            "here",
            "there",
            "/home/me/.local/share/containerkit",
        ),  # no directory is in the present one
        ("/h", "there", "/h/.local/share/containerkit"),
        ("/h", "/d", "/d/containerkit"),
    ],
)
def test_an_ordinary_users_root_is_in_its_home(
    ordinary: pytest.MonkeyPatch, home: str | None, data: str | None, found: str
) -> None:
    for name, value in (("HOME", home), ("XDG_DATA_HOME", data)):
        if value is not None:
            ordinary.setenv(name, value)
    assert default_root() == Path(found)


def test_who_has_no_home_is_told_so(ordinary: pytest.MonkeyPatch) -> None:
    ordinary.setattr(pwd, "getpwuid", mock.Mock(side_effect=KeyError))
    with pytest.raises(ConfigError, match="4321: it has no home") as caught:
        StoreRoot.open()
    assert "CONTAINERKIT_ROOT" in str(caught.value.hint)


UMASK = """
import os, sys
from containerkit.errors import ConfigError
from containerkit.state.root import StoreRoot
os.umask(int(sys.argv[2], 8))
try:
    StoreRoot.open(sys.argv[1])
except ConfigError as error:
    print(error)
"""


def opened_with(umask: str, path: Path, *, uid: int = os.geteuid()) -> str:
    code = f"import os; os.geteuid = lambda: {uid}\n{UMASK}"
    command = [sys.executable, "-c", code, str(path), umask]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_no_umask_opens_what_is_made_on_the_way_to_everybody(tmp_path: Path) -> None:
    assert opened_with("0", tmp_path / "a/b/root") == ""
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/root")]
    assert modes == [0o755, 0o755, 0o700]


def test_a_umask_that_keeps_the_owner_out_is_refused(tmp_path: Path) -> None:
    said = opened_with("0777", tmp_path / "root", uid=os.geteuid() or 4321)
    assert "umask 0777" in said
    assert not (tmp_path / "root").exists()


def test_a_boot_has_one_id() -> None:
    assert boot_id() == boot_id() != ""
