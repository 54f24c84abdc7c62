"""Platforms: one spelling, and what runs on what."""

from __future__ import annotations

import pytest

from containerkit.errors import ConfigError
from containerkit.model.platform import Platform


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/x86_64", "linux/amd64"),
        ("arm64", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/i686", "linux/386"),
        ("linux/riscv64", "linux/riscv64"),
    ],
)
def test_spelling(text: str, canonical: str) -> None:
    assert str(Platform.parse(text)) == canonical
    assert Platform.parse(canonical) == Platform.parse(text)


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/a b", "linux/\n", "é/x"])
def test_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot read platform"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("host", "offered", "distance"),
    [
        ("linux/amd64", "linux/amd64", 0),
        ("linux/amd64", "linux/arm64", None),
        ("linux/amd64", "windows/amd64", None),
        ("linux/amd64", "linux/386", None),
        ("linux/amd64", "linux/amd64/v3", None),
        ("linux/amd64/v3", "linux/amd64/v2", 1),
        ("linux/amd64/v3", "linux/amd64", 2),
        ("linux/arm/v7", "linux/arm/v6", 1),
        ("linux/arm/v7", "linux/arm/v5", 2),
        ("linux/arm/v6", "linux/arm/v7", None),
        ("linux/arm64", "linux/arm/v7", None),
        ("linux/arm64/v9", "linux/arm64", 1),
        ("linux/arm/strange", "linux/arm/v5", None),
    ],
)
def test_what_runs_where(host: str, offered: str, distance: int | None) -> None:
    assert Platform.parse(host).distance(Platform.parse(offered)) == distance
    assert Platform.parse(host).matches(Platform.parse(offered)) == (distance is not None)


def test_host() -> None:
    assert Platform.host().os == "linux"
    assert Platform.host().matches(Platform.host())
