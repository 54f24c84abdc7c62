"""The terminal of the process that embeds the engine can not be reached from a container.

CVE-2016-2568, CVE-2017-5226, CVE-2019-10063, CVE-2023-1523: what runs inside types a command for the
shell that waits outside.  A program with a terminal runs the attack in every way there is, and then
reads what was typed.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

import containerkit as ck

TYPED = "typed-by-the-container"

BEGIN = """
import os, pty, select, sys, termios
sys.path.insert(0, os.getcwd())
word = sys.argv[1]
child, master = pty.fork()
if child:
    said = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:
            break
        if not piece:
            break
        said += piece
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.stdout.write(said.decode(errors="replace"))
    sys.exit(code)
attributes = termios.tcgetattr(0)  # what is typed is read at once, and not shown
attributes[3] &= ~(termios.ICANON | termios.ECHO)
termios.tcsetattr(0, termios.TCSANOW, attributes)
assert os.isatty(0)
"""

END = """
waiting = select.select([0], [], [], 0)[0]
print("read:", os.read(0, 4096).decode() if waiting else "nothing")
"""

CONTAINERS = """
import containerkit as ck
security = getattr(ck.Security, sys.argv[4])()
attack = ["/attacks/type", word]
options = {"security": security, "limits": ck.UNLIMITED}  # which are not its subject
with ck.Engine.open(sys.argv[2]) as engine:
    image = sys.argv[3]
    engine.run(image, attack, **options)
    engine.run(image, attack, tty=True, **options)
    engine.run(image, attack, input=b"", **options)
    for tty in (False, True):
        with engine.start(image, attack, tty=tty, stdin_open=True, **options) as box:
            box.wait(timeout=100)
        with engine.start(image, ["sleep", "100000"], tty=tty, init=tty, **options) as box:
            box.exec(attack, tty=True)
            box.exec(attack)
            with box.popen(attack, tty=tty) as process:
                process.wait(timeout=100)
"""


def under_a_terminal(program: str, *arguments: str) -> str:
    """Return what a program says, which has a terminal, and what was typed there meanwhile."""
    words = [sys.executable, "-c", BEGIN + program + END, TYPED, *arguments]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_nothing_is_typed(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    said = under_a_terminal(CONTAINERS, str(engine.root), hostile, security.preset)
    assert "read: nothing" in said


def test_a_child_of_the_program_types(attacks: Path) -> None:
    """The control: the same attack, in no container."""
    legacy = Path("/proc/sys/dev/tty/legacy_tiocsti")
    if legacy.exists() and legacy.read_text().strip() == "0" and os.geteuid():
        pytest.skip("needs dev.tty.legacy_tiocsti=1")
    program = "import subprocess\nsubprocess.run([sys.argv[2], word])\n"
    assert f"read: {TYPED}" in under_a_terminal(program, str(attacks / "type"))


def test_terminals_of_others_are_not_there(
    engine: ck.Engine, hostile: str, security: ck.Security
) -> None:
    """Each container has terminals of its own: those of the host and of another have no name in it."""
    master, slave = os.openpty()
    try:
        with (
            engine.start(hostile, ["sleep", "100000"], tty=True, security=security) as first,
            engine.start(hostile, ["sleep", "100000"], security=security) as second,
        ):
            assert first.exec("echo /dev/pts/[0-9]*", text=True).stdout == "/dev/pts/0\n"
            assert second.exec("echo /dev/pts/[0-9]*", text=True).stdout == "/dev/pts/[0-9]*\n"
            assert not second.exec("exec 3<>/dev/tty").exit.ok
            assert not second.exec("exec 3<>/dev/console; test -t 3").exit.ok
        assert not select.select([master], [], [], 0)[0]
    finally:
        os.close(master)
        os.close(slave)
