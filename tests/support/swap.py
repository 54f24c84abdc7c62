"""Two names that change places without end, while something else uses one of them."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def swapping(one: str, other: str) -> Iterator[None]:
    """Let two files change names for the time of the block, as fast as a thread can."""
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    names = one.encode(), other.encode()
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
