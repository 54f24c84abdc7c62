"""What is waited for and looked at over the restarts of a detached container."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import containerkit as ck
from containerkit.errors import InvalidStatus, NotReady
from tests.integration.waits import deadline
from tests.support.patience import until

SECOND_TIME = "if test -e /again; then {}; fi; touch /again; echo failing; exit 1"


def test_ready_after_a_restart(engine: ck.Engine, busybox: str) -> None:
    command = SECOND_TIME.format("nc -l -p 7000 & echo up; sleep 1000")
    one = engine.start(
        busybox,
        ["sh", "-c", command],
        lifetime="detached",
        restart="on-failure:5",
        ready=ck.Ready(port=7000, log="up", command=["true"], timeout=deadline()),
    )
    try:
        assert one.status == "running"
        assert one.restarts == 1
        assert one.wait_ready(log="up", timeout=deadline()) is one
        until(lambda: {task.command[0] for task in one.top()} >= {"nc", "sleep"})
    finally:
        one.remove(force=True)


def test_not_ready_when_its_policy_gives_up(engine: ck.Engine, busybox: str) -> None:
    before = {one.id for one in engine.containers.list()}
    with pytest.raises(NotReady, match="code 3") as caught:
        engine.start(
            busybox,
            ["sh", "-c", "echo no luck; exit 3"],
            lifetime="detached",
            restart="on-failure:1",
            ready=ck.Ready(port=7000, timeout=3600),
        )
    assert caught.value.log[-1] == "no luck"
    assert {one.id for one in engine.containers.list()} == before


def test_statistics_over_a_restart(engine: ck.Engine, busybox: str) -> None:
    command = SECOND_TIME.format("sleep 1000").replace("exit 1", "sleep 0.2; exit 1")
    one = engine.start(
        busybox, ["sh", "-c", command], lifetime="detached", restart="always",
        ready=ck.Ready(log="failing"),
    )  # fmt: skip
    try:
        end = time.monotonic() + deadline()
        with one.watch_stats(0.01) as watch:
            while one.restarts == 0 or one.status != "running":
                next(watch)
                assert time.monotonic() < end
            assert next(watch).cpus is not None
            one.stop(grace=0)
            list(watch)
        with pytest.raises(InvalidStatus):
            one.stats()
    finally:
        one.remove(force=True)


def test_health_begins_anew_with_each_start(engine: ck.Engine, busybox: str) -> None:
    check = ck.Healthcheck(["test", "-e", "/tmp/ok"], interval=0.05, retries=1)
    one = engine.start(
        busybox,
        [
            "sh",
            "-c",
            "mkdir -p /tmp; rm -f /tmp/ok; trap 'exit 1' TERM; echo up; sleep 1000 & wait",
        ],
        lifetime="detached",
        restart="always",
        healthcheck=check,
        ready=ck.Ready(log="up"),
    )
    try:
        with engine.events(follow=True, container=one, kind=("health", "restart")) as events:
            while str(one.health) != "unhealthy":
                assert next(events).kind == "health"
            one.exec(["touch", "/tmp/ok"], check=True)
            one.wait_ready(healthy=True, timeout=deadline())
            one.exec(["kill", "-TERM", "1"])
            while next(events).kind != "restart":
                pass
            while next(events).attributes.get("status") != "unhealthy":
                pass
    finally:
        one.remove(force=True)


OTHER = """
import sys, containerkit as ck
with ck.Engine.open(sys.argv[1]) as engine:
    one = engine.containers.get(sys.argv[2])
    one.wait_ready(log="up", healthy=True, command=["true"], timeout=120)
    assert one.stats().cpu.total > 0
    assert one.top()[0].command[0] == "sh"
    print(one.health)
"""


@pytest.mark.needs("control groups")
def test_another_process_sees_it_all(engine: ck.Engine, busybox: str) -> None:
    check = ck.Healthcheck("true", interval=0.05)
    command = ["sh", "-c", "echo up; sleep 1000; :"]
    with engine.start(busybox, command, name="seen", healthcheck=check):
        done = subprocess.run(
            [sys.executable, "-c", OTHER, str(engine.root), "seen"],
            check=True, stdout=subprocess.PIPE, text=True, timeout=deadline(),
        )  # fmt: skip
    assert done.stdout == "healthy\n"
