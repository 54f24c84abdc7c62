"""Containers, execs and logs in the asyncio face, and all of it cancelled at any moment."""

from __future__ import annotations

import asyncio
import functools
import os
import pickle
import random
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import containerkit as ck
from containerkit import aio
from containerkit.runtime.copies import Copier
from containerkit.state import cancel

MANY = 25


def with_engine(root: Path, image: str, main: Callable[[aio.Engine], Awaitable[None]]) -> None:
    async def run() -> None:
        async with aio.Engine.open(root) as engine:
            await engine.images._ensure(image)
            await main(engine)

    asyncio.run(run())


async def cancel_at_random(
    make: Callable[[], Coroutine[Any, Any, Any] | Awaitable[Any]], noise: random.Random, span: float
) -> Any:
    """Cancel what *make* does after up to *span* seconds; return its value if it was faster."""

    async def whole() -> Any:
        return await make()

    task = asyncio.ensure_future(whole())
    await asyncio.sleep(noise.random() ** 2 * span)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None


async def nothing_is_left(engine: aio.Engine) -> None:
    assert await engine.containers.list() == ()
    assert [name for name in os.listdir(engine.root / "containers") if name[0] != "."] == []


@pytest.mark.needs("control groups")
def test_the_life_of_a_container(engine_root: Path, busybox: str) -> None:
    async def main(engine: aio.Engine) -> None:
        script = "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"
        async with engine.start(
            busybox, ["sh", "-c", script], ready=ck.Ready(log="up"), name="one"
        ) as container:
            assert container.status == "running"
            assert container == await engine.containers.get("one")
            assert [entry.data async for entry in container.logs()] == [b"up\n"]
            assert (await container.stats()).memory
            assert (await container.top())[0].host_pid == container.pid
            await container.pause()
            assert (await container.inspect()).status == "paused"
            await container.unpause()
            await container.rename("two")
            with pytest.raises(ck.Timeout):
                await container.wait(timeout=0.05)
            await container.stop(grace=120)
            assert (await container.wait()).code == 7
            await container.restart()
            assert (await container.inspect()).status == "running"
        await nothing_is_left(engine)

    with_engine(engine_root, busybox, main)


def test_create_awaited_or_entered(engine_root: Path, busybox: str) -> None:
    async def main(engine: aio.Engine) -> None:
        container = await engine.containers.create(busybox, ["true"])
        await container.start()
        assert (await container.wait(timeout=120)).ok
        await container.remove()
        async with engine.containers.create(busybox, ["true"]) as other:
            assert other.status == "created"
        with pytest.raises(ck.ContainerNotFound):
            await engine.containers.get(other.id)
        await nothing_is_left(engine)

    with_engine(engine_root, busybox, main)


def test_a_start_that_is_not_ready_leaves_nothing(engine_root: Path, busybox: str) -> None:
    async def main(engine: aio.Engine) -> None:
        with pytest.raises(ck.NotReady, match="last words"):
            await engine.start(
                busybox, ["sh", "-c", "echo last words; exit 3"], ready=ck.Ready(log="never")
            )
        await nothing_is_left(engine)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await engine.start(busybox, ["sleep", "1000"], ready=ck.Ready(log="never"))
        await nothing_is_left(engine)

    with_engine(engine_root, busybox, main)


def test_exec_and_popen(engine_root: Path, busybox: str) -> None:
    async def main(engine: aio.Engine) -> None:
        async with engine.start(busybox, ["sleep", "1000"]) as container:
            result = await container.exec(["sh", "-c", "cat; exit 4"], input="in", text=True)
            assert (result.stdout, result.returncode) == ("in", 4)
            results = await asyncio.gather(
                *(container.exec(["echo", str(n)], text=True) for n in range(16))
            )
            assert [int(one.stdout) for one in results] == list(range(16))
            async with container.popen(["cat"], text=True) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                await process.stdin.write("one\ntwo\n")
                assert await process.stdout.readline() == "one\n"
                writing = asyncio.ensure_future(process.stdin.write("x" * 300_000 + "\n"))
                assert await process.stdout.readline() == "two\n"
                assert len(await process.stdout.readline()) == 300_001
                await writing
                process.stdin.close()
                assert [line async for line in process.stdout] == []
                assert (await process.wait()).ok
            process = await container.popen(["sh", "-c", "read line; echo $line >&2"], text=True)
            said = await process.communicate("hello\n")
            assert said.stderr == "hello\n"
            await process.close()

    with_engine(engine_root, busybox, main)


