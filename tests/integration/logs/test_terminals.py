"""A container's terminal is its own: sizes, signals, attached input, and nothing of the caller's."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
from typing import TYPE_CHECKING

import pytest

from containerkit.model.security import Security
from containerkit.runtime import packets
from tests.integration.logs.kept import kept
from tests.support.idle import rests
from tests.support.patience import cut_short

if TYPE_CHECKING:
    from containerkit.engine import Engine
    from containerkit.stdio.logs import Logs


def until(logs: Logs, wanted: bytes) -> bytes:
    """Read lines up to one with `wanted`."""
    said = b""
    for entry in logs:
        said += entry.data
        if wanted in entry.data:
            return said
    raise AssertionError(f"{wanted!r} is not in {said!r}")


def resize(master: int, rows: int, columns: int) -> None:
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("<4H", rows, columns, 0, 0))


def test_what_a_terminal_is(engine: Engine, busybox: str) -> None:
    script = "for i in 0 1 2; do [ -t $i ] && echo $i; done; tty; stty size; echo err >&2"
    with kept(engine, busybox, script, tty=True) as container:
        container.wait()
        with container.logs() as logs:
            entries = list(logs)
    assert {entry.stream for entry in entries} == {"stdout"}
    assert b"".join(entry.data for entry in entries) == (
        b"0\r\n1\r\n2\r\n/dev/pts/0\r\n24 80\r\nerr\r\n"
    )


def test_it_is_the_controlling_terminal(engine: Engine, busybox: str) -> None:
    script = "echo shown > /dev/tty; cat /proc/self/stat | cut -d' ' -f7"
    with kept(engine, busybox, script, tty=True) as container:
        container.wait()
        shown, number = container.text().splitlines()
    assert shown == "shown"
    assert os.major(int(number)) == 136


@pytest.mark.parametrize("devices", [(), ("/dev/null:/dev/other",)])
def test_no_console_without_a_terminal(
    engine: Engine, busybox: str, devices: tuple[str, ...]
) -> None:
    """Writes to it would be lost in a file; its control is a container that has a terminal."""
    security = Security.default(devices=devices)
    script = "test -e /dev/console && test -c /dev/console && echo there"
    assert engine.run(busybox, script, security=security, text=True).stdout == ""
    assert "there" in engine.run(busybox, script, security=security, text=True, tty=True).stdout


def test_console_is_the_terminal(engine: Engine, busybox: str) -> None:
    with kept(engine, busybox, "echo hello > /dev/console; exit 4", tty=True) as container:
        assert container.wait().exit_code == 4
        assert container.text() == "hello\r\n"


@pytest.mark.needs("ids")
def test_any_user_has_it(engine: Engine, busybox: str) -> None:
    script = "id -u; echo again > /dev/stdout; echo more > $(tty)"
    with kept(engine, busybox, script, tty=True, user="1000:1000") as container:
        assert container.wait().exit_code == 0
        assert container.text() == "1000\r\nagain\r\nmore\r\n"


def test_resize_is_told(engine: Engine, busybox: str) -> None:
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"
    with kept(engine, busybox, script, tty=True) as container, container.follow() as logs:
        until(logs, b"ready")
        master = container.attach()
        resize(master, 40, 132)
        until(logs, b"40 132")
        os.close(master)


def test_control_c(engine: Engine, busybox: str) -> None:
    """The terminal makes a signal of it; what runs in the foreground gets it."""
    script = "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.05; done"
    with kept(engine, busybox, script, tty=True) as container, container.follow() as logs:
        until(logs, b"ready")
        master = container.attach()
        os.write(master, b"\x03")
        until(logs, b"interrupted")
        os.close(master)
        assert container.wait().exit_code == 9


def test_attach_detach_attach(engine: Engine, busybox: str) -> None:
    """An interactive shell; letting go of it ends nothing."""
    with kept(engine, busybox, ["sh"], tty=True) as container, container.follow() as logs:
        master = container.attach()
        os.write(master, b"echo $((6*7))\n")
        until(logs, b"42\r\n")
        os.close(master)
        master = container.attach()
        os.write(master, b"echo $((7*7))\n")
        until(logs, b"49\r\n")
        os.write(master, b"exit 8\n")
        os.close(master)
        assert container.wait().exit_code == 8


def test_control_d(engine: Engine, busybox: str) -> None:
    with kept(engine, busybox, ["cat"], tty=True) as container, container.follow() as logs:
        master = container.attach()
        os.write(master, b"hello\n")
        assert [next(logs).data, next(logs).data] == [b"hello\r\n"] * 2
        os.write(master, b"\x04")
        os.close(master)
        assert container.wait().exit_code == 0


def test_input_of_a_terminal_is_not_closed(engine: Engine, busybox: str) -> None:
    with kept(engine, busybox, ["cat"], tty=True) as container:
        event, _fds = container.ask(packets.CLOSE_INPUT)
        assert (event.kind, event.errnum) == (packets.FAILED, errno.ENOTCONN)


def test_a_flood_that_nobody_reads(engine: Engine, busybox: str) -> None:
    with kept(engine, busybox, "seq 1 100000; exit 3", tty=True, log=False) as container:
        assert container.wait().exit_code == 3


def test_nothing_of_the_callers_is_within_reach(engine: Engine, busybox: str) -> None:
    """One terminal in a devpts of its own: no other to open, and the master is not in there."""
    script = (
        "ls /dev/pts; grep -c devpts /proc/1/mountinfo;"
        " for fd in /proc/1/fd/*; do readlink $fd; done"
    )
    with kept(engine, busybox, script, tty=True) as container:
        container.wait()
        lines = container.text().split()
    assert sorted(lines[:2]) == ["0", "ptmx"]
    assert lines[2] == "2"  # /dev/pts, and the one terminal on /dev/console
    held = lines[3:]
    assert len(held) >= 3
    assert not any("ptmx" in name for name in held), held


def test_there_is_no_terminal_unless_asked_for(engine: Engine, busybox: str) -> None:
    """Not even the caller's: whoever starts it may have one."""
    for script in ("echo x > /dev/tty", "echo x > /dev/console", "exec 3<>/dev/pts/0"):
        assert not engine.run(busybox, script).exit.ok


