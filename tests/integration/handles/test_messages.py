"""Messages call a container what its user calls it, and say what can be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import containerkit as ck
from containerkit import Engine

ATTEMPTS: dict[str, Callable[[ck.Container], object]] = {
    "exec": lambda one: one.exec("true"),
    "popen": lambda one: one.popen("true"),
    "kill": lambda one: one.kill(),
    "pause": lambda one: one.pause(),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_one_that_does_not_run_is_named_and_to_be_started(
    engine: Engine, busybox: str, attempt: str
) -> None:
    with engine.containers.create(busybox, ["sleep", "1000"], name="web") as one:
        with pytest.raises(ck.InvalidStatus, match="container web: it is ") as raised:
            ATTEMPTS[attempt](one)
        assert raised.value.hint == "start it first"
        one.start()
        ATTEMPTS[attempt](one)


def test_a_wait_that_was_too_short_names_it(engine: Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "1000"], name="web") as one:
        one.rename("site")
        with pytest.raises(ck.Timeout, match=r"^container site still runs"):
            one.wait(0)


def test_labels_that_are_no_text_are_refused(engine: Engine, busybox: str) -> None:
    wrong: Any = {"a": 1}
    with pytest.raises(ck.ConfigError, match=r"the value of 'a' is 1, int, not text"):
        engine.containers.create(busybox, labels=wrong)
    with pytest.raises(ck.ConfigError, match="not both text"):
        engine.containers.list(label=wrong)
    with engine.containers.create(busybox, labels={"a": "1"}) as one:
        assert engine.containers.list(label={"a": "1"}) == (one,)
