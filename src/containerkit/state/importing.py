"""Imports and forks: a child must not inherit the lock of a module that another thread imports.

The interpreter frees its one import lock in a forked child, but not those of single modules, and
much here is imported on first use.  So before a fork, what other threads are importing just now is
waited for: of this package and of what it uses, nothing else's.

Owns that waiting.  Must not: import anything that nobody has begun to, or fail: where the interpreter
does not show its locks, forks are as they are without it.
Neighbour: `forking` asks, before a fork.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from importlib import _bootstrap, import_module
from typing import Any, Final

_OURS: Final = frozenset(
    ("containerkit", "attr", "attrs", "cffi", "isal", "tqdm", "urllib3", "zstandard")
)
_ROUNDS: Final = 100
"""After so many the fork goes on: modules are waited for, not whoever imports one after another."""


def under_way() -> list[str]:
    """Return the modules that other threads are importing, from the search for their files on."""
    locks: dict[str, Any] = getattr(_bootstrap, "_module_locks", {})
    own = threading.get_ident()
    found = []
    for name, reference in list(locks.items()):
        owner = getattr(reference(), "owner", None)
        package = name.partition(".")[0]
        if owner not in (None, own) and (package in _OURS or package in sys.stdlib_module_names):
            found.append(name)
    return found


def settle() -> None:
    """Wait for them, and for what they go on to."""
    for _ in range(_ROUNDS):
        found = under_way()
        if not found:
            return
        for name in found:
            with contextlib.suppress(Exception):  # it is the other thread's to hear of
                import_module(name)
