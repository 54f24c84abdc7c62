"""Mounts as values."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from containerkit.errors import ConfigError
from containerkit.model.mount import Mount


def test_binds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Mount.bind("/s", "/t") == Mount("bind", "/s", "/t")
    assert Mount.bind(Path("/s"), Path("/t"), read_only=True) == Mount("bind", "/s", "/t", True)
    assert Mount.bind("data", "/t").source == f"{tmp_path}/data"


def test_tmpfs() -> None:
    assert Mount.tmpfs("/t").size_bytes is None
    assert Mount.tmpfs("/t", size="1m").size_bytes == 1 << 20
    assert Mount.tmpfs("/t", size=1).size_bytes == 4096
    assert Mount.tmpfs("/t", mode=0o700, read_only=True).mode == 0o700


def test_volumes_and_images() -> None:
    assert Mount.volume("data", "/t").kind == "volume"
    assert Mount.image("debian", "/t").read_only


@pytest.mark.parametrize(("target", "expected"), [("/a//b/./", "/a/b"), ("/", "/"), ("//a", "/a")])
def test_targets_are_normal(target: str, expected: str) -> None:
    assert Mount.tmpfs(target).target == expected


@pytest.mark.parametrize("target", ["", "a", "./a", "/a/../b", "/a\0", "/" + "x" * 4096, b"/a"])
def test_targets_that_are_none(target: str) -> None:
    with pytest.raises(ConfigError, match="mount target"):
        Mount.tmpfs(target)


@pytest.mark.parametrize("source", ["", "a\0", b"/a"])
def test_sources_that_are_none(source: str) -> None:
    with pytest.raises(ConfigError, match="mount source"):
        Mount.bind(source, "/t")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-a", "a b"])
def test_names_of_volumes(name: str) -> None:
    with pytest.raises(ConfigError, match="volume's name"):
        Mount.volume(name, "/t")


def test_modes() -> None:
    with pytest.raises(ConfigError, match="mode"):
        Mount.tmpfs("/t", mode=0o10000)


def test_a_mount_is_a_value() -> None:
    mount = Mount.bind("/s", "/t")
    assert {mount, copy.copy(mount), pickle.loads(pickle.dumps(mount))} == {mount}
