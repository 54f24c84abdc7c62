"""`Container.interact`: a user at a terminal, which is a pseudoterminal's other end here."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import containerkit as ck

FACES = {
    "blocking": """
with ck.Engine.open(root) as engine:
    ended = engine.containers.get(name).interact(command)
""",
    "asyncio": """
async def talk():
    async with ck.aio.Engine.open(root) as engine:
        return await (await engine.containers.get(name)).interact(command)
ended = asyncio.run(talk())
""",
}

USER = """
import asyncio, fcntl, json, os, sys, termios
import containerkit as ck
root, name, face, command = json.loads(sys.argv[1])
if os.isatty(0):
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
try:
    scope = dict(globals())
    exec(face, scope)
    print("ended", scope["ended"].code, file=sys.stderr)
except BaseException as error:
    print(type(error).__name__, error, file=sys.stderr)
"""


class Terminal:
    """What a user sees and types."""

    def __init__(self, master: int, slave: int, user: subprocess.Popen[str]) -> None:
        self.master, self.slave, self.user = master, slave, user

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read_until(self, text: str) -> str:
        assert self.user.stderr is not None
        seen = b""
        while text.encode() not in seen:
            ready, _, _ = select.select([self.master, self.user.stderr.fileno()], [], [], 60)
            assert ready, (text, seen)
            assert self.master in ready, (seen, self.report())
            seen += os.read(self.master, 4096)
        return seen.decode()

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("<4H", rows, columns, 0, 0))

    def mode(self) -> list[Any]:
        return termios.tcgetattr(self.slave)

    def report(self) -> str:
        assert self.user.stderr is not None
        return self.user.stderr.read()


@contextmanager
def at_terminal(box: ck.Container, face: str, command: Any = None) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    words = json.dumps([str(box._keeper.root), box.id, FACES[face], command])
    user = subprocess.Popen(
        [sys.executable, "-c", USER, words],
        stdin=slave,
        stdout=slave,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        with user:
            terminal = Terminal(master, slave, user)
            terminal.resize(30, 100)
            try:
                yield terminal
            finally:
                user.kill()
    finally:
        user.wait()
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("face", FACES)
def test_a_session(box: ck.Container, face: str) -> None:
    with at_terminal(box, face) as terminal:
        before = terminal.mode()
        terminal.type("stty size; echo first-$((1+1))\n")
        assert "30 100" in terminal.read_until("first-2")
        assert terminal.mode() != before  # raw
        terminal.resize(40, 120)
        terminal.type('until [ "$(stty size)" = "40 120" ]; do :; done; echo sized-$((1+1))\n')
        terminal.read_until("sized-2")
        # Said by the command itself: the terminal is its own by then, no more the shell's.
        terminal.type("sh -c 'echo long-$((1+1)); exec sleep 100000'\n")
        terminal.read_until("long-2")
        terminal.type("\x03")
        terminal.type("echo interrupted-$((1+1))\n")
        terminal.read_until("interrupted-2")
        terminal.type("exit 7\n")
        assert terminal.report() == "ended 7\n"
        assert terminal.mode() == before


@pytest.mark.parametrize("face", FACES)
def test_interrupted_it_gives_the_terminal_back(box: ck.Container, face: str) -> None:
    with at_terminal(box, face) as terminal:
        before = terminal.mode()
        terminal.type("echo first-$((1+1)); sleep 100000\n")
        terminal.read_until("first-2")
        assert terminal.mode() != before
        terminal.user.send_signal(signal.SIGINT)
        assert terminal.report() == "KeyboardInterrupt \n"
        assert terminal.mode() == before
    assert [task.pid for task in box.top() if task.state != "Z"] == [1]


def test_all_of_a_long_output_is_shown(box: ck.Container) -> None:
    with at_terminal(box, "blocking", "seq 1 5000 | sed s/^/line/") as terminal:
        seen = terminal.read_until("line5000\r\n")
        assert terminal.report() == "ended 0\n"
    assert seen.split() == [f"line{number}" for number in range(1, 5001)]


@pytest.mark.parametrize("face", FACES)
def test_what_does_not_start_leaves_the_terminal(box: ck.Container, face: str) -> None:
    with at_terminal(box, face, ["nowhere"]) as terminal:
        before = terminal.mode()
        assert terminal.report().startswith("CommandNotFound")
        assert terminal.mode() == before


@pytest.mark.parametrize("face", FACES)
def test_without_a_terminal(box: ck.Container, face: str) -> None:
    words = json.dumps([str(box._keeper.root), box.id, FACES[face], None])
    done = subprocess.run(
        [sys.executable, "-c", USER, words],
        check=True,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.stderr.startswith("ConfigError cannot interact: standard input is no terminal")
