"""Paths in a container as texts; modes of `open`; what a plan says of a root."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

import pytest

from containerkit.errors import ConfigError, UnsafePath
from containerkit.launch.ops import Code, Op
from containerkit.launch.plan import Input, Plan
from containerkit.runtime.opening import flags_of
from containerkit.runtime.paths import Place, container_path, cut, member_parts, placed
from containerkit.runtime.rootplan import Stack, root_plan


def test_a_path_is_absolute_text() -> None:
    assert container_path(PurePosixPath("/a/b")) == "/a/b"
    assert container_path("/") == "/"
    for bad in ("", "a", "./a", "/a\0b", b"/a"):
        with pytest.raises(ConfigError):
            container_path(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/a", Place("/", "a", False)),
        ("/a/b", Place("/a", "b", False)),
        ("/a/b/", Place("/a", "b", True)),
        ("//a//b//", Place("//a/", "b", True)),
        ("a", Place(".", "a", False)),
        ("../a", Place("..", "a", False)),
        ("/", None),
        ("//", None),
        ("/a/.", None),
        ("/a/..", None),
        (".", None),
        ("", None),
    ],
)
def test_where_a_path_is_cut(path: str, place: Place | None) -> None:
    assert cut(path) == place
    if place is None:
        with pytest.raises(ConfigError):
            placed(path, "remove")


def test_names_of_archive_members() -> None:
    assert member_parts("./a//b/./c/") == ("a", "b", "c")
    assert member_parts("/etc/passwd") == ("etc", "passwd")
    assert member_parts("./") == ()
    assert member_parts("..a/b..") == ("..a", "b..")
    for bad in ("..", "../x", "a/../b", "/..", "a\0"):
        with pytest.raises(UnsafePath) as caught:
            member_parts(bad)
        assert caught.value.entry == bad


@pytest.mark.parametrize(
    ("mode", "flags"),
    [
        ("r", os.O_RDONLY),
        ("rb+", os.O_RDWR),
        ("w", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ("+wb", os.O_RDWR | os.O_CREAT | os.O_TRUNC),
        ("ab", os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        ("xt", os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    ],
)
def test_modes(mode: str, flags: int) -> None:
    assert flags_of(mode) == flags


@pytest.mark.parametrize("mode", ["", "rw", "b", "rbt", "rr", "U", "r++", "wx"])
def test_what_is_no_mode(mode: str) -> None:
    with pytest.raises(ConfigError):
        flags_of(mode)


def test_what_a_plan_says_of_the_root() -> None:
    plan = Plan(
        inputs=[Input("source", "/usr"), Input("source", "/home/user")],
        prepare=[
            Op(Code.OVERLAY, fd=(3, -1, -1), arena=(("layers/b", "layers/a"), "0", None)),
            Op(Code.OVERLAY, fd=(4, -1, -1), arena=(("@0",), "1", None)),
            Op(Code.CLONE, fd=(0, 5, -1)),
            Op(Code.CLONE, fd=(1, 6, -1)),
        ],
        child=[
            Op(Code.ROOT, fd=(3, -1, -1)),
            Op(Code.MOVE_MOUNT, fd=(4, -1, -1), arena=("/usr", None, None)),
            Op(Code.MOVE_MOUNT, fd=(5, -1, -1), arena=("/bin", None, None)),
            Op(Code.MOUNT_FS, arena=("proc", "/proc", None)),
            Op(Code.TEMPLATE, arena=("/dev", None, None)),
            Op(Code.MOVE_MOUNT, fd=(6, -1, -1), arena=("/data", None, None)),
            Op(Code.MASK, arena=("/proc/kcore", None, None)),
        ],
    )
    found = root_plan(plan)
    assert found.stacks == (
        Stack("/", ("layers/b", "layers/a"), "0"),
        Stack("/usr", ("/usr",), "1"),
    )
    assert found.files == {"/bin"}
    assert found.mounted == {"/proc", "/dev", "/data"}
