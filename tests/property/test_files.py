"""Trees of any shape, put and got, archived and extracted: what comes out is what went in."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from hypothesis import given
from hypothesis import strategies as st

from containerkit.runtime.files import Files
from tests.support.reach import files_in
from tests.support.tars import describe

ME = (os.geteuid(), os.getegid())


@attrs.frozen
class Node:
    """A file (bytes), link (str) or directory (a mapping) with what `stat` says of it."""

    content: bytes | str | dict[str, Node]
    mode: int
    time: int


def _name(text: bytes) -> str:
    return os.fsdecode(text)


NAMES = st.one_of(
    st.sampled_from(["a", "b", "c", ".hidden", ".wh.x", "n" * 200, "grüße", "-rf", "a b\n", "\\"]),
    st.binary(min_size=1, max_size=12)
    .map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_"))
    .filter(lambda raw: raw not in {b".", b".."})
    .map(_name),
)
TIMES = st.integers(-(2**31), 2**33).flatmap(
    lambda seconds: st.integers(0, 10**9 - 1).map(lambda rest: seconds * 10**9 + rest)
)
FILES = st.builds(
    Node,
    st.one_of(st.binary(max_size=64), st.integers(0, 40).map(lambda n: bytes(n * 1000) + b"x" * n)),
    st.sampled_from([0o644, 0o600, 0o755, 0o400, 0o666]),
    TIMES,
)
LINKS = st.builds(
    Node,
    st.sampled_from(["a", "../a", "/", "/etc/shadow", "..", "b/c", "x" * 150, "loop"]),
    st.just(0o777),
    TIMES,
)
TREES = st.recursive(
    st.one_of(FILES, LINKS),
    lambda inner: st.builds(
        Node,
        st.dictionaries(NAMES, inner, max_size=4),
        st.sampled_from([0o755, 0o700, 0o1777]),
        TIMES,
    ),
    max_leaves=12,
).filter(lambda node: isinstance(node.content, dict))


def plant(path: Path, node: Node) -> None:
    if isinstance(node.content, bytes):
        path.write_bytes(node.content)
        path.chmod(node.mode)
    elif isinstance(node.content, str):
        path.symlink_to(node.content)
    else:
        path.mkdir()
        for name, inner in node.content.items():
            plant(path / name, inner)
        path.chmod(node.mode)
    os.utime(path, ns=(node.time, node.time), follow_symlinks=False)


@contextmanager
def place() -> Iterator[tuple[Path, Files]]:
    """A directory of the host, and a root beside it."""
    with tempfile.TemporaryDirectory(prefix="files-") as top:
        path = Path(top)
        (path / "root").mkdir()
        yield path, files_in(path / "root")


@given(TREES)
def test_put_and_get(tree: Node) -> None:
    with place() as (top, files):
        plant(top / "local", tree)
        put = files.put(top / "local", "/there", owner=ME)
        wanted = describe(top / "local")
        assert describe(top / "root/there") == wanted
        assert files.get("/there", top / "back") == put
        assert describe(top / "back") == wanted
        assert put.entries == len(wanted)


@given(TREES)
def test_archive_and_extract(tree: Node) -> None:
    with place() as (top, files):
        plant(top / "root/tree", tree)
        files.mkdir("/out", owner=ME)
        with files.archive("/tree") as tar:
            made = files.extract("/out", tar, owner=ME)
        wanted = describe(top / "root/tree")
        assert describe(top / "root/out/tree") == wanted
        assert made.entries == len(wanted)
        assert made.left_out == ()


@given(TREES, st.integers(1, 5000))
def test_an_archive_is_the_same_however_it_is_read(tree: Node, size: int) -> None:
    with place() as (top, files):
        plant(top / "root/tree", tree)
        with files.archive("/tree") as tar:
            whole = tar.read()
        pieces = bytearray()
        with files.archive("/tree") as tar:
            while piece := tar.read(size):
                pieces += piece
        assert bytes(pieces) == whole
        with files.archive("/tree") as tar:
            assert b"".join(tar) == whole
        assert len(whole) % 10240 == 0


@given(TREES)
def test_remove_removes_all(tree: Node) -> None:
    with place() as (top, files):
        plant(top / "root/tree", tree)
        (top / "kept").write_text("kept")
        files.remove("/tree", recursive=True)
        assert not (top / "root/tree").exists()
        assert (top / "kept").exists()


@given(TREES)
def test_list_and_stat_say_what_is_there(tree: Node) -> None:
    with place() as (top, files):
        plant(top / "root/tree", tree)
        found = files.list("/tree")
        assert isinstance(tree.content, dict)
        assert [info.name for info in found] == sorted(tree.content)
        for info in found:
            node = tree.content[info.name]
            status = (top / "root/tree" / info.name).lstat()
            assert (info.mode, info.size) == (stat.S_IMODE(status.st_mode), status.st_size)
            assert info.target == (node.content if isinstance(node.content, str) else None)
            assert info.is_dir == isinstance(node.content, dict)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_a_limit_is_exact(data: bytes, limit: int) -> None:
    with place() as (top, files):
        (top / "root/f").write_bytes(data)
        try:
            assert files.read_bytes("/f", max_size=limit) == data
        except OSError:
            assert len(data) > limit
        else:
            assert len(data) <= limit
