"""Shared containers in the asyncio face: joined, left, and cancelled."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import containerkit as ck
from containerkit import aio


def test_shared_by_two_engines(engine_root: Path, busybox: str) -> None:
    async def main() -> None:
        async with aio.Engine.open(engine_root) as one, aio.Engine.open(engine_root) as other:
            await one.images._ensure(busybox)
            command = ["sh", "-c", "echo up; sleep 1000"]
            first = await one.containers.shared("key", busybox, command, ready=ck.Ready(log="up"))
            async with other.containers.shared("key", busybox, command) as second:
                assert second == first
                with pytest.raises(ck.Conflict):
                    await other.containers.shared("key", busybox, ["true"])
            assert first.status == "running"
            async with first:
                pass
            with pytest.raises(ck.ContainerNotFound):
                await one.containers.get(first.id)

    asyncio.run(main())


def test_a_join_that_is_cancelled_leaves_nothing(engine_root: Path, busybox: str) -> None:
    async def main() -> None:
        async with aio.Engine.open(engine_root) as engine:
            await engine.images._ensure(busybox)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await engine.containers.shared(
                        "key", busybox, ["sleep", "1000"], ready=ck.Ready(log="never")
                    )
            assert await engine.containers.list() == ()

    asyncio.run(main())
