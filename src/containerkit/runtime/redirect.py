"""Where the streams of a command lead: to pipes of ours, to files of the caller, nowhere.

Owns what a caller may give for ``stdin``, ``stdout`` and ``stderr``, and the descriptors that are sent
for it.  Must not: send them.  Neighbours: `running` and `execute` begin commands with them.
"""

from __future__ import annotations

import os
import stat
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from containerkit.errors import ConfigError
from containerkit.launch.request import STREAMS
from containerkit.runtime.inputs import close_all, duplicated, make_pipes, own

PIPE: Final = -1
STDOUT: Final = -2
DEVNULL: Final = -3


class HasFileno(Protocol):
    """An open file, a socket: whatever has a descriptor."""

    def fileno(self) -> int:
        """The descriptor."""


StreamLike: TypeAlias = int | HasFileno | None
"""A file, a descriptor, or `subprocess.PIPE`, ``DEVNULL``, ``STDOUT``; None: what is usual."""


class Redirect(NamedTuple):
    """Of each stream: a descriptor of the caller's, PIPE, DEVNULL, or (stderr only) STDOUT."""

    stdin: int = PIPE
    stdout: int = PIPE
    stderr: int = PIPE

    @property
    def sent(self) -> tuple[str, ...]:
        """Those for which a descriptor is sent, in order; the others are /dev/null."""
        if self == USUAL:
            return STREAMS
        leads = self._replace(stderr=self.stdout) if self.stderr == STDOUT else self
        return tuple([name for name, fd in zip(STREAMS, leads, strict=True) if fd != DEVNULL])

    def make(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return our ends and the container's, by stream; `inputs.close` closes them.

        Raises:
            HostError: the limit of open files is reached.
        """
        piped = tuple([name for name, fd in zip(STREAMS, self, strict=True) if fd == PIPE])
        ours, theirs = make_pipes(piped)
        if len(piped) == len(self.sent):
            return ours, theirs
        try:
            for name, fd in zip(STREAMS, self, strict=True):
                source = theirs.get("stdout", DEVNULL) if fd == STDOUT else fd
                if source >= 0:
                    theirs[name] = duplicated(source)
                    own((theirs[name],))
        except BaseException:
            close_all((*ours.values(), *theirs.values()))
            raise
        return ours, {name: theirs[name] for name in STREAMS if name in theirs}


USUAL: Final = Redirect()


def redirect_of(
    stdin: StreamLike,
    stdout: StreamLike,
    stderr: StreamLike,
    *,
    usual: int = PIPE,
    tty: bool = False,
) -> Redirect:
    """Return where the streams lead, checked.

    Args:
        stdin, stdout, stderr: as the caller gave them.
        usual: what stdin is where nothing is said of it.
        tty: it has a terminal instead.

    Raises:
        ConfigError: one is no open file, or a directory; or there is a terminal.
    """
    if stdin is None and stdout is None and stderr is None:
        return Redirect(usual)
    if tty:
        raise ConfigError("a terminal is all of stdin, stdout and stderr", hint="tty=False")
    return Redirect(
        _of("stdin", stdin, usual, (PIPE, DEVNULL)),
        _of("stdout", stdout, PIPE, (PIPE, DEVNULL)),
        _of("stderr", stderr, PIPE, (PIPE, DEVNULL, STDOUT)),
    )


def _of(name: str, given: Any, usual: int, words: tuple[int, ...]) -> int:
    if given is None:
        return usual
    hint = "an open file, a descriptor, subprocess.PIPE or DEVNULL"
    if isinstance(given, bool):
        raise ConfigError(f"{name} {given!r} is no open file", hint=hint)
    try:
        fd = given if isinstance(given, int) else given.fileno()
        if fd in words and isinstance(given, int):
            return int(fd)
        mode = os.fstat(fd).st_mode
    except (AttributeError, TypeError, ValueError, OverflowError, OSError) as error:
        raise ConfigError(f"{name} {given!r} is no open file: {error}", hint=hint) from None
    if stat.S_ISDIR(mode):
        raise ConfigError(
            f"{name} {given!r} is a directory",
            hint="it would lead out of the container; give a file, or mount the directory",
        )
    return int(fd)
