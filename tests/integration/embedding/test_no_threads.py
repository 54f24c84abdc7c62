"""A program that may have no more threads, as in a full pids group: told so, and nothing is left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import containerkit as ck
from containerkit import aio
from containerkit.errors import HostError
from tests.support import refused


def test_everything_that_takes_a_thread(engine_root: Path, busybox: str) -> None:
    async def run() -> None:
        async with aio.Engine.open(engine_root):
            pass

    with ck.Engine.open(engine_root) as engine:
        with refused.threads(), pytest.raises(HostError, match="start a download"):
            engine.images.pull(busybox)
        engine.images.pull(busybox)
        with engine.start(busybox, ["cat"], stdin_open=True) as container:
            with refused.threads():
                with pytest.raises(HostError, match="attach"):
                    container.attach()
                with pytest.raises(HostError, match="start a thread"):
                    asyncio.run(run())
                assert container.exec(["true"]).exit.ok, "it takes none"
            with container.attach() as process:
                assert process.communicate(b"word", timeout=60).stdout == b"word"
