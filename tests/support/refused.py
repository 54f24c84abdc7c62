"""What the host refuses to this process for a while, in earnest."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def threads() -> Iterator[None]:
    """No new thread can be made: there is no room for so large a stack."""
    before = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(before)
