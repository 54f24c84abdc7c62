"""What comes of a command: its output, how it ended, what it used.

Owns the values `Result` and `Usage`.  Must not start anything; `runtime` makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, AnyStr, Generic, NamedTuple, Self

import attrs

from containerkit.errors import ProcessFailed
from containerkit.model.exit import Exit

if TYPE_CHECKING:
    from containerkit.model.coding import Coding

_TAIL = 2000
_SHOWN = 200


class Usage(NamedTuple):
    """What a container's processes used, of those that were waited for inside (getrusage(2)).

    Attributes:
        user: seconds of processor time in user mode.
        system: seconds in the kernel.
        max_rss: bytes, the largest resident set of one process.
    """

    user: float = 0.0
    system: float = 0.0
    max_rss: int = 0


@attrs.frozen(repr=False)
class Result(Generic[AnyStr]):
    """A command that has ended.

    Args:
        stdout: what it wrote, up to ``max_output``.
        stderr: as ``stdout``.
        exit: how it ended.
        truncated: whether either stream was longer than ``max_output``.
        duration: seconds from its start to its end.
        usage: what it used.
        image_digest: of the image's manifest; of the host image, its id.
        argv: what was run.
    """

    stdout: AnyStr
    stderr: AnyStr
    exit: Exit
    truncated: bool = False
    duration: float = 0.0
    usage: Usage = Usage()
    image_digest: str = ""
    argv: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What was run, as a shell would take it."""
        import shlex

        return shlex.join(self.argv)

    @property
    def returncode(self) -> int:
        """The exit code as `subprocess` users expect one: 128 + n for signal n."""
        return self.exit.returncode

    def __repr__(self) -> str:
        """The command, how it ended, and the beginnings of its outputs."""
        parts = [f"{self.command!r} {self.exit}" if self.argv else str(self.exit)]
        for name, said in (("stdout", self.stdout), ("stderr", self.stderr)):
            if said:
                parts.append(f"{name}={_clipped(said)}")
        return f"<Result {', '.join(parts)}{', truncated' if self.truncated else ''}>"

    def _repr_html_(self) -> str:
        from containerkit.model import html

        rest = "; an output was cut off" if self.truncated else ""
        ended = f"{self.command or 'the command'} {self.exit}, {self.duration:.3f} s{rest}"
        parts = [f"<p>{html.word(ended)}</p>"]
        for name, said in (("standard output", self.stdout), ("standard error", self.stderr)):
            if said:
                parts.append(f"<p><b>{name}</b></p>{html.text(said)}")
        return f"<div>{''.join(parts)}</div>"

    def check(self) -> Self:
        """Return itself.

        Raises:
            ProcessFailed: it ended with anything but code 0; the error carries this result.
        """
        if self.exit.ok:
            return self
        message = f"{self.command or 'the command'} {self.exit}"
        tail: bytes | str = self.stderr[-_TAIL:]
        said = tail.decode("utf-8", "replace") if isinstance(tail, bytes) else tail
        if said.strip():
            message += f"; standard error ends with: {said.strip()}"
        raise ProcessFailed(message, hint=self.exit.hint, result=self)


def _clipped(said: bytes | str) -> str:
    """Return the beginning of an output as a literal, which holds nothing that a terminal obeys."""
    left = len(said) - _SHOWN
    return repr(said) if left <= 0 else f"{said[:_SHOWN]!r}… ({left} more)"


def decoded(result: Result[bytes], coding: Coding) -> Result[str]:
    """Return the same with its outputs as text."""
    return Result(
        stdout=coding.decode(result.stdout),
        stderr=coding.decode(result.stderr),
        exit=result.exit,
        truncated=result.truncated,
        duration=result.duration,
        usage=result.usage,
        image_digest=result.image_digest,
        argv=result.argv,
    )
