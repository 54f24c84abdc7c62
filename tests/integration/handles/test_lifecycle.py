"""The life of a container in every order; what each status allows."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

import containerkit as ck
from containerkit.errors import (
    AlreadyExists,
    CommandNotFound,
    ConfigError,
    ContainerNotFound,
    InvalidStatus,
    NotPublished,
)
from containerkit.runtime import packets
from tests.integration.handles.support import FOREVER, directories


@pytest.fixture
def before(engine: ck.Engine) -> list[str]:
    return directories(engine)


def test_create_start_stop_start_remove(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox, FOREVER, name="life-1") as one:
        assert (one.status, one.exit, one.pid, one.started) == ("created", None, None, None)
        one.start()
        assert (str(one.status), one.exit) == ("running", None)
        first = one.pid
        assert first is not None
        os.kill(first, 0)
        one.stop()
        assert (one.status, one.pid) == ("stopped", None)
        assert one.exit == ck.Exit.by_signal(signal.SIGKILL)  # no handler: killed at once
        one.start()
        assert one.status == "running"
        assert one.pid not in (None, first)
    assert str(one.status) == "removed"
    assert not (engine.root / "containers" / one.id).exists()


def test_what_it_wrote_stays_over_a_stop(engine: ck.Engine, busybox: str) -> None:
    script = "cat /kept 2>/dev/null; echo again >> /kept"
    with engine.containers.create(busybox, ["sh", "-c", script]) as one:
        for count in range(3):
            one.start()
            assert one.wait(timeout=120).ok
            assert one.log_text().count("again\n") == sum(range(count + 1))


def test_properties(engine: ck.Engine, busybox: str) -> None:
    labels = {"a": "1", "b": "2"}
    moment = datetime.now(UTC)
    with engine.start(busybox, FOREVER, name="props", labels=labels, env={"S": "hidden"}) as one:
        assert one.name == "props"
        assert one.image == busybox
        assert one.image_digest == engine.images.get(busybox).digest
        assert one.labels == labels
        assert one.config.command == FOREVER
        assert one.config.options["env"] == {"S": "hidden"}
        assert "hidden" not in repr(one.config)
        second = timedelta(seconds=1)
        assert moment - second <= one.created <= datetime.now(UTC) + second
        assert one.started is not None
        assert one.started >= one.created - second
        assert (one.finished, one.health, one.restarts) == (None, None, 0)
        assert (dict(one.ports), dict(one.addresses)) == ({}, {})
        info = one.inspect()
        assert (info.id, info.name, info.status, info.pid) == (one.id, "props", "running", one.pid)
        assert info.config == one.config
        assert "hidden" not in repr(info)
        one.kill()
        one.wait()
        assert one.finished is not None
        assert one.finished >= one.started
    assert one.name == "props"  # as it was last seen
    assert one.exit == ck.Exit.by_signal(signal.SIGKILL)
    with pytest.raises(ContainerNotFound):
        one.inspect()


def test_stop_with_a_handler(engine: ck.Engine, busybox: str) -> None:
    script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    with engine.start(busybox, ["sh", "-c", script]) as one:
        one.wait_ready(log="up")
        with pytest.raises(ck.ConfigError, match="grace 'long' is not a number of seconds"):
            one.stop(grace=cast("Any", "long"))
        one.stop(grace=120)
        assert one.exit == ck.Exit(3)
        assert one.log_text(tail=1) == "bye\n"
        one.stop()  # harmless


WAITS = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("up", flush=True)
while not signal.sigtimedwait({signal.SIGTERM}, 0.05):
    pass
sys.exit(6)
"""


def test_stop_of_one_that_waits_for_signals(engine: ck.Engine) -> None:
    """As tini and dumb-init do: without a handler, and blocked as far as one can see."""
    with engine.start(None, ["python3", "-c", WAITS]) as one:
        one.wait_ready(log="up")
        one.stop(grace=120)
        assert one.exit == ck.Exit(6)


@pytest.mark.parametrize("answer", ["echo no", ""], ids=["handled", "ignored"])
def test_stop_of_one_that_does_not_listen(engine: ck.Engine, busybox: str, answer: str) -> None:
    script = f"trap '{answer}' TERM; echo up; while :; do sleep 0.05; done"
    with engine.start(busybox, ["sh", "-c", script], stop_grace=0.3) as one:
        one.wait_ready(log="up")
        one.stop()
        assert one.exit == ck.Exit.by_signal(signal.SIGKILL)
        # Asked first; on a slow machine there may be no time to say that it does not care.
        told = engine.events(container=one, kind="kill")
        signals = [event.attributes["signal"] for event in told]
        assert signals == [signal.SIGTERM, signal.SIGKILL]