# ---- run


def test_run_with_a_terminal(engine: Engine, busybox: str) -> None:
    script = "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo terminal; echo err >&2; exit 6"
    result = engine.run(busybox, script, tty=True)
    assert result.stdout == b"terminal\r\nerr\r\n"
    assert result.stderr == b""
    assert result.exit.code == 6


def test_run_with_a_terminal_and_input(engine: Engine, busybox: str) -> None:
    """Input is typed: it is echoed, and ended by control-D."""
    for given in ("one\ntwo\n", "one\ntwo", ""):
        result = engine.run(busybox, ["wc", "-l"], tty=True, input=given, text=True, timeout=120)
        assert result.exit.ok
        assert result.stdout.endswith(f"{given.count(chr(10))}\r\n")


def test_run_with_a_terminal_that_fails(engine: Engine, busybox: str) -> None:
    import pytest

    from containerkit.errors import CommandNotFound

    with pytest.raises(CommandNotFound):
        engine.run(busybox, ["no-such-command"], tty=True)
    error = cut_short(
        lambda seconds: engine.run(busybox, "echo said; sleep 1000", tty=True, timeout=seconds),
        lambda error: error.result.stdout,
    )
    assert error.result is not None
    assert error.result.stdout == b"said\r\n"
    assert error.result.exit.cause == "timeout"


def test_much_output_on_a_terminal(engine: Engine, busybox: str) -> None:
    result = engine.run(busybox, "seq 1 50000", tty=True)
    assert result.stdout == b"".join(b"%d\r\n" % number for number in range(1, 50001))


# ---- nobody has it open

TIOCVHANGUP = 0x5437

FORSAKEN = "exec >/tmp/out 2>&1 </dev/null; trap 'echo hup' HUP; echo ready; "


def test_it_is_there_while_nobody_has_it_open(engine: Engine, busybox: str) -> None:
    """The first process lets go of its terminal: it is hung up on by nobody, and finds it again."""
    script = (
        FORSAKEN + "until [ -e /tmp/go ]; do sleep 0.05; done; echo console > /dev/console;"
        " cat /tmp/out > /dev/tty"
    )
    with engine.start(busybox, script, tty=True) as box:
        box.exec("until grep ready /tmp/out; do sleep 0.01; done")
        assert box.exec("tty", tty=True).stdout == b"/dev/pts/1\r\n"
        assert box.exec("cat /tmp/out; touch /tmp/go").stdout == b"ready\n"
        assert box.wait(timeout=60).ok
        with box.logs() as logs:
            assert b"".join(entry.data for entry in logs) == b"console\r\nready\r\n"


def test_the_launcher_rests_meanwhile(engine: Engine, busybox: str) -> None:
    """A terminal that nobody has open is nothing to be told of again and again."""
    with engine.start(busybox, FORSAKEN + "sleep 1000", tty=True) as box:
        box.exec("until grep ready /tmp/out; do sleep 0.01; done")
        with rests(box):
            box.exec(["sleep", "1"])


@pytest.mark.parametrize("how", ["run", "exec"])
def test_of_a_command_as_well(engine: Engine, busybox: str, how: str) -> None:
    script = "exec >/dev/null 2>&1 </dev/null; sleep 0.2; echo late > /dev/tty"
    if how == "run":
        assert engine.run(busybox, script, tty=True).stdout == b"late\r\n"
        return
    with engine.start(busybox, ["sleep", "1000"]) as box:
        assert box.exec(script, tty=True).stdout == b"late\r\n"


@pytest.mark.needs("host root")
def test_a_hang_up_is_not_its_end(engine: Engine, busybox: str) -> None:
    """vhangup(2) takes it from all that have it open, the launcher too: as getty does at a login."""
    script = (
        "trap '' HUP; exec >/tmp/out 2>&1 </dev/null; echo before > /dev/tty;"
        " until [ -e /tmp/go ]; do sleep 0.05; done; echo after > /dev/console"
    )
    with engine.start(busybox, script, tty=True) as box:
        box.exec("until [ -e /tmp/out ]; do sleep 0.01; done")
        terminal = os.open(f"/proc/{box.pid}/root/dev/pts/0", os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(terminal, TIOCVHANGUP)
        os.close(terminal)
        with rests(box):
            box.exec("sleep 1; touch /tmp/go")
        assert box.wait(timeout=60).ok
        with box.logs() as logs:
            assert b"".join(entry.data for entry in logs) == b"before\r\nafter\r\n"
