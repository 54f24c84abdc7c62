"""Health checks, run by the launcher: starting, healthy, unhealthy, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import containerkit as ck
from containerkit.errors import Timeout
from containerkit.model import healthcheck
from containerkit.model.event import Event
from tests.integration.waits import deadline
from tests.support import ocibuild
from tests.support.registry import RegistryServer

OK = ["sh", "-c", "test -e /ok || { echo 'it is not there' >&2; exit 1; }"]
SOON = 0.05


def check(**changes: float) -> ck.Healthcheck:
    times = {"interval": SOON, "timeout": 120.0, "start_interval": SOON}
    retries = int(changes.pop("retries", 2))
    return ck.Healthcheck(OK, **{**times, **changes}, retries=retries)


def health(one: ck.Container) -> str:
    return str(one.health)


@contextmanager
def told(engine: ck.Engine, one: ck.Container) -> Iterator[Iterator[str]]:
    """Follow what is told of its health, from now on."""

    def statuses(events: Iterator[Event]) -> Iterator[str]:
        for event in events:
            yield str(event.attributes["status"])

    with engine.events(follow=True, container=one, kind="health") as events:
        yield statuses(events)


def test_it_becomes_healthy_unhealthy_and_healthy_again(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "1000"], healthcheck=check()) as one:
        assert health(one) in {"starting", "unhealthy"}
        with told(engine, one) as statuses:
            one.exec(["touch", "/ok"], check=True)
            one.wait_ready(healthy=True, timeout=deadline())
            assert health(one) == "healthy"
            while next(statuses) != "healthy":  # it may have been told unhealthy before
                pass
            one.exec(["rm", "/ok"], check=True)
            while next(statuses) != "unhealthy":
                pass
            assert health(one) == "unhealthy"
            with pytest.raises(Timeout, match="health: unhealthy: it is not there"):
                one.wait_ready(healthy=True, timeout=0.2)
            one.exec(["touch", "/ok"], check=True)
            while next(statuses) != "healthy":
                pass
            assert health(one) == "healthy"
        assert one.status == "running"
    assert health(one) == "None"


def test_failures_in_the_start_period_do_not_count(engine: ck.Engine, busybox: str) -> None:
    patient = check(start_period=3600.0, retries=1)
    with engine.start(busybox, ["sleep", "1000"], healthcheck=patient) as one:
        with pytest.raises(Timeout, match="health: starting"):
            one.wait_ready(healthy=True, timeout=0.5)
        assert health(one) == "starting"
        one.exec(["touch", "/ok"], check=True)
        one.wait_ready(healthy=True, timeout=deadline())


@pytest.mark.needs("control groups")
def test_a_probe_that_takes_too_long_has_failed(engine: ck.Engine, busybox: str) -> None:
    slow = ck.Healthcheck("sleep 1001", interval=SOON, timeout=SOON, retries=1)
    with engine.start(busybox, ["sleep", "1000"], healthcheck=slow) as one:
        with told(engine, one) as statuses:
            assert health(one) == "unhealthy" or next(statuses) == "unhealthy"
        one.pause()
        # At most the one that was running then: the others were killed.
        assert [task.command for task in one.top()].count(("sleep", "1001")) <= 1
        one.unpause()


def test_it_is_ready_at_the_start_when_healthy(engine: ck.Engine, busybox: str) -> None:
    with engine.start(
        busybox,
        ["sh", "-c", "sleep 0.3; touch /ok; sleep 1000"],
        healthcheck=check(retries=100),
        ready=ck.Ready(healthy=True),
    ) as one:
        assert health(one) == "healthy"


def test_one_that_can_not_be_run_is_a_failure(engine: ck.Engine, busybox: str) -> None:
    missing = ck.Healthcheck(["no-such-command"], interval=SOON, retries=1)
    with engine.start(busybox, ["sleep", "1000"], healthcheck=missing) as one:
        with told(engine, one) as statuses:
            assert health(one) == "unhealthy" or next(statuses) == "unhealthy"
        assert one.status == "running"


@pytest.fixture(scope="module")
def checked(registry: RegistryServer) -> str:
    """An image that says itself how it is checked."""
    return registry.push(
        "test/checked:latest", ocibuild.busybox(config={"Healthcheck": IMAGE_CHECK})
    )


IMAGE_CHECK = {"Test": ["CMD-SHELL", "test -e /ok"], "Interval": 50_000_000, "Retries": 1}


def test_an_images_own_check(
    engine: ck.Engine, checked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healthcheck, "LEAST_OF_IMAGE", 0.05)
    with engine.start(checked, ["sh", "-c", "touch /ok; sleep 1000"]) as one:
        one.wait_ready(healthy=True, timeout=deadline())
    with engine.start(checked, ["sleep", "1000"], healthcheck=ck.Healthcheck.none()) as one:
        assert health(one) == "None"


def test_it_is_kept_for_the_next_start(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sh", "-c", "touch /ok; sleep 1000"], healthcheck=check()) as one:
        one.wait_ready(healthy=True, timeout=deadline())
        one.kill()
        one.wait()
        assert health(one) == "None"
        one.start()
        one.wait_ready(healthy=True, timeout=deadline())
