"""Finding containers: names, ids, prefixes, filters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

import containerkit as ck
from containerkit.errors import ConfigError, Conflict, ContainerNotFound
from tests.integration.handles.support import FOREVER


@pytest.fixture
def four(engine: ck.Engine, busybox: str) -> Iterator[dict[str, ck.Container]]:
    with contextlib.ExitStack() as stack:
        create = engine.containers.create
        found = {
            "a": create(busybox, FOREVER, name="web-a", labels={"x": "1", "y": "2"}),
            "b": create(busybox, FOREVER, name="web-b", labels={"x": "2"}),
            "c": create(None, ["sleep", "1000"], name="db"),
            "d": create(busybox, ["true"], name="job"),
        }
        for one in found.values():
            stack.enter_context(one)
        found["a"].start()
        found["c"].start()
        found["d"].start()
        found["d"].wait()
        yield found


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "dcba"),
        ({"all": False}, "ca"),
        ({"status": "running"}, "ca"),
        ({"status": ["created", "stopped"]}, "db"),
        ({"label": "x"}, "ba"),
        ({"label": "x=1"}, "a"),
        ({"label": ["x", "y=2"]}, "a"),
        ({"label": {"x": "2"}}, "b"),
        ({"label": {"x": None, "y": None}}, "a"),
        ({"label": "z"}, ""),
        ({"name": "db"}, "c"),
        ({"name": "web-*"}, "ba"),
        ({"name": "web"}, ""),
        ({"image": "host"}, "c"),
        ({"lifetime": "owner"}, "dcba"),
        ({"lifetime": "detached"}, ""),
        ({"name": "web-*", "status": "running"}, "a"),
    ],
)
def test_filters(
    engine: ck.Engine, four: dict[str, ck.Container], filters: dict[str, Any], expected: str
) -> None:
    found = engine.containers.list(**filters)
    assert found == tuple(four[letter] for letter in expected)


@pytest.mark.needs("control groups")
def test_a_paused_one(engine: ck.Engine, four: dict[str, ck.Container]) -> None:
    four["c"].pause()
    assert engine.containers.list(status="paused") == (four["c"],)
    assert engine.containers.list(status="running") == (four["a"],)
    assert engine.containers.list(all=False) == (four["c"], four["a"])


def test_images_as_filters(engine: ck.Engine, busybox: str, four: dict[str, ck.Container]) -> None:
    image = engine.images.get(busybox)
    for what in (busybox, image, image.digest):
        assert set(engine.containers.list(image=what)) == {four["a"], four["b"], four["d"]}


def test_an_unknown_status_is_refused(engine: ck.Engine) -> None:
    bad: Any = "asleep"
    with pytest.raises(ConfigError):
        engine.containers.list(status=bad)


def test_get(engine: ck.Engine, four: dict[str, ck.Container]) -> None:
    one = four["a"]
    get = engine.containers.get
    assert get("web-a") == get(one.id) == get(one.id[:12]) == get(one) == one
    for nothing in ("web", "", one.id + "0", "0" * 64, "No Name", one.id[:12].upper() + "-"):
        with pytest.raises(ContainerNotFound):
            get(nothing)


def test_a_name_wins_over_digits(engine: ck.Engine, four: dict[str, ck.Container]) -> None:
    prefix = four["a"].id[:4]
    four["b"].rename(prefix)
    assert engine.containers.get(prefix) == four["b"]
    assert engine.containers.get(four["a"].id[:13]) == four["a"]


def test_digits_that_fit_several(engine: ck.Engine, busybox: str) -> None:
    with contextlib.ExitStack() as stack:
        ones = [stack.enter_context(engine.containers.create(busybox)) for _ in range(17)]
        firsts = [one.id[0] for one in ones]
        twice = next(letter for letter in firsts if firsts.count(letter) > 1)
        with pytest.raises(Conflict, match="begin so"):
            engine.containers.get(twice)


def test_prune(engine: ck.Engine, four: dict[str, ck.Container]) -> None:
    assert engine.containers.prune(label="x") == ()
    assert engine.containers.prune() == (four["d"].id,)
    assert four["d"].status == "removed"
    assert len(engine.containers.list()) == 3
