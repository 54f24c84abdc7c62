"""The launcher's sockets given what no engine sends, and the launcher at its limits."""

from __future__ import annotations

import array
import contextlib
import os
import random
import resource
import socket
from collections.abc import Iterator, Sequence

import pytest

import containerkit as ck
from containerkit.errors import LaunchError
from containerkit.launch.plan import Plan
from containerkit.runtime import packets
from containerkit.runtime.channel import Channel
from containerkit.runtime.launcher import Launcher
from tests.support.patience import descriptors_of, until

EINVAL, EBADF = 22, 9


@pytest.fixture
def launcher(engine: ck.Engine, busybox: str) -> Iterator[Launcher]:
    """A launcher that must be as it was when the test ends."""
    engine.run(busybox, ["true"])
    made, _ = engine._runner.launcher()
    before = descriptors(made)
    yield made
    assert made.alive
    assert engine.run(busybox, ["echo", "yes"]).stdout == b"yes\n"
    assert engine._runner.launcher()[0] is made
    # What it has ended it clears away by and by; places and a spare child are for the next starts.
    until(lambda: descriptors(made) <= before + 12, "descriptors are left")
    until(lambda: not directories(engine), "directories are left")


def directories(engine: ck.Engine) -> list[str]:
    return [name for name in os.listdir(engine.root / "containers") if name[0] != "."]


def descriptors(launcher: Launcher) -> int:
    return sum(not link.startswith("net:") for link in descriptors_of(launcher.pid))


def send(launcher: Launcher, data: bytes, fds: Sequence[int] = ()) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    launcher._control.sendmsg([data], rights, socket.MSG_NOSIGNAL)


def ask(launcher: Launcher, data: bytes, fds: Sequence[int] = ()) -> packets.Event | None:
    """Send a packet with a channel in front of *fds*; return the first answer on that."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(ours)
    with theirs:
        send(launcher, data, (theirs.fileno(), *fds))
    try:
        return channel.receive()[0]
    finally:
        channel.finish()


def start(plan: bytes, value: int = 0) -> bytes:
    return packets.packet(packets.START, size=len(plan), value=value) + plan


def encoded(engine: ck.Engine, busybox: str) -> bytes:
    return engine.plan(busybox, ["true"]).encode()


# ---- the control socket


def test_packets_that_are_none(launcher: Launcher) -> None:
    """Each is dropped, with the descriptors that came along."""
    noise = random.Random(1)
    for size in (1, 15, 16, 17, 4368, 60_000):
        send(launcher, noise.randbytes(size), (0, 1))
    for kind in (0, packets.HELLO, packets.KILL, packets.WATCH, packets.READY, 65535):
        send(launcher, packets.packet(kind), (0,))
    head = bytearray(start(b"x" * 100))
    for at in range(12):  # magic, version, kind, size
        damaged = bytearray(head)
        damaged[at] ^= 0x40
        send(launcher, bytes(damaged), (0,))
    send(launcher, start(b"x" * 100))  # without a channel
    send(launcher, start(b"x" * 100), [0] * 200)  # with far too many
    send(launcher, b"\0" * 70_000)  # longer than any packet


def test_descriptors_that_do_not_match_the_plan(
    launcher: Launcher, engine: ck.Engine, busybox: str
) -> None:
    plan = encoded(engine, busybox)
    for count in (0, 1, 3, 20, 64, 65):
        event = ask(launcher, start(plan), [0] * count)
        assert event is not None
        assert (event.kind, event.errnum) == (packets.FAILED, EBADF)


def test_a_channel_that_is_no_socket(launcher: Launcher, engine: ck.Engine, busybox: str) -> None:
    plan = encoded(engine, busybox)
    with open("/dev/null", "rb") as null, open(__file__, "rb") as file:
        for channel in (null, file):
            send(launcher, start(plan), (channel.fileno(), 0, 0))
            send(launcher, start(b"junk"), (channel.fileno(),))


def test_a_channel_that_is_full(launcher: Launcher, engine: ck.Engine, busybox: str) -> None:
    """Nobody makes the launcher wait."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                theirs.send(b"x" * 1000)
        send(launcher, start(encoded(engine, busybox)), (theirs.fileno(), 0, 0))
        assert engine.run(busybox, ["true"], timeout=120).exit.ok


def test_plans_in_memory_files(launcher: Launcher, engine: ck.Engine, busybox: str) -> None:
    """Only what nobody can change any more is read."""
    for content in (b"", b"junk" * 1000, encoded(engine, busybox)):
        memfd = os.memfd_create("plan", os.MFD_ALLOW_SEALING)
        os.write(memfd, content)
        event = ask(launcher, packets.packet(packets.START, value=1), (memfd,))
        os.close(memfd)
        assert event is not None
        assert (event.kind, event.errnum) == (packets.FAILED, EINVAL)


def test_damaged_plans(launcher: Launcher, engine: ck.Engine, busybox: str) -> None:
    """Every byte of it turned, some twice: refused, failed, or an odd container; nothing else."""
    plan = encoded(engine, busybox)
    noise = random.Random(2)
    inside = os.open("/dev/null", os.O_RDWR)
    for _ in range(300):
        damaged = bytearray(plan)
        for _ in range(noise.randrange(1, 3)):
            damaged[noise.randrange(len(plan))] ^= 1 << noise.randrange(8)
        if damaged[6] != 1:
            continue  # not ephemeral: its directory is the caller's to remove
        event = ask(launcher, start(bytes(damaged)), (inside, inside))
        assert event is None or event.kind in (packets.FAILED, packets.EXITED)
    os.close(inside)