def test_stop_does_not_wait_for_who_gets_no_signal(engine: ck.Engine, busybox: str) -> None:
    """The kernel drops what a first process neither handles nor ignores (pid_namespaces(7))."""
    with engine.start(busybox, ["sleep", "100000"], stop_grace=0.3) as one:
        one.stop()
        told = engine.events(container=one, kind="kill")
        assert [event.attributes["signal"] for event in told] == [signal.SIGKILL]


def test_its_own_stop_signal(engine: ck.Engine, busybox: str) -> None:
    script = "trap 'exit 7' USR1; echo up; while :; do sleep 0.05; done"
    with engine.start(busybox, ["sh", "-c", script], stop_signal="USR1") as one:
        one.wait_ready(log="up")
        one.stop(grace=120)
        assert one.exit == ck.Exit(7)


@pytest.mark.parametrize("number", [signal.SIGUSR1, "SIGRTMIN+3"])
def test_other_ways_to_say_a_stop_signal(
    engine: ck.Engine, busybox: str, number: str | int
) -> None:
    script = "trap 'exit 7' USR1 37; echo up; while :; do sleep 0.05; done"
    with engine.start(busybox, ["sh", "-c", script], stop_signal=number) as one:
        one.wait_ready(log="up")
        one.stop(grace=120)
        assert one.exit == ck.Exit(7)


@pytest.mark.parametrize(
    "paused", [False, pytest.param(True, marks=pytest.mark.needs("control groups"))]
)
def test_a_killed_one_has_ended(engine: ck.Engine, busybox: str, paused: bool) -> None:
    with engine.start(busybox, FOREVER) as one:
        if paused:
            one.pause()
        one.kill()
        assert (one.status, one.exit) == ("stopped", ck.Exit.by_signal(signal.SIGKILL))
        one.remove()


@pytest.mark.needs("control groups")
def test_pause_and_stop(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, FOREVER) as one:
        one.pause()
        assert one.status == "paused"
        with pytest.raises(InvalidStatus) as caught:
            one.pause()
        assert (caught.value.status, caught.value.allowed) == ("paused", ("running",))
        one.unpause()
        assert str(one.status) == "running"
        one.pause()
        one.stop()  # thaws it
        assert str(one.status) == "stopped"


@pytest.mark.needs("control groups")
def test_removing_a_paused_one(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, FOREVER) as one:
        one.pause()


def test_restart(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, FOREVER) as one:
        first = one.pid
        one.restart()
        assert one.status == "running"
        assert one.pid != first
        one.stop()
        one.restart()
        assert str(one.status) == "running"


VERBS: dict[str, Callable[[ck.Container], object]] = {
    "start": lambda one: one.start(),
    "stop": lambda one: one.stop(),
    "kill": lambda one: one.kill(),
    "pause": lambda one: one.pause(),
    "unpause": lambda one: one.unpause(),
    "wait": lambda one: one.wait(timeout=1),
    "remove": lambda one: one.remove(),
    "rename": lambda one: one.rename("other"),
}


@pytest.mark.parametrize(
    ("status", "refused"),
    [
        ("created", ["stop", "kill", "pause", "unpause", "wait"]),
        ("running", ["start", "unpause", "remove"]),
        pytest.param(
            "paused", ["start", "pause", "remove"], marks=pytest.mark.needs("control groups")
        ),
        ("stopped", ["kill", "pause", "unpause"]),
        ("removed", ["start", "stop", "kill", "pause", "unpause", "rename"]),
    ],
)
def test_what_a_status_does_not_allow(
    engine: ck.Engine, busybox: str, status: str, refused: list[str]
) -> None:
    with engine.containers.create(busybox, FOREVER) as one:
        if status != "created":
            one.start()
        if status == "paused":
            one.pause()
        if status == "stopped":
            one.stop()
        if status == "removed":
            one.remove(force=True)
        for verb in refused:
            with pytest.raises(InvalidStatus) as caught:
                VERBS[verb](one)
            assert caught.value.status == status, verb
            assert status not in caught.value.allowed
            assert one.status == status


def test_removing_twice_is_harmless(engine: ck.Engine, busybox: str) -> None:
    one = engine.start(busybox, FOREVER)
    one.remove(force=True)
    one.remove()
    one.remove(force=True)


