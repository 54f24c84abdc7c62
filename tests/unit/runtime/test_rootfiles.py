"""/etc/passwd of a stack of trees, as overlay would show it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from containerkit.runtime.rootfiles import LIMIT, read_etc

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: whiteouts are device nodes")


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """A lower tree with a passwd, and an upper one without anything."""
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    (lower / "etc").mkdir(parents=True)
    upper.mkdir()
    (lower / "etc/passwd").write_text("lower")
    return upper, lower


def passwd(trees: tuple[Path, Path]) -> bytes | None:
    return read_etc([str(tree) for tree in trees], "passwd")


def whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def test_the_topmost_counts(trees: tuple[Path, Path]) -> None:
    assert passwd(trees) == b"lower"
    (trees[0] / "etc").mkdir()
    assert passwd(trees) == b"lower"
    (trees[0] / "etc/passwd").write_text("upper")
    assert passwd(trees) == b"upper"


def test_none_at_all(trees: tuple[Path, Path]) -> None:
    assert read_etc([str(trees[0])], "passwd") is None
    assert read_etc([], "passwd") is None


@ROOT
def test_a_whiteout_hides_the_file(trees: tuple[Path, Path]) -> None:
    (trees[0] / "etc").mkdir()
    whiteout(trees[0] / "etc/passwd")
    assert passwd(trees) is None


@ROOT
def test_a_whiteout_hides_the_directory(trees: tuple[Path, Path]) -> None:
    whiteout(trees[0] / "etc")
    assert passwd(trees) is None


@ROOT
@pytest.mark.parametrize("attribute", ["trusted.overlay.opaque", "user.overlay.opaque"])
def test_an_opaque_directory_hides_what_is_below(trees: tuple[Path, Path], attribute: str) -> None:
    (trees[0] / "etc").mkdir()
    try:
        os.setxattr(trees[0] / "etc", attribute, b"y")
    except OSError:
        pytest.skip(f"no {attribute} on this file system")
    assert passwd(trees) is None


def test_a_file_in_place_of_the_directory(trees: tuple[Path, Path]) -> None:
    (trees[0] / "etc").write_text("")
    assert passwd(trees) is None


@pytest.mark.parametrize(
    "target",
    [
        "../data/app",
        "/data/app",
        "../../../../data/app",
        "/data/../../data/./app",
        "./../data//app",
        "/data/again",
        "/short/app",
        "/short/../data/app",
        "../data/up/data/app",
    ],
)
def test_a_link_is_resolved_within_the_trees(trees: tuple[Path, Path], target: str) -> None:
    upper, lower = trees
    (upper / "etc").mkdir()
    (upper / "etc/passwd").symlink_to(target)
    for tree in trees:
        (tree / "data").mkdir()
    (lower / "data/app").write_text("ours")
    (upper / "data/again").symlink_to("../data/app")
    (lower / "short").symlink_to("data")
    (lower / "data/up").symlink_to("../..")
    assert passwd(trees) == b"ours"


@pytest.mark.parametrize("link", ["etc/passwd", "etc"])
def test_no_link_leads_to_the_host(trees: tuple[Path, Path], link: str, tmp_path: Path) -> None:
    """The image chose it: a file of the host may be at that path, and none of the image's is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "passwd").write_text("the host's")
    target = outside if link == "etc" else outside / "passwd"
    for text in (str(target), os.path.relpath(target, (trees[0] / link).parent)):
        place = trees[0] / link
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(text)
        assert place.resolve() == target
        assert passwd(trees) is None
        place.unlink()


@pytest.mark.parametrize("target", ["passwd", "/etc/passwd", "x/../passwd", "nowhere", "n" * 256])
def test_a_link_to_nothing(trees: tuple[Path, Path], target: str) -> None:
    (trees[0] / "etc").mkdir()
    (trees[0] / "etc/passwd").symlink_to(target)
    assert passwd(trees) is None


@pytest.mark.parametrize(
    "target", ["file/", "file/.", "file/../file", "file/x", "", "/", "..", "d"]
)
def test_a_link_to_no_file(trees: tuple[Path, Path], target: str) -> None:
    (trees[0] / "etc/d").mkdir(parents=True)
    (trees[0] / "etc/file").write_text("a file")
    (trees[0] / "etc/passwd").symlink_to(target or ".")
    assert passwd(trees) is None


def test_a_long_way_ends(trees: tuple[Path, Path]) -> None:
    """A file behind so many links that the kernel would give up as well."""
    etc = trees[0] / "etc"
    etc.mkdir()
    (etc / "0").write_text("found")
    for number in range(1, 60):
        (etc / str(number)).symlink_to(str(number - 1))
    for length, content in ((10, b"found"), (59, None)):
        (etc / "passwd").symlink_to(str(length))
        assert passwd(trees) == content
        (etc / "passwd").unlink()


def test_a_linked_directory_is_the_images(trees: tuple[Path, Path]) -> None:
    (trees[0] / "etc").symlink_to("/conf")
    assert passwd(trees) is None
    (trees[1] / "conf").mkdir()
    (trees[1] / "conf/passwd").write_text("ours")
    assert passwd(trees) == b"ours"


@ROOT
def test_a_link_to_what_is_hidden(trees: tuple[Path, Path]) -> None:
    (trees[0] / "etc").mkdir()
    (trees[0] / "etc/passwd").symlink_to("/data/app")
    (trees[1] / "data").mkdir()
    (trees[1] / "data/app").write_text("lower")
    assert passwd(trees) == b"lower"
    whiteout(trees[0] / "data")
    assert passwd(trees) is None


def test_what_is_no_file(trees: tuple[Path, Path]) -> None:
    """A FIFO does not block, a directory is no file (CVE-2024-9676)."""
    (trees[0] / "etc").mkdir()
    os.mkfifo(trees[0] / "etc/passwd")
    assert passwd(trees) is None
    (trees[0] / "etc/passwd").unlink()
    (trees[0] / "etc/passwd").mkdir()
    assert passwd(trees) is None


def test_only_so_much_is_read(trees: tuple[Path, Path]) -> None:
    (trees[0] / "etc").mkdir()
    with open(trees[0] / "etc/passwd", "wb") as file:
        file.truncate(LIMIT * 4)
    content = passwd(trees)
    assert content is not None
    assert len(content) == LIMIT
