"""Waiting for readiness: each kind, all together, and what is said when it fails."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import socket
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

import containerkit as ck
from containerkit.errors import ConfigError, InvalidStatus, NotReady, Timeout
from containerkit.stdio.aiodrive import adrive
from tests.integration.waits import deadline
from tests.support.patience import cut_short, until

SERVE = "while :; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nok' | nc -l -p 8080 >/dev/null; done"
"""Answers any request; busybox nc takes one connection at a time."""


def containers_of(engine: ck.Engine) -> set[str]:
    return {name for name in os.listdir(engine.root / "containers") if not name.startswith(".")}


UNDECIDED = "not asked yet|in time|has not ended yet|does not answer"


def refused(wait: Callable[..., object], undecided: str = UNDECIDED, **conditions: Any) -> str:
    """Return why a wait with a time to wait for was in vain, once it had come to look at all."""
    error = cut_short(
        lambda seconds: wait(**conditions, timeout=seconds),
        lambda error: not re.search(undecided, str(error)),
    )
    return str(error)


def test_a_port(engine: ck.Engine, busybox: str) -> None:
    with engine.start(
        busybox, ["sh", "-c", f"sleep 0.2; {SERVE}"], ready=ck.Ready(port=8080)
    ) as one:
        assert one.status == "running"
        assert one.wait_ready(port="8080/tcp", timeout=deadline()) is one
        assert "port 8081/tcp: nobody listens" in refused(one.wait_ready, port=8081)
        assert one.status == "running"


def test_in_the_hosts_network_only_its_own_processes_count(engine: ck.Engine, busybox: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        with (
            engine.start(busybox, ["sleep", "1000"], network="host") as one,
            pytest.raises(Timeout),
        ):
            one.wait_ready(port=port, timeout=0.1)
    with socket.socket() as held:  # bound, so that nobody else is given it meanwhile
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with engine.start(busybox, ["nc", "-l", "-p", str(port)], network="host") as one:
            one.wait_ready(port=port, timeout=deadline())


def test_an_address(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sh", "-c", f"sleep 0.2; {SERVE}"]) as one:
        one.wait_ready(http=":8080/health", timeout=deadline())
        one.wait_ready(http="/", port=8080, timeout=deadline())


def test_an_address_that_answers_otherwise(engine: ck.Engine, busybox: str) -> None:
    busy = SERVE.replace("200 OK", "503 Busy")
    said = r"http://localhost:8080/x: (status 503|Connection)"
    with engine.start(busybox, ["sh", "-c", busy]) as one:
        one.wait_ready(port=8080, timeout=deadline())
        assert re.search(said, refused(one.wait_ready, http=":8080/x"))


def test_lines_of_its_log(engine: ck.Engine, busybox: str) -> None:
    command = "echo ready; sleep 0.2; echo ready >&2; sleep 1000"
    with engine.start(
        busybox,
        ["sh", "-c", command],
        ready=ck.Ready(log=re.compile("^READY$", re.IGNORECASE), times=2),
    ) as one:
        assert one.log_text() == "ready\nready\n"
        assert "found 2 of 3 times" in refused(one.wait_ready, log="ready", times=3)


def test_the_log_of_an_earlier_run_does_not_count(engine: ck.Engine, busybox: str) -> None:
    command = "test -e /again || { touch /again; echo ready; }; sleep 1000"
    with engine.start(busybox, ["sh", "-c", command], ready=ck.Ready(log="ready")) as one:
        one.kill()
        one.wait()
        one.start()
        with pytest.raises(Timeout):
            one.wait_ready(log="ready", timeout=0.2)


def test_a_command(engine: ck.Engine, busybox: str) -> None:
    command = "sleep 0.2; touch /ok; sleep 1000"
    with engine.start(
        busybox, ["sh", "-c", command], ready=ck.Ready(command=["test", "-e", "/ok"])
    ) as one:
        one.wait_ready(command="test -e /ok", timeout=deadline())
        said = refused(one.wait_ready, command="exit 3")
        assert "command 'exit 3': ended with code 3" in said
        assert "not in the container" in refused(one.wait_ready, command=["no-such-command"])
        sleep = ("sleep", "1000")
        until(lambda: sleep in [task.command for task in one.top()])
        with pytest.raises(Timeout, match=r"has not ended|still ran|does not answer"):
            one.wait_ready(command=[*sleep], timeout=0.3)
        until(lambda: [task.command for task in one.top()].count(sleep) == 1)


def test_its_end_while_a_command_runs(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sh", "-c", "sleep 0.5; echo bye; exit 4"]) as one:
        with pytest.raises(NotReady, match="bye"):
            one.wait_ready(command=["sleep", "1000"], timeout=3600)
        assert one.exit == ck.Exit(code=4)


def test_all_of_them(engine: ck.Engine, busybox: str) -> None:
    ready = ck.Ready(port=8080, log="up", http="/", command=["true"], timeout=deadline())
    with engine.start(busybox, ["sh", "-c", f"echo up; {SERVE}"], ready=ready) as one:
        assert one.status == "running"


def test_its_end_is_told_at_once_with_its_last_words(engine: ck.Engine, busybox: str) -> None:
    before = containers_of(engine)
    command = "echo one; echo cannot bind >&2; exit 3"
    with pytest.raises(NotReady, match="cannot bind") as caught:
        engine.start(busybox, ["sh", "-c", command], ready=ck.Ready(port=1, timeout=3600))
    assert caught.value.exit == ck.Exit(code=3)
    assert caught.value.log == ("one", "cannot bind")
    assert "port 1/tcp" in str(caught.value)
    assert containers_of(engine) == before


def test_what_is_no_ready(engine: ck.Engine, busybox: str) -> None:
    before, anything = containers_of(engine), cast("Any", 6379)
    with pytest.raises(ck.ConfigError, match="6379 is no Ready"):
        engine.start(busybox, ["sleep", "1000"], ready=anything)
    assert containers_of(engine) == before


def test_one_that_was_not_ready_in_time_is_removed(engine: ck.Engine, busybox: str) -> None:
    before = containers_of(engine)
    command = ["sh", "-c", "echo still starting; sleep 1000"]
    start = functools.partial(engine.start, busybox, command, ready=ck.Ready(port=1))
    assert "still starting" in refused(start, "its log is empty|does not answer")
    assert containers_of(engine) == before


def test_killed_by_another_thread_while_it_is_waited_for(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sh", "-c", "echo up; sleep 1000"]) as one:
        killer = threading.Thread(target=lambda: one.wait_ready(log="up").kill())
        killer.start()
        with pytest.raises(NotReady, match="signal 9"):
            one.wait_ready(log="never", timeout=3600)
        killer.join()
        with pytest.raises(NotReady, match="signal 9"):
            one.wait_ready(port=1, timeout=3600)
    with pytest.raises(InvalidStatus, match="removed"):
        one.wait_ready(port=1)


def test_one_that_was_not_started(engine: ck.Engine, busybox: str) -> None:
    with (
        engine.containers.create(busybox, ["sleep", "1000"]) as one,
        pytest.raises(InvalidStatus, match="created"),
    ):
        one.wait_ready(port=1)


def test_without_a_condition_or_a_check(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "1000"]) as one:
        with pytest.raises(ConfigError, match="nothing to wait for"):
            one.wait_ready()
        with pytest.raises(ConfigError, match="no health check"):
            one.wait_ready(healthy=True)


def test_on_an_event_loop(engine: ck.Engine, busybox: str) -> None:
    async def both() -> None:
        command = f"echo up; {SERVE}"
        with engine.start(busybox, ["sh", "-c", command]) as one:
            await asyncio.gather(
                adrive(one._waiting_ready(log="up", port=8080, http=":8080")),
                adrive(one._waiting_ready(port=8080)),
            )
            stuck = asyncio.ensure_future(adrive(one._waiting_ready(log="never")))
            await asyncio.sleep(0)
            stuck.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stuck
            assert one.status == "running"

    asyncio.run(both())
