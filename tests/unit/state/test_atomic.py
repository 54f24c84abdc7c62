"""Files appear whole; trees of any depth and kind go."""

from __future__ import annotations

import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from containerkit.state.atomic import publish_file, remove_tree
from tests.support.interrupts import at_each_call


def test_a_published_file_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    publish_file(tmp_path, "a", b"old")
    publish_file(tmp_path, "a", b"new" * 100_000, mode=0o640)
    assert (tmp_path / "a").read_bytes() == b"new" * 100_000
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_that_can_not_be_published_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        publish_file(tmp_path, "a", b"x")
    assert os.listdir(tmp_path) == ["a"]


def test_a_tree_goes_and_what_its_links_name_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/link").symlink_to(tmp_path / "kept")
    (tree / "file").write_bytes(b"x")
    (tree / "closed/in").mkdir(parents=True)
    (tree / "closed").chmod(0)
    os.mkfifo(tree / "a/b/fifo")
    remove_tree(tree)
    assert sorted(os.listdir(tmp_path)) == ["kept"]
    assert (tmp_path / "kept/file").exists()


def test_a_tree_deeper_than_stack_and_descriptors_goes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 20, dir_fd=fd)
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        remove_tree(tree)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not tree.exists()


def test_several_may_remove_one_tree(tmp_path: Path) -> None:
    """Two collectors may find the same debris."""
    tree = tmp_path / "tree"
    for number in range(200):
        (tree / f"a{number % 20}/b{number % 7}/c{number}").mkdir(parents=True)
        (tree / f"a{number % 20}/b{number % 7}/c{number}/file").touch()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(remove_tree, [tree] * 8))
    assert not tree.exists()


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")


def test_an_interrupt_after_a_close_is_not_turned_into_another_error(tmp_path: Path) -> None:
    """To close a descriptor twice fails, or closes somebody else's."""

    def make_and_remove() -> None:
        (tmp_path / "tree/a/b").mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree/c").mkdir(exist_ok=True)
        publish_file(tmp_path / "tree/c", "file", b"x")
        remove_tree(tmp_path / "tree")

    before = os.listdir("/proc/self/fd")
    points = len(list(at_each_call(make_and_remove, of=os.close)))
    assert points > 5
    assert not (tmp_path / "tree").exists()
    # Between two levels one of them is lost, rather than closed twice.
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 2