async def alive(container: aio.Container) -> int:
    """Count its processes, without those that its first process does not reap."""
    return sum(task.state != "Z" for task in await container.top())


def test_a_cancelled_exec_kills_what_it_started(engine_root: Path, busybox: str) -> None:
    async def main(engine: aio.Engine) -> None:
        async with engine.start(busybox, ["sleep", "1000"]) as container:
            begun = asyncio.Event()
            script = "(sleep 500 &); setsid sleep 501 & echo begun; sleep 502"
            task = asyncio.ensure_future(
                container.exec(["sh", "-c", script], on_output=lambda _: begun.set())
            )
            await begun.wait()
            assert await alive(container) > 3
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await alive(container) == 1
            process = await container.popen(["sleep", "1000"])
            await process.close()
            assert await alive(container) == 1

    with_engine(engine_root, busybox, main)


@pytest.mark.needs("control groups")
@pytest.mark.slow
def test_execs_cancelled_at_any_moment(engine_root: Path, busybox: str) -> None:
    noise = random.Random(3)

    async def main(engine: aio.Engine) -> None:
        async with engine.start(busybox, ["sleep", "1000"]) as container:
            await container.exec(["true"])
            for _ in range(MANY):
                command = noise.choice(["true", "sleep 1000 & sleep 1000", "yes"])
                await cancel_at_random(
                    functools.partial(container.exec, ["sh", "-c", command]), noise, 0.03
                )
                process = await cancel_at_random(
                    lambda: container.popen(["sleep", "1000"]), noise, 0.01
                )
                if process is not None:
                    await process.close()
            assert len([task for task in await container.top() if task.state != "Z"]) == 1
            assert (await container.exec(["echo", "fine"])).stdout == b"fine\n"

    with_engine(engine_root, busybox, main)


@pytest.mark.slow
def test_starts_cancelled_at_any_moment(engine_root: Path, busybox: str) -> None:
    noise = random.Random(4)

    async def main(engine: aio.Engine) -> None:
        for _ in range(MANY):
            make = noise.choice([engine.start, engine.containers.create])
            container = await cancel_at_random(
                functools.partial(make, busybox, ["sleep", "1000"]), noise, 0.03
            )
            if container is not None:
                await container.remove(force=True)
            await nothing_is_left(engine)
        async with engine.start(busybox, ["sleep", "1000"]) as container:
            for _ in range(MANY):
                await cancel_at_random(lambda: container.restart(grace=0), noise, 0.03)
                assert container.status in ("running", "stopped")

    with_engine(engine_root, busybox, main)


def test_waits_that_are_cancelled_stop_only_themselves(engine_root: Path, busybox: str) -> None:
    async def main(engine: aio.Engine) -> None:
        script = "while :; do echo line; sleep 0.01; done"
        async with engine.start(busybox, ["sh", "-c", script]) as container:
            logs = container.logs(follow=True)
            assert (await anext(logs)).data == b"line\n"

            async def follow() -> None:
                async for _ in logs:
                    pass

            waits = [
                asyncio.ensure_future(one)
                for one in (
                    follow(),
                    container.wait(),
                    container.wait_ready(log="never"),
                    anext(engine.events(follow=True, kind="pause")),
                )
            ]
            await asyncio.sleep(0.1)
            for wait in waits:
                wait.cancel()
            outcomes = await asyncio.gather(*waits, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in outcomes)
            assert (await anext(logs)).data == b"line\n", "an iterator goes on where it stood"
            await logs.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(logs)
            assert container.status == "running"

    with_engine(engine_root, busybox, main)


