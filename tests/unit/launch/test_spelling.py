"""An option that there is not: the hint says what does the same here, and nothing that does not."""

from __future__ import annotations

from typing import Any

import pytest

from containerkit.errors import ConfigError
from containerkit.launch.request import check_options
from containerkit.launch.spelling import _MEANT, meant
from containerkit.model.limits import Limits
from containerkit.model.options import ContainerOptions
from containerkit.model.security import Security

KNOWN = frozenset(ContainerOptions.__annotations__)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("environment", "env="), ("enviroment", "env="), ("volumes", "mounts="), ("cwd", "workdir"),
        ("detach", "start("), ("memory", "Limits(memory="), ("mem_limit", "Limits(memory="),
        ("privileged", "Security.privileged()"), ("cap_add", "capabilities="),
        ("timeout_s", "timeout?"), ("stderr", "its log"), ("encoding", "exec and popen"), ("remove", "run removes it"),
        ("auto_remove", "run removes it"), ("working_dir", "workdir"), ("ports_", "ports?"),
        ("Name", "name?"), ("labels_", "labels?"), ("hostnam", "hostname?"), ("cmd", "command"),
        ("entrypont", "entrypoint?"),
    ],
)  # fmt: skip
def test_what_was_meant_is_said(name: str, hint: str) -> None:
    options: Any = {name: "x"}
    with pytest.raises(ConfigError, match=f"there is no option '{name}'") as raised:
        check_options(options)
    assert hint in str(raised.value.hint)


@pytest.mark.parametrize("name", ["xyzzy", "foo", "callback", "retries", "q"])
def test_nothing_is_guessed_where_nothing_is_like_it(name: str) -> None:
    assert meant(name, KNOWN) is None


def test_words_of_others_are_none_of_ours() -> None:
    assert not _MEANT.keys() & KNOWN


def test_every_hint_names_something_that_there_is() -> None:
    fields = {one.name for kind in (Limits, Security) for one in kind.__attrs_attrs__}
    for name, hint in _MEANT.items():
        inner = hint.partition("(")[2].partition("=")[0]
        if hint.startswith(("limits=Limits(", "security=Security(")) and inner.isidentifier():
            assert inner in fields, name
        elif hint.isidentifier():
            assert hint in KNOWN | {"timeout", "input"}, name


@pytest.mark.parametrize("labels", [{"a": 1}, {1: "a"}, {"a": None}])
def test_labels_are_text(labels: Any) -> None:
    with pytest.raises(ConfigError, match=r"labels: the (name|value) .* not text"):
        check_options({"labels": labels})
    check_options({"labels": {"a": "1"}})