def test_plans_with_steps_twice(launcher: Launcher, engine: ck.Engine, busybox: str) -> None:
    """A step that may come once is refused the second time, and all of the first is undone."""
    plan = engine.plan(busybox, ["true"])
    for at, op in enumerate(plan.prepare):
        twice = Plan(
            inputs=plan.inputs,
            prepare=(*plan.prepare[:at], op, *plan.prepare[at:]),
            child=plan.child,
            namespaces=plan.namespaces,
            kind="ephemeral",
        )
        event = ask(launcher, start(twice.encode()), (0, 0))
        assert event is not None, op


# ---- channels


def test_packets_on_a_channel(launcher: Launcher, engine: ck.Engine, busybox: str) -> None:
    """What is no packet ends the container as a caller's death does."""
    noise = random.Random(3)
    for data in (
        b"x",
        noise.randbytes(16),
        noise.randbytes(5000),
        packets.packet(packets.KILL)[:15],
    ):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = Channel(ours)
        with theirs:
            plan = engine.plan(busybox, ["sleep", "1000"]).encode()
            send(launcher, start(plan), (theirs.fileno(), 0, 0))
        ours.send(data)
        event, _fds = channel.receive()
        assert event is not None
        assert event.kind in (packets.FAILED, packets.EXITED)
        channel.close()
    with engine.start(busybox, ["sleep", "1000"]) as one:
        watching = one._connect(packets.WATCH)
        watching._send(packets.packet(packets.KILL, value=0xFFFF))
        watching._send(packets.packet(packets.LEAVE))
        watching._send(packets.packet(packets.HELLO))
        watching.close()
        assert one.status == "running"


# ---- sizes and limits


def test_a_plan_larger_than_a_packet(launcher: Launcher, engine: ck.Engine, busybox: str) -> None:
    env = {f"NAME_{number}": "v" * 1000 for number in range(100)}
    result = engine.run(busybox, ["sh", "-c", "env | grep -c NAME_"], env=env)
    assert result.stdout == b"100\n"
    with pytest.raises(ck.ConfigError):
        engine.run(busybox, ["true"], env={"A": "v" * (2 << 20)})


def test_a_command_that_exec_refuses_as_too_long(
    launcher: Launcher, engine: ck.Engine, busybox: str
) -> None:
    with pytest.raises(LaunchError, match="too long"):
        engine.run(busybox, ["echo", "v" * 200_000])


def test_empty_words_and_bytes_that_are_no_text(
    launcher: Launcher, engine: ck.Engine, busybox: str
) -> None:
    odd = b"\xff\xfe".decode("utf-8", "surrogateescape")
    script = 'echo "$#"; printf "%s|" "$@"; printf %s "$EMPTY|$ODD"'
    result = engine.run(
        busybox, ["sh", "-c", script, "sh", "", odd, ""], env={"EMPTY": "", "ODD": odd}
    )
    assert result.stdout == b"3\n|\xff\xfe||" + b"|\xff\xfe"


def test_a_launcher_with_few_descriptors(engine: ck.Engine, busybox: str) -> None:
    """A start too many is refused by name; when there is room again, starts work again."""
    launcher, _ = engine._runner.launcher()
    engine.run(busybox, ["sleep", "0.1"])
    _soft, hard = resource.prlimit(launcher.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(launcher.pid, resource.RLIMIT_NOFILE, (240, hard))
    running: list[ck.Container] = []
    with pytest.raises(LaunchError, match="open files") as caught:
        while len(running) < 100:
            running.append(engine.start(busybox, ["sleep", "1000"]))
    assert caught.value.errno == 24
    with pytest.raises(LaunchError, match="open files"):
        for _ in range(200):  # one more may fit when what was made ahead is used up
            engine.run(busybox, ["true"])
            with contextlib.suppress(LaunchError):
                running.append(engine.start(busybox, ["sleep", "1000"]))
    assert running
    for one in running:
        assert one.status == "running"
        one.remove(force=True)
    assert engine.run(busybox, ["true"]).exit.ok
    assert launcher.alive


@pytest.mark.parametrize("limit", range(20, 120, 9))
def test_every_number_of_descriptors(engine: ck.Engine, busybox: str, limit: int) -> None:
    """Whatever the launcher can not open any more, the start fails and nothing of it is left."""
    launcher, _ = engine._runner.launcher()
    engine.run(busybox, ["sleep", "0.05"])
    _soft, hard = resource.prlimit(launcher.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(launcher.pid, resource.RLIMIT_NOFILE, (limit, hard))
    for _ in range(3):
        try:
            assert engine.run(busybox, ["true"]).exit.cause in ("exited", "lost")
        except LaunchError:
            pass
    resource.prlimit(launcher.pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert engine.run(busybox, ["true"]).exit.ok
    assert engine._runner.launcher()[0] is launcher
    assert not directories(engine)
