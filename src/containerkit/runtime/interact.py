"""The caller's terminal on a command in a container, until that has ended.

Owns: the terminal's mode while it lasts, and its window's size.  Must not: start anything.
Neighbours: `inside` starts the command with a terminal of its own, whose master `process` holds.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from containerkit.errors import ConfigError, refusals
from containerkit.model.exit import Exit
from containerkit.runtime.process import Process
from containerkit.stdio.waiting import READ, WRITE, Wait, Waiting

_INPUT: Final = 0
_OUTPUT: Final = 1
_CHUNK: Final = 1024

SHELL: Final = ("/bin/sh", "-c", "command -v bash >/dev/null && exec bash; exec sh")
"""What is run where no command is given."""


def require_terminal() -> None:
    """Refuse to go on without one.

    Raises:
        ConfigError: standard input is no terminal.
    """
    if not os.isatty(_INPUT):
        raise ConfigError(
            "cannot interact: standard input is no terminal", hint="exec or popen, with input"
        )


def interacting(process: Process[bytes]) -> Waiting[Exit]:
    """Join the caller's terminal with a process's own, until it has ended.

    The caller's is raw meanwhile, so that every key goes to the process (termios(3), cfmakeraw), and
    is as it was afterwards, however this ends.  Should it hang up, the process is killed.
    """
    with _resizing(process) as resized, _raw():
        typed = shown = b""
        while True:
            out = process.stdout
            if not shown and not out.ended and _is_readable(out.fileno()):
                out._fill()
                shown = out._drain()
            ended, own = process.poll(), -1
            if ended is not None and not shown and (out.ended or not _is_readable(out.fileno())):
                return ended
            interest = [(resized, READ)]
            if ended is None:
                own = process.stdin.fileno()
                interest += [(process._channel.fileno(), READ)]
                interest += [(own, WRITE) if typed else (_INPUT, READ)]
            if shown:
                interest += [(_OUTPUT, WRITE)]
            elif not out.ended:
                interest += [(out.fileno(), READ)]
            ready = dict((yield Wait(tuple(interest))))
            if resized in ready:
                os.eventfd_read(resized)
                _fit(process)
            if own in ready:
                typed = _written(own, typed)
            elif _INPUT in ready:
                typed = _read()
                if not typed:
                    process.kill()
            if _OUTPUT in ready and shown:
                left = _written(_OUTPUT, shown)
                if ready[_OUTPUT] & select.POLLERR:
                    process.kill()
                shown = left


def _read() -> bytes:
    try:
        return os.read(_INPUT, _CHUNK)
    except OSError:  # it has hung up (tty_ioctl(4))
        return b""


def _written(fd: int, data: bytes) -> bytes:
    """Return what is left of it; nothing, if nobody is there any more."""
    try:
        return data[os.write(fd, data[:_CHUNK]) :]
    except OSError:
        return b""


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, READ)
    return bool(poll.poll(0))


@contextmanager
def _raw() -> Iterator[None]:
    before = termios.tcgetattr(_INPUT)
    try:
        tty.setraw(_INPUT, termios.TCSADRAIN)  # what was typed ahead stays
        yield
    finally:
        with contextlib.suppress(termios.error):  # it has hung up
            termios.tcsetattr(_INPUT, termios.TCSADRAIN, before)


@contextmanager
def _resizing(process: Process[bytes]) -> Iterator[int]:
    """Give the process's window the size of the caller's; yield what is readable when that changes.

    Only the main thread hears of changes (signal(7), SIGWINCH).
    """
    with refusals("watch the terminal's window"):
        changed = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        if threading.current_thread() is not threading.main_thread():
            _fit(process)
            yield changed
            return
        before: Any = signal.signal(signal.SIGWINCH, lambda *_: os.eventfd_write(changed, 1))
        try:
            _fit(process)
            yield changed
        finally:
            signal.signal(signal.SIGWINCH, before if before is not None else signal.SIG_DFL)
    finally:
        os.close(changed)


def _fit(process: Process[bytes]) -> None:
    with contextlib.suppress(OSError):
        columns, rows = os.get_terminal_size(_INPUT)
        if rows and columns:  # a window that nobody has measured is 0 by 0
            process.resize(rows, columns)
