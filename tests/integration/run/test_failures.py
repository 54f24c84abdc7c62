"""What can not start says which step failed, with which cause, on what; and leaves nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import containerkit as ck
from containerkit.errors import (
    CommandNotFound,
    ConfigError,
    LaunchError,
    MissingFeature,
    NotExecutable,
)
from containerkit.runtime import packets
from containerkit.runtime.launcher import Launcher
from tests.support import ocibuild
from tests.support.registry import RegistryServer


@pytest.fixture(scope="session")
def odd(registry: RegistryServer) -> str:
    """Name an image with things that can not be executed."""
    files: dict[str, ocibuild.Content] = {
        "bin/plain": "not a program",
        "bin/noise": ocibuild.program(b"\x7fELF" + b"\0" * 100),
        "bin/orphan": ocibuild.program("#!/no/such/interpreter\n"),
        "bin/closed": ocibuild.Entry(data=b"#!/bin/sh\n", mode=0o700),
    }
    return registry.push("test/odd:latest", ocibuild.busybox(files))


@pytest.mark.parametrize(
    "command", [["no-such-command"], ["/no/such/file"], ["/bin/sh/x"], ["orphan"]]
)
def test_a_missing_command(engine: ck.Engine, odd: str, command: list[str]) -> None:
    with pytest.raises(CommandNotFound) as caught:
        engine.run(odd, command)
    assert command[0] in str(caught.value)
    assert caught.value.op == "exec"
    assert caught.value.op_index is not None


@pytest.mark.parametrize("command", [["/bin/plain"], ["/bin"], ["/bin/noise"], ["/etc/passwd"]])
def test_what_is_no_program(engine: ck.Engine, odd: str, command: list[str]) -> None:
    with pytest.raises(NotExecutable) as caught:
        engine.run(odd, command)
    assert command[0] in str(caught.value)


@pytest.mark.needs("ids")
def test_a_program_that_the_user_may_not_run(engine: ck.Engine, odd: str) -> None:
    with pytest.raises(NotExecutable):
        engine.run(odd, ["/bin/closed"], user="app")
    assert engine.run(odd, ["/bin/closed"]).exit.ok


def test_a_failed_start_shows_its_plan(engine: ck.Engine, busybox: str) -> None:
    with pytest.raises(LaunchError) as caught:
        engine.run(busybox, ["nothing"], env={"TOKEN": "hidden"})
    text = caught.value.plan.explain()
    assert "exec" in text
    assert "hidden" not in text + str(caught.value)


@pytest.mark.parametrize(
    "user", ["nobody-here", "app:nogroup-here", "-1", "4294967295", "", "a:b:c"]
)
def test_a_wrong_user(engine: ck.Engine, busybox: str, user: str) -> None:
    with pytest.raises(ConfigError):
        engine.run(busybox, ["true"], user=user)


@pytest.mark.parametrize(
    "options",
    [
        {"workdir": "relative"},
        {"hostname": "a" * 65},
        {"hostname": "under_score/slash"},
        {"env": {"A=B": "c"}},
        {"colour": "blue"},
        {"mounts": [ck.Mount.tmpfs("/")]},
    ],
)
def test_options_without_a_meaning(
    engine: ck.Engine, busybox: str, options: dict[str, object]
) -> None:
    with pytest.raises(ConfigError):
        engine.run(busybox, ["true"], **options)  # type: ignore[call-overload]


@pytest.mark.parametrize("options", [{"ports": [80]}, {"dns": ["192.0.2.1"]}])
def test_options_of_a_later_version(
    engine: ck.Engine, busybox: str, options: dict[str, object]
) -> None:
    with pytest.raises(MissingFeature):
        engine.run(busybox, ["true"], **options)  # type: ignore[call-overload]


def test_after_every_failure_the_next_start_works(engine: ck.Engine, busybox: str) -> None:
    for _ in range(5):
        with pytest.raises(CommandNotFound):
            engine.run(busybox, ["nothing"])
        assert engine.run(busybox, ["true"]).exit.ok


# ---- bytes that are no plan


def answer_to(launcher: Launcher, plan: bytes) -> packets.Event | None:
    channel = launcher.start(plan, [])
    try:
        return channel.receive()[0]
    finally:
        channel.finish()


def test_random_bytes_are_refused(engine: ck.Engine, busybox: str) -> None:
    """The launcher says no, and goes on serving."""
    launcher, _ = engine._runner.launcher()
    noise = random.Random(4)
    for size in (0, 1, 16, 48, 100, 1000, 40_000, 100_000):
        event = answer_to(launcher, noise.randbytes(size))
        assert event is not None
        assert (event.kind, event.errnum) == (packets.FAILED, 22)
    assert engine.run(busybox, ["true"]).exit.ok


def test_a_plan_with_bits_turned_is_refused_or_harmless(engine: ck.Engine, busybox: str) -> None:
    """Whatever a damaged plan does, it does in namespaces, as a failed or an odd container."""
    plan = engine.plan(busybox, ["true"]).encode()
    launcher, _ = engine._runner.launcher()
    noise = random.Random(5)
    for _ in range(200):
        damaged = bytearray(plan)
        at = noise.randrange(48)  # the header: sizes, counts, flags
        damaged[at] ^= 1 << noise.randrange(8)
        if bytes(damaged[:16]) == plan[:16]:
            continue
        event = answer_to(launcher, bytes(damaged))
        assert event is not None
        assert event.kind in (packets.FAILED, packets.EXITED)
    assert launcher.alive
    assert engine.run(busybox, ["true"]).exit.ok


NOBODY = "127.0.0.1:1/no/registry"
"""An image of a registry that is not there: pulling it is a `TransportError`."""

OPTIONS: list[Any] = [
    {"labels": {"a": 1}},
    {"env": {"A": 1}},
    {"secrets": {"s": 1}},
    {"secrets": {"s": None}},
    {"platform": "a/b/c/d"},
    {"enviroment": {}},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("verb", ["run", "start", "plan", "create", "shared"])
def test_options_are_looked_at_before_the_image(verb: str, options: Any, engine: ck.Engine) -> None:
    calls: dict[str, Callable[..., object]] = {
        "run": engine.run,
        "start": engine.start,
        "plan": engine.plan,
        "create": engine.containers.create,
        "shared": partial(engine.containers.shared, "looked-at"),
    }
    with pytest.raises(ck.TransportError):
        calls[verb](NOBODY, "true")
    with pytest.raises(ConfigError):
        calls[verb](NOBODY, "true", **options)


@pytest.mark.parametrize("options", OPTIONS)
def test_options_are_looked_at_before_the_image_in_asyncio(options: Any, shared_root: Path) -> None:
    async def main() -> None:
        async with ck.aio.Engine.open(shared_root) as engine:
            for verb in (engine.run, engine.start, engine.containers.create):
                with pytest.raises(ConfigError):
                    await verb(NOBODY, "true", **options)

    asyncio.run(main())
