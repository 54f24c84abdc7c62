"""Whiteouts, as overlayfs understands them: applied layers are mounted and looked at.

Spec: image-spec layer.md, Whiteouts.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.tars import END, describe, entry, unpack, xattrs

pytestmark = pytest.mark.needs("mounts")

DIRECTORY = b"5"
LINK = b"2"

BASE = [
    entry(b"d/", DIRECTORY),
    entry(b"d/a", data=b"base a"),
    entry(b"d/b", data=b"base b"),
    entry(b"d/sub/c", data=b"base c"),
    entry(b"f", data=b"base f"),
    entry(b"l", LINK, link=b"f"),
]


@pytest.fixture
def merged(tmp_path: Path) -> Iterator[Path]:
    """Where `mount_over_base` mounts."""
    target = tmp_path / "merged"
    target.mkdir()
    yield target
    if os.path.ismount(target):
        subprocess.run(["umount", target], check=True)


def mount_over_base(top: Path, layers: Sequence[Sequence[bytes]], target: Path) -> None:
    names: list[str] = []
    for number, layer in enumerate([BASE, *layers]):
        (top / str(number)).mkdir()
        unpack(b"".join(layer) + END, top / str(number))
        names.insert(0, str(number))
    options = f"lowerdir={':'.join(names)}"
    subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, target], check=True, cwd=top
    )


def paths(top: Path) -> set[str]:
    return set(describe(top)) - {"."}


def all_but(*gone: str) -> set[str]:
    return {"d", "d/a", "d/b", "d/sub", "d/sub/c", "f", "l"} - set(gone)


@pytest.mark.parametrize(
    ("layer", "left"),
    [
        pytest.param([entry(b"new")], all_but() | {"new"}, id="control: nothing hidden"),
        pytest.param([entry(b".wh.f")], all_but("f"), id="a file"),
        pytest.param([entry(b".wh.l")], all_but("l"), id="a link"),
        pytest.param([entry(b"d/.wh.a")], all_but("d/a"), id="a file below"),
        pytest.param(
            [entry(b".wh.d")], all_but("d", "d/a", "d/b", "d/sub", "d/sub/c"), id="a directory"
        ),
        pytest.param([entry(b".wh.nothing")], all_but(), id="what is not there"),
        pytest.param(
            [entry(b"d/.wh..wh..opq")], all_but("d/a", "d/b", "d/sub", "d/sub/c"), id="opaque"
        ),
        pytest.param(
            [entry(b"d/", DIRECTORY), entry(b"d/x"), entry(b"d/.wh..wh..opq")],
            all_but("d/a", "d/b", "d/sub", "d/sub/c") | {"d/x"},
            id="opaque spares its own layer",
        ),
        pytest.param(
            [entry(b"d/.wh..wh..opq"), entry(b"d/sub/x")],
            all_but("d/a", "d/b", "d/sub/c") | {"d/sub/x"},
            id="opaque first",
        ),
        pytest.param(
            [entry(b".wh.d"), entry(b"d", DIRECTORY), entry(b"d/x")],
            all_but("d/a", "d/b", "d/sub", "d/sub/c") | {"d/x"},
            id="a directory hidden, then made anew",
        ),
        pytest.param(
            [entry(b".wh.d"), entry(b"d/x")],
            all_but("d/a", "d/b", "d/sub", "d/sub/c") | {"d/x"},
            id="a directory hidden, then made by what is in it",
        ),
        pytest.param(
            [entry(b"d/x"), entry(b".wh.d")],
            all_but("d/a", "d/b", "d/sub", "d/sub/c") | {"d/x"},
            id="a directory made, then the lower one hidden",
        ),
        pytest.param(
            [entry(b"f", data=b"top"), entry(b".wh.f")], all_but(), id="a file of this layer stays"
        ),
        pytest.param(
            [entry(b".wh.f"), entry(b"f", data=b"top")], all_but(), id="a file hidden, then anew"
        ),
        pytest.param(
            [entry(b".wh..wh.plnk", DIRECTORY), entry(b".wh..wh.plnk/1.2"), entry(b".wh..wh.aufs")],
            all_but(),
            id="what aufs left",
        ),
        pytest.param(
            [entry(b".wh.d", LINK, link=b"f")],
            all_but("d", "d/a", "d/b", "d/sub", "d/sub/c"),
            id="of any type",
        ),
    ],
)
def test_what_is_left(layer: list[bytes], left: set[str], tmp_path: Path, merged: Path) -> None:
    mount_over_base(tmp_path, [layer], merged)
    assert paths(merged) == left


def test_content_comes_from_the_top(tmp_path: Path, merged: Path) -> None:
    mount_over_base(
        tmp_path, [[entry(b".wh.f"), entry(b"d/.wh.a")], [entry(b"f", data=b"third")]], merged
    )
    assert (merged / "f").read_bytes() == b"third"
    assert (merged / "d/b").read_bytes() == b"base b"
    assert not (merged / "d/a").exists()


@pytest.mark.parametrize(
    ("user_xattrs", "name"), [(False, "trusted.overlay.opaque"), (True, "user.overlay.opaque")]
)
def test_the_form_on_disk(user_xattrs: bool, name: str, tmp_path: Path) -> None:
    data = entry(b".wh.gone") + entry(b"d/.wh..wh..opq") + END
    unpack(data, tmp_path, user_xattrs=user_xattrs)
    status = (tmp_path / "gone").lstat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == 0
    assert xattrs(tmp_path / "d") == ((name, b"y"),)
