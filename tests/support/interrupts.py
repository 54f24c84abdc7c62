"""An interrupt after any call into C, which is where Python lets signal handlers raise.

Random moments find the windows of one instruction once in a thousand tries; this goes through all.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any


@contextmanager
def interrupted(after: int, *, of: Callable[..., object] | None = None) -> Iterator[list[str]]:
    """Raise KeyboardInterrupt when the n-th call of a function in C returns; its value is lost.

    Yields:
        Where it was raised, as soon as it was.

    Args:
        after: how many calls of this thread return before, plus 1.
        of: count calls of this function alone.
    """
    count = itertools.count(1)
    came: list[str] = []

    def profile(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_return" and (of is None or function is of) and next(count) == after:
            sys.setprofile(None)
            came.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
            raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        yield came
    finally:
        sys.setprofile(None)


def at_each_call(
    operation: Callable[[], object], *, of: Callable[..., object] | None = None, step: int = 1
) -> Iterator[str]:
    """Interrupt an operation after its first call, after the next, … until it comes to its end.

    Yields:
        After each: where.  Whatever it raised but KeyboardInterrupt is raised.
    """
    for number in itertools.count(1, step):
        with suppress(KeyboardInterrupt), interrupted(number, of=of) as came:
            operation()
        if not came:
            return
        yield came[0]  # also when it was lost: in a destructor nothing can be raised
