"""The host image as a value: found again fast, made once, made again when the host changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from containerkit.errors import ConfigError
from containerkit.images import host, host_ref
from containerkit.images.host import HostImage, host_image
from containerkit.images.host_ref import HostRef
from containerkit.model.rootfs import HostBind, Overlay


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir(mode=0o700)
    return tmp_path / "root"


def forget() -> None:
    """Become as a process that has asked for nothing yet."""
    host._known.clear()


def keys(root: Path) -> list[str]:
    return sorted(name for name in os.listdir(root / "host") if len(name) == 32)


def overlay(image: HostImage, target: str) -> Overlay | HostBind:
    return next(mount for mount in image._rootfs.mounts if mount.target == target)


def test_the_image(root: Path) -> None:
    image = host_image(root)
    assert image.id.startswith("sha256:")
    assert image.config.entrypoint == ()
    assert image.config.cmd == ("/bin/sh",)
    search_path = dict(entry.split("=", 1) for entry in image.config.env)["PATH"].split(":")
    assert search_path[0] == os.path.dirname(sys.executable)
    assert {"/usr/bin", "/bin"} <= set(search_path)
    assert image._rootfs.mounts[0] == Overlay("/", (f"{image._tree}/skeleton",))
    assert overlay(image, "/usr") == Overlay("/usr", ("/usr",))
    assert (root / image._tree / "skeleton" / "etc" / "passwd").is_file()


def test_modes_do_not_depend_on_the_umask(root: Path) -> None:
    before = os.umask(0o077)
    try:
        skeleton = root / host_image(root)._tree / "skeleton"
    finally:
        os.umask(before)
    modes = {name: (skeleton / name).stat().st_mode & 0o7777 for name in ("", "tmp", "etc", "usr")}
    assert modes == {"": 0o755, "tmp": 0o1777, "etc": 0o755, "usr": 0o755}
    assert (skeleton / "etc" / "passwd").stat().st_mode & 0o7777 == 0o644


def test_the_same_again_in_this_and_in_a_new_process(root: Path) -> None:
    image = host_image(root)
    assert host_image(root) is image
    forget()
    assert host_image(root) == image
    assert len(keys(root)) == 1


def test_the_id_does_not_depend_on_the_engine_root(tmp_path: Path) -> None:
    images = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        images.append(host_image(tmp_path / name))
    assert images[0].id == images[1].id


def test_another_request_is_another_image(root: Path, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    ids = {
        host_image(root).id,
        host_image(root, site_packages=False).id,
        host_image(root, paths=[tmp_path / "given"]).id,
    }
    assert len(ids) == 3


def test_a_change_of_a_given_path_is_noticed(root: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("one")
    first = host_image(root, paths=[tmp_path / "link"])
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("two")
    second = host_image(root, paths=[tmp_path / "link"])
    assert overlay(first, f"{tmp_path}/one")
    assert overlay(second, f"{tmp_path}/two")
    assert first.id != second.id


def test_a_change_that_does_not_matter_makes_no_new_tree(root: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    first = host_image(root, paths=[given])
    os.utime(given, (1, 1))
    second = host_image(root, paths=[given])
    assert first == second
    assert len(keys(root)) == 1


def test_a_tree_that_was_removed_is_made_again(root: Path) -> None:
    image = host_image(root)
    shutil.rmtree(root / image._tree)
    assert host_image(root) == image
    assert (root / image._tree / "skeleton").is_dir()


def test_a_damaged_ref_is_made_again(root: Path) -> None:
    image = host_image(root)
    (ref,) = (root / "host" / "refs").iterdir()
    for damage in (b"", b"\0\0\0", b"other\0\0x", ref.read_bytes()[:50]):
        ref.write_bytes(damage)
        forget()
        assert host_image(root) == image


def test_what_a_killed_builder_and_an_earlier_boot_left_goes(root: Path) -> None:
    left = [root / "host" / ".aside-x" / "skeleton", root / "host" / ("0" * 32) / "skeleton"]
    for path in left:
        path.mkdir(parents=True)
    image = host_image(root)
    assert keys(root) == [os.path.basename(image._tree)]
    assert sorted(os.listdir(root / "host")) == sorted([".lock", "refs", *keys(root)])


def test_several_processes_make_one_tree(root: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from containerkit.images.host import host_image;"
        "print(host_image(Path(sys.argv[1]))._tree)"
    )
    command = [sys.executable, "-c", program, str(root)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    trees = {process.communicate()[0].strip() for process in started}
    assert len(trees) == 1
    assert keys(root) == [os.path.basename(trees.pop())]


@pytest.mark.parametrize("paths", ["/opt", b"/opt", Path("/opt")])
def test_one_path_is_not_several(root: Path, paths: object) -> None:
    with pytest.raises(ConfigError, match="one path"):
        host_image(root, paths=paths)  # type: ignore[arg-type]


def test_refs_hold_any_path(tmp_path: Path) -> None:
    refs = tmp_path / "host" / "refs"
    refs.mkdir(parents=True)
    ref = HostRef(
        "boot",
        "key",
        "content",
        "amd64",
        "/a:/b",
        ("a note\nof two lines",),
        (
            Overlay("/", ("host/key/skeleton", "x")),
            Overlay("/with space\n", ("/\udcff",), writable=False),
            HostBind("/s", "/t"),
            HostBind("/u", "/v", read_only=False),
        ),
    )
    (refs / "stamp").write_bytes(host_ref.encode(ref))
    assert host_ref.read(tmp_path, "stamp") == ref


def test_a_missing_ref_is_none(tmp_path: Path) -> None:
    assert host_ref.read(tmp_path, "stamp") is None
