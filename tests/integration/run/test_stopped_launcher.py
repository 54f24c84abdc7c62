"""A launcher that is stopped: what is to be started is given up in time, and never starts later."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import containerkit as ck
import containerkit.aio
from containerkit.errors import ConfigError, Timeout

SOON = ck.EngineConfig(start_timeout=0.3)


@contextmanager
def stopped(engine: ck.Engine) -> Iterator[None]:
    """Stop the engine's launcher for the time of the block."""
    launcher, _ = engine._runner.launcher()
    os.kill(launcher.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(launcher.pid, signal.SIGCONT)


@pytest.fixture
def hasty(shared_root: Path) -> Iterator[ck.Engine]:
    with ck.Engine.open(shared_root, config=SOON) as engine:
        engine.run(None, ["true"])
        yield engine


def starting(engine: ck.Engine, box: ck.Container, marker: str) -> dict[str, Callable[[], object]]:
    mounts = [ck.Mount.bind(os.path.dirname(marker), "/mark")]
    command = ["touch", "/mark/started"]
    return {
        "run": lambda: engine.run(None, command, mounts=mounts),
        "terminal": lambda: engine.run(None, command, mounts=mounts, tty=True),
        "start": lambda: engine.start(None, command, mounts=mounts),
        "again": box.start,
        "files": lambda: box.files.write_text("/mark", "x"),
    }


@pytest.mark.parametrize("what", ["run", "terminal", "start", "again", "files"])
def test_a_start_is_given_up(hasty: ck.Engine, tmp_path: Path, what: str) -> None:
    with hasty.containers.create(
        None, ["touch", "/mark/started"], mounts=[ck.Mount.bind(tmp_path, "/mark")]
    ) as box:
        action = starting(hasty, box, str(tmp_path / "started"))[what]
        before = {c.id for c in hasty.containers.list(all=True)}
        with stopped(hasty), pytest.raises(Timeout, match="launcher"):
            action()
        assert {c.id for c in hasty.containers.list(all=True)} == before
        assert hasty.run(None, ["true"]).exit.ok  # the launcher has come to what was given up
        assert not list(tmp_path.iterdir())
        assert box.status == "created"
        box.start()  # nothing holds it
        assert box.wait().ok
        assert (tmp_path / "started").exists()


def test_in_asyncio(shared_root: Path) -> None:
    async def main() -> None:
        async with containerkit.aio.Engine.open(shared_root, config=SOON) as engine:
            assert (await engine.run(None, ["true"])).exit.ok
            launcher, _ = engine._core._runner.launcher()
            os.kill(launcher.pid, signal.SIGSTOP)
            try:
                with pytest.raises(Timeout, match="launcher"):
                    await engine.run(None, ["true"])
                with pytest.raises(Timeout, match="launcher"):
                    await engine.start(None, ["sleep", "1000"])
            finally:
                os.kill(launcher.pid, signal.SIGCONT)
            assert (await engine.run(None, ["true"])).exit.ok

    asyncio.run(main())


@pytest.mark.parametrize("value", [0, -1, float("nan"), True, "5"])
def test_what_is_no_time_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="start_timeout"):
        ck.EngineConfig(start_timeout=value)
