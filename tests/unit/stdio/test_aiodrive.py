"""`adrive` with real descriptors: what `drive` does, on an event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import selectors
import socket
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest

from containerkit.stdio.aiodrive import adrive
from containerkit.stdio.waiting import READ, WRITE, Wait, Waiting, until_readable

Loop = Callable[[], asyncio.AbstractEventLoop]


def loop_of(selector: type[selectors.BaseSelector]) -> Loop:
    return lambda: asyncio.SelectorEventLoop(selector())


@pytest.fixture(
    params=[selectors.EpollSelector, selectors.PollSelector, selectors.SelectSelector],
    ids=lambda kind: kind.__name__,
)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=loop_of(request.param)) as made:
        yield made


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


def test_the_value_of_a_generator_that_never_waits(runner: asyncio.Runner) -> None:
    def nothing() -> Waiting[str]:
        yield from ()
        return "value"

    assert runner.run(adrive(nothing())) == "value"


def test_what_is_ready_is_sent_back(runner: asyncio.Runner, pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe

    def talk() -> Waiting[bytes]:
        ready = yield Wait(((read_end, READ), (write_end, WRITE)))
        assert ready == [(write_end, WRITE)]
        os.write(write_end, b"x")
        ready = yield Wait(((read_end, READ),))
        assert ready == [(read_end, READ)]
        return os.read(read_end, 10)

    assert runner.run(adrive(talk())) == b"x"


def test_a_hang_up_is_told_unasked(runner: asyncio.Runner, pipe: tuple[int, int]) -> None:
    def hung_up() -> Waiting[list[tuple[int, int]]]:
        return (yield Wait(((pipe[0], 0),)))

    os.write(pipe[1], b"not asked for")

    async def main() -> list[tuple[int, int]]:
        asyncio.get_running_loop().call_later(0.01, os.close, pipe[1])
        return await adrive(hung_up())

    import select

    assert runner.run(main()) == [(pipe[0], select.POLLHUP)]


def test_a_deadline_that_passed_sends_nothing(
    runner: asyncio.Runner, pipe: tuple[int, int]
) -> None:
    assert runner.run(adrive(until_readable(pipe[0], time.monotonic() - 1))) is False
    before = time.monotonic()
    assert runner.run(adrive(until_readable(pipe[0], before + 0.01))) is False
    assert time.monotonic() >= before + 0.01


def test_a_deadline_beyond_all_clocks(runner: asyncio.Runner, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    assert runner.run(adrive(until_readable(pipe[0], time.monotonic() + 1e12))) is True


def test_a_regular_file_is_always_ready(runner: asyncio.Runner) -> None:
    with tempfile.TemporaryFile() as file:
        assert runner.run(adrive(until_readable(file.fileno()))) is True


def test_a_descriptor_that_the_loop_watches_already(runner: asyncio.Runner) -> None:
    """Neither side disturbs the other."""
    ours, theirs = socket.socketpair()
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(ours.fileno(), seen.append, "the program's own reader")
        both = asyncio.gather(
            adrive(until_readable(ours.fileno())), adrive(until_readable(ours.fileno()))
        )
        loop.call_soon(theirs.send, b"x")
        assert tuple(await both) == (True, True)
        assert seen
        assert loop.remove_reader(ours.fileno())

    with ours, theirs:
        runner.run(main())


def test_a_flood_lets_the_loop_live(runner: asyncio.Runner, pipe: tuple[int, int]) -> None:
    """Something is ready at every wait, and other tasks go on."""
    turns = 0

    def flood() -> Waiting[None]:
        interest = ((pipe[1], WRITE),)
        while turns < 5:
            yield Wait(interest)

    async def count() -> None:
        nonlocal turns
        while turns < 5:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.wait_for(asyncio.gather(adrive(flood()), count()), 120)

    runner.run(main())


def test_a_cancellation_is_raised_inside_and_its_cleanup_waited_for(
    runner: asyncio.Runner, pipe: tuple[int, int]
) -> None:
    """Also when it is cancelled again while it cleans up."""
    told: list[str] = []

    def wait() -> Waiting[None]:
        try:
            yield Wait(((pipe[0], READ),))
        except asyncio.CancelledError:
            told.append("cancelled")
            raise
        finally:
            yield Wait(((pipe[0], READ),))
            told.append("clean")

    async def main() -> None:
        task = asyncio.ensure_future(adrive(wait()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert told == ["cancelled"]
        os.write(pipe[1], b"x")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert told == ["cancelled", "clean"]

    runner.run(main())


def test_a_cancellation_is_not_swallowed(runner: asyncio.Runner, pipe: tuple[int, int]) -> None:
    def wait() -> Waiting[str]:
        try:
            yield Wait(((pipe[0], READ),))
        except asyncio.CancelledError:
            pass
        return "value"

    async def main() -> None:
        task = asyncio.ensure_future(adrive(wait()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    runner.run(main())


def test_a_loop_that_ends_meanwhile_leaves_nothing(pipe: tuple[int, int]) -> None:
    """The coroutine is closed, not cancelled: the generator cleans up all the same."""
    told: list[str] = []

    def wait() -> Waiting[None]:
        try:
            yield Wait(((pipe[0], READ),))
        finally:
            yield Wait(((pipe[1], WRITE),))
            told.append("clean")

    before = set(os.listdir("/proc/self/fd"))
    loop = asyncio.SelectorEventLoop()
    coroutine = adrive(wait())
    loop.call_soon(loop.stop)
    task = loop.create_task(coroutine)
    loop.run_forever()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    coroutine.close()
    del task, coroutine
    gc.collect()
    assert told == ["clean"]
    assert set(os.listdir("/proc/self/fd")) == before


def test_descriptors_are_let_go(runner: asyncio.Runner, pipe: tuple[int, int]) -> None:
    runner.run(asyncio.sleep(0))
    before = set(os.listdir("/proc/self/fd"))
    os.write(pipe[1], b"x")
    for _ in range(3):
        runner.run(adrive(until_readable(pipe[0])))
    assert set(os.listdir("/proc/self/fd")) == before


def test_uvloop(pipe: tuple[int, int]) -> None:
    """The loop that many servers use is no selector loop at all."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    os.write(pipe[1], b"x")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(adrive(until_readable(pipe[0], time.monotonic() + 120))) is True
