"""Requests about a container: what each answers, and what none of them can be made to do."""

from __future__ import annotations

import errno
import os
import random
import resource
import select
import signal
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.model.limits import Limits
from containerkit.runtime import freezing, home, packets
from containerkit.runtime.launcher import Launcher
from containerkit.state import record
from tests.integration.life.support import Kept, begin, receive
from tests.support.patience import DEADLINE, until

SLEEP = ["sleep", "1000"]
TIMEOUT = packets.CAUSES.index("timeout")


def test_many_watch_one(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    """Each is given its first process, and told its end."""
    one = begin(engine, busybox, SLEEP, launcher)
    channels = [one.connect(packets.WATCH) for _ in range(20)]
    for channel in channels:
        event, fds = receive(channel)
        assert event is not None
        assert event.kind == packets.STARTED
        signal.pidfd_send_signal(fds[0], 0)
        os.close(fds[0])
    channels.pop().close()
    one.kill()
    for channel in channels:
        event, fds = receive(channel)
        assert event is not None
        assert (event.kind, event.signal, fds) == (packets.EXITED, signal.SIGKILL, [])
        assert packets.CAUSES[event.cause] == "signal"
        assert receive(channel)[0] is None
        channel.close()
    state = one.wait()
    assert (state.status, state.signal, state.launcher) == (record.STOPPED, 9, launcher.id)
    assert state.finished_ns > state.started_ns > 0
    assert one.kinds() == ["start", "kill", "die"]
    assert one.events()[-1] | {"t": 0} == {
        "t": 0,
        "kind": "die",
        "id": one.id,
        "code": 0,
        "signal": 9,
        "cause": "signal",
    }


def test_what_it_used(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 7"
    state = begin(engine, busybox, ["sh", "-c", script], launcher).wait()
    assert state.code == 7
    assert state.user_us + state.system_us > 1000


@pytest.mark.needs("control groups")
def test_nothing_but_its_files_is_left(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    one = begin(engine, busybox, SLEEP, launcher)
    groups = [path / entry for path in launcher.group.paths for entry in os.listdir(path)]
    assert [path for path in groups if path.is_dir()]
    one.kill()
    one.wait()
    until(lambda: not [path for path in groups if path.is_dir() and path.name.isdigit()])
    assert one.directory.is_dir()
    assert one.refused(packets.WATCH).errnum == errno.ESRCH


def test_signals_reach_a_handler(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    script = "trap 'exit 5' TERM; echo ready > /r; while :; do sleep 0.01; done"
    one = begin(engine, busybox, ["sh", "-c", script], launcher)
    until((one.directory / "upper" / "0" / "r").exists)
    one.kill(signal.SIGTERM, flags=packets.STOP_ASKED)
    state = one.wait()
    assert (state.code, state.signal, packets.CAUSES[state.cause]) == (5, 0, "exited")
    assert state.flags & record.STOP_ASKED


@pytest.mark.parametrize("given", [("removed", "timeout"), ("timeout", "removed")])
def test_the_cause_of_a_kill(
    engine: ck.Engine, busybox: str, launcher: Launcher, given: tuple[str, str]
) -> None:
    """The gravest that was given is told, not the first and not the last."""
    one = begin(engine, busybox, SLEEP, launcher)
    for number, cause in zip((0, signal.SIGKILL), given, strict=True):
        one.kill(number, cause=packets.CAUSES.index(cause))
    assert packets.CAUSES[one.wait().cause] == "timeout"


@pytest.mark.needs("control groups")
def test_oom_is_told_before_all(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    script = "head -c 100m /dev/zero | tail"
    one = begin(
        engine, busybox, ["sh", "-c", script + "; exit 1"], launcher, limits=Limits(memory="8m")
    )
    assert packets.CAUSES[one.wait().cause] == "oom"
    assert one.kinds() == ["start", "oom", "die"]


# ---- pauses


@pytest.mark.needs("control groups")
def test_pause_and_go_on(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    script = "while :; do echo x >> /n; usleep 1000; done"
    one = begin(engine, busybox, ["sh", "-c", script], launcher)
    file = one.directory / "upper" / "0" / "n"
    until(file.exists)
    groups = [str(group) for path in launcher.group.paths for group in path.glob("[0-9]*")]
    for _ in range(3):
        one.done(packets.FREEZE)
        one.done(packets.FREEZE)
        until(lambda: freezing.is_frozen(groups))
        size = file.stat().st_size
        state = one.state()
        assert state is not None
        assert state.status == record.PAUSED
        assert one.refused(packets.EXEC, body=b"").kind == packets.FAILED
        assert file.stat().st_size == size
        one.done(packets.THAW)
        one.done(packets.THAW)
        state = one.state()
        assert state is not None
        assert state.status == record.RUNNING
        until(lambda: file.stat().st_size > size)  # noqa: B023 (asked in this turn)
    one.kill()
    one.wait()
    assert one.kinds() == ["start", *["pause", "unpause"] * 3, "kill", "die"]


@pytest.mark.needs("control groups")
def test_a_paused_one_can_be_killed(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    one = begin(engine, busybox, SLEEP, launcher)
    one.done(packets.FREEZE)
    one.kill()
    assert one.wait().signal == 9


@pytest.mark.needs("control groups")
def test_a_launcher_ends_paused_ones(engine: ck.Engine, busybox: str) -> None:
    engine.images.pull(busybox)
    launcher = Launcher(engine.root, netns_pool=0, spares=0)
    ones = [begin(engine, busybox, SLEEP, launcher) for _ in range(3)]
    for one in ones:
        one.done(packets.FREEZE)
    launcher.close()
    for one in ones:
        assert packets.CAUSES[one.wait().cause] == "owner-died"


# ---- what nobody should send


def test_requests_that_are_none(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    """Nothing anybody of the root sends ends a container, or the launcher."""
    one = begin(engine, busybox, SLEEP, launcher)
    noise = random.Random(5)
    for size in (1, 15, 16, 95, 96, 97, 5000, 60_000):
        with home.connect(engine.root, launcher.id) as end:
            end.send(noise.randbytes(size))
            assert end.recv(200) == b""
    for kind in (0, packets.HELLO, packets.START, packets.LEAVE, packets.KILL, 99, 65535):
        assert one.refused(kind).errnum == errno.EINVAL
    stranger = Kept(engine.root, "ab" * 32, launcher.id)
    for kind in range(packets.WATCH, packets.CLOSE_INPUT + 1):
        assert stranger.refused(kind).errnum == errno.ESRCH
    assert one.refused(packets.SIGNAL, values=(1 << 20, 0, 0)).errnum == errno.EINVAL
    with one.watch() as channel:
        _event, fds = receive(channel)
        os.close(fds[0])
        channel.kill()  # it is not its owner
        assert receive(channel)[0] is None
    state = one.state()
    assert state is not None
    assert state.status == record.RUNNING
    one.kill()
    one.wait()


def test_more_connections_than_there_is_room_for(
    engine: ck.Engine, busybox: str, launcher: Launcher
) -> None:
    one = begin(engine, busybox, SLEEP, launcher)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    held = [home.connect(engine.root, launcher.id) for _ in range(1100)]
    poll = select.poll()
    for end in held:
        poll.register(end, select.POLLIN)
    until(lambda: len(poll.poll(0)) >= 1100 - 1024)  # those are closed at once
    assert len(poll.poll(0)) < 100  # others of this machine may have knocked meanwhile
    for end in held:
        end.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    until(lambda: answered(one))
    one.kill()
    one.wait()


def answered(one: Kept) -> bool:
    channel = one.connect(packets.THAW)
    try:
        return channel.receive()[0] is not None
    finally:
        channel.close()


@pytest.mark.needs("host root")
def test_the_socket_is_for_its_user_alone(engine: ck.Engine, launcher: Launcher) -> None:
    directory = home.run_directory(engine.root)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / f"{launcher.id}.sock").stat().st_mode & 0o777 == 0o600
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            fd = os.open(directory, os.O_PATH)  # as if it had come by the directory somehow
            os.chmod(directory, 0o755)
            os.chmod(directory / f"{launcher.id}.sock", 0o666)
            os.setresuid(65534, 65534, 65534)
            import socket

            end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            end.connect(f"/proc/self/fd/{fd}/{launcher.id}.sock")
            code = 0 if end.recv(100) == b"" else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_launcher_takes_its_socket_along(engine: ck.Engine, busybox: str) -> None:
    engine.images.pull(busybox)
    made = Launcher(engine.root, netns_pool=0, spares=0)
    path: Path = home.run_directory(engine.root) / f"{made.id}.sock"
    assert path.exists()
    made.close()
    assert not path.exists()
    with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
        home.connect(engine.root, made.id)


def test_no_descriptor_for_a_connection(
    engine: ck.Engine, busybox: str, launcher: Launcher
) -> None:
    """It is closed, and does not wait for ever; with room again the next one is answered."""
    one = begin(engine, busybox, SLEEP, launcher)
    _, most = before = resource.prlimit(launcher.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(launcher.pid, resource.RLIMIT_NOFILE, (64, most))
    held = [home.connect(engine.root, launcher.id) for _ in range(70)]
    poll = select.poll()
    for end in held:
        poll.register(end, select.POLLIN)
    assert poll.poll(DEADLINE * 1000), "none was closed"
    for end in held:
        end.close()
    resource.prlimit(launcher.pid, resource.RLIMIT_NOFILE, before)
    until(lambda: answered(one))
    one.kill()
    one.wait()
