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


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "other"])
def test_links_are_not_followed(trees: tuple[Path, Path], target: str) -> None:
    """The image chose them: what they name may be the host's."""
    (trees[0] / "etc").mkdir()
    (trees[0] / "etc/other").write_text("other")
    (trees[0] / "etc/passwd").symlink_to(target)
    assert passwd(trees) is None


def test_a_linked_directory_is_not_followed(trees: tuple[Path, Path]) -> None:
    (trees[0] / "etc").symlink_to("/etc")
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