def test_what_is_followed_ends_with_the_container(engine_root: Path, busybox: str) -> None:
    async def main(engine: aio.Engine) -> None:
        script = "echo a; until test -e /go; do sleep 0.01; done; echo b"
        async with (
            engine.start(busybox, ["sh", "-c", script]) as container,
            container.logs(follow=True) as logs,
            container.watch_stats(0.05) as stats,
        ):
            assert (await anext(stats)).pids
            await container.exec(["touch", "/go"])
            assert [entry.data async for entry in logs] == [b"a\n", b"b\n"]
            async for one in stats:
                assert one.cpu_percent is not None

    with_engine(engine_root, busybox, main)


def test_events_are_iterated(engine_root: Path, busybox: str) -> None:
    async def main(engine: aio.Engine) -> None:
        async with engine.events(follow=True) as events:
            async with engine.start(busybox, ["true"]) as container:
                await container.wait()
            kinds = []
            async for event in events:
                kinds.append(event.kind)
                if event.kind == "remove":
                    break
        assert kinds == ["create", "start", "die", "remove"]

    with_engine(engine_root, busybox, main)


def test_a_handle_pickles(engine_root: Path, busybox: str) -> None:
    async def main(engine: aio.Engine) -> None:
        async with engine.start(busybox, ["sleep", "1000"]) as container:
            again = pickle.loads(pickle.dumps(container))
            assert again == container
            assert hash(again) == hash(container)
            await again.kill()
            assert (await container.wait()).signal == signal.SIGKILL

    with_engine(engine_root, busybox, main)


def test_the_default_engine(
    engine_root: Path, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for both faces."""
    from containerkit import default
    from containerkit.aio import default as own

    monkeypatch.setenv("CONTAINERKIT_ROOT", str(engine_root))
    monkeypatch.setattr(default, "_engine", None)
    monkeypatch.setattr(own, "_engine", None)

    async def main() -> None:
        assert (await aio.run(busybox, ["echo", "hi"], text=True)).stdout == "hi\n"
        async with aio.start(busybox, ["sleep", "1000"]) as container:
            assert ck.default_engine().containers.list()[0].id == container.id
        assert (await aio.default_engine()).root == ck.default_engine().root
        await (await aio.default_engine()).close()

    asyncio.run(main())
    asyncio.run(main())  # closed, it is opened again
    assert ck.run(busybox, ["true"]).exit.ok
    ck.default_engine().close()


def test_files(engine_root: Path, busybox: str, tmp_path: Path) -> None:
    async def main(engine: aio.Engine) -> None:
        async with engine.start(busybox, ["sleep", "1000"]) as container:
            await container.files.write_text("/file", "text")
            assert await container.files.read_text("/file") == "text"
            assert "file" in [one.name for one in await container.files.list("/")]
            assert [change.path for change in await container.diff()] == ["/file"]
            with pytest.raises(FileNotFoundError):
                await container.files.read_bytes("/no/such")
            with await container.files.open("/file", "rb") as file:
                assert file.read() == b"text"
            await container.files.put(Path(__file__).parent, "/tests")
            await container.files.get("/tests", tmp_path / "back")
            assert (tmp_path / "back" / Path(__file__).name).read_bytes()

    with_engine(engine_root, busybox, main)


def test_a_cancelled_copy_ends_early(
    engine_root: Path, busybox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the file that it is at; what was being written aside is gone."""
    (tmp_path / "tree").mkdir()
    for number in range(100):
        (tmp_path / "tree" / str(number)).touch()
    begun = threading.Event()
    copied = Copier.file

    def file(self: Copier, source: int, parent: int, name: str) -> None:
        copied(self, source, parent, name)
        begun.set()
        cancelled = cancel.current()
        assert cancelled is not None
        assert cancelled.wait(120)

    monkeypatch.setattr(Copier, "file", file)

    async def main(engine: aio.Engine) -> None:
        async with engine.start(busybox, ["sleep", "1000"]) as container:
            copy = asyncio.ensure_future(container.files.put(tmp_path / "tree", "/tree"))
            await asyncio.to_thread(begun.wait)
            copy.cancel()
            with pytest.raises(asyncio.CancelledError):
                await copy
            [name] = [one.name for one in await container.files.list("/tree")]
            assert name.isdigit()

    with_engine(engine_root, busybox, main)