def test_removed_by_another_handle_while_it_is_waited_for(
    engine: ck.Engine, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = engine.start(busybox, FOREVER)
    other = engine.containers.get(one.id)
    waits = threading.Event()
    connect: Any = ck.Container._connect

    def connected(self: ck.Container, kind: int, **more: Any) -> Any:
        channel = connect(self, kind, **more)
        if kind == packets.WATCH:
            waits.set()
        return channel

    def remove() -> None:
        waits.wait()
        other.remove(force=True)

    monkeypatch.setattr(ck.Container, "_connect", connected)
    remover = threading.Thread(target=remove)
    remover.start()
    try:
        assert one.wait(timeout=120) == ck.Exit.by_signal(signal.SIGKILL, cause="removed")
    finally:
        waits.set()
        remover.join()


def test_a_block_that_only_looked_undoes_nothing(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, FOREVER) as one:
        with engine.containers.get(one.id) as other:
            assert other == one
        with engine.containers.list()[0], pickle.loads(pickle.dumps(one)):
            pass
        assert one.status == "running"


def test_handles_are_equal_by_root_and_id(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox) as one, engine.containers.create(busybox) as two:
        again = pickle.loads(pickle.dumps(one))
        assert again == one == engine.containers.get(one.name)
        assert hash(again) == hash(one)
        assert one != two
        assert one != one.id
        assert len({one, again, two}) == 2
        assert again.status == "created"


def test_engines_and_images_pickle_too(engine: ck.Engine, busybox: str) -> None:
    image = engine.images.get(busybox)
    again = pickle.loads(pickle.dumps(image))
    assert (again, hash(again), again.config) == (image, hash(image), image.config)
    with pickle.loads(pickle.dumps(engine)) as other:
        assert (type(other), other.root, other is engine) == (ck.Engine, engine.root, False)
        assert other.images.get(busybox) == again
    assert engine.containers.list() == ()  # it is open still


@pytest.mark.parametrize("what", ["start", "create"])
def test_a_failure_leaves_nothing(
    engine: ck.Engine, busybox: str, before: list[str], what: str
) -> None:
    with pytest.raises(ConfigError):
        getattr(engine.containers, what)(busybox, FOREVER, user="nobody-knows")
    with pytest.raises(ConfigError):
        getattr(engine.containers, what)(busybox, FOREVER, name="bad name")
    with pytest.raises(ck.ImageNotFound):
        getattr(engine.containers, what)("not/here:1", FOREVER, pull="never")
    assert sorted(directories(engine)) == sorted(before)
    assert not engine.containers.list()


def test_a_failed_start_leaves_what_was_there(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox, ["sh", "-c", "exit 3"]) as one:
        one.start()
        assert one.wait(timeout=120).code == 3
        with engine.containers.create(busybox, ["nothing-of-this-name"]) as two:
            with pytest.raises(CommandNotFound):
                two.start()
            assert two.status == "created"
            assert two.exit is None
        assert one.status == "stopped"


def test_names(engine: ck.Engine, busybox: str) -> None:
    with (
        engine.containers.create(busybox, name="one.a") as one,
        engine.containers.create(busybox) as two,
    ):
        with pytest.raises(AlreadyExists, match=r"one\.a"):
            engine.containers.create(busybox, name="one.a")
        with pytest.raises(AlreadyExists):
            two.rename("one.a")
        one.rename("one.a")
        one.rename("one.b")
        two.rename("one.a")
        assert (one.name, two.name) == ("one.b", "one.a")
        assert engine.containers.get("one.a") == two
        with pytest.raises(ConfigError):
            one.rename("-x")


def test_address(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox) as one:
        with pytest.raises(NotPublished):
            one.address(80)
        with pytest.raises(ConfigError):
            one.address(0)
    with engine.containers.create(busybox, network="host") as one:
        assert one.address(80) == ("127.0.0.1", 80)


def test_a_plan_is_shown_without_starting(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox, ["echo", "words"]) as one:
        assert "words" in one.plan().explain()
        assert one.status == "created"


def test_secrets_of_a_created_one(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(
        busybox, ["cat", "/run/secrets/key"], secrets={"key": b"hidden-one"}
    ) as one:
        for _ in range(2):
            one.start()
            assert one.wait(timeout=120).ok
        assert one.log_text() == "hidden-onehidden-one"
        assert b"hidden-one" not in (engine.root / "catalog.sqlite").read_bytes()
        assert "hidden-one" not in repr(one.inspect())
        engine._keeper.secrets.clear()  # as in another process
        with pytest.raises(ConfigError, match="secrets"):
            one.start()


def test_an_image_that_was_removed(engine: ck.Engine, busybox: str) -> None:
    """A container needs its layers, and they stay with it."""
    image = engine.images.get(busybox).tag("local/doomed:1")
    with engine.containers.create("local/doomed:1", ["echo", "still"], pull="never") as one:
        image.untag("local/doomed:1")
        engine.gc()
        one.start()
        assert one.wait(timeout=120).ok
        assert one.log_text() == "still\n"
