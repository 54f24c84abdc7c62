"""Imports and forks: a child must not inherit the lock of a module that another thread imports.

The interpreter frees its one import lock in a forked child, but not those of single modules, and
much here is imported on first use.  So before a fork, what other threads are importing just now is
waited for: of this package, and of the standard library beneath it, nothing else's.

Owns that hook.  Must not: import anything that nobody has begun to.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module


def _under_way() -> list[str]:
    found = []
    for name, module in list(sys.modules.items()):
        if getattr(getattr(module, "__spec__", None), "_initializing", False):
            package = name.partition(".")[0]
            if package == "containerkit" or package in sys.stdlib_module_names:
                found.append(name)
    return found


def _settle() -> None:
    """Wait for imports under way in other threads; those of this one are left alone."""
    before: list[str] = []
    # Again, since who has one module goes on to the next; what stays the same is this thread's own.
    while (found := _under_way()) and found != before:
        for name in found:
            import_module(name)  # of a module that is begun: waits until it is whole
        before = found


os.register_at_fork(before=_settle)
