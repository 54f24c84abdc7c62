"""The default engine: one a process, opened on first use, closed at exit.

Owns it, and the functions that need none of your own: `run`, `start`, `echo`.  After a fork the
child opens its own and owns nothing of the parent's.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from containerkit.engine import Engine

if TYPE_CHECKING:
    from containerkit.stdio.entry import LogEntry

_guard = threading.Lock()
_engine: Engine | None = None


def default_engine() -> Engine:
    """Return this process's default engine, opening it on first use, and again when it was closed.

    Its root is ``$CONTAINERKIT_ROOT``, else the user's own (see `Engine.open`).
    """
    global _engine
    with _guard:
        if _engine is None or _engine.closed:
            _engine = Engine.open()
        return _engine


if TYPE_CHECKING:
    # The very signatures of the methods; at run time a bound method would open a root on import.
    _typed = default_engine()
    run = _typed.run
    start = _typed.start
else:

    def run(*args: Any, **keywords: Any) -> Any:
        """Run a command in a container of the default engine; see `Engine.run`."""
        return default_engine().run(*args, **keywords)

    def start(*args: Any, **keywords: Any) -> Any:
        """Start a container of the default engine; see `Engine.start`."""
        return default_engine().start(*args, **keywords)

    import inspect

    for _function, _method in ((run, Engine.run), (start, Engine.start)):
        _function.__doc__ = _method.__doc__
        _signature = inspect.signature(_method)
        _function.__signature__ = _signature.replace(
            parameters=list(_signature.parameters.values())[1:]
        )


def echo(entry: LogEntry) -> None:
    """Print one line of a container's output to this process's own; for ``on_output=``."""
    stream = sys.stderr if entry.stream == "stderr" else sys.stdout
    stream.write(entry.data.decode("utf-8", "replace"))
    stream.flush()


def _close() -> None:
    global _engine
    with _guard:
        engine, _engine = _engine, None
    if engine is not None:
        engine.close()


def _forked() -> None:
    global _engine, _guard
    _guard = threading.Lock()
    _engine = None


atexit.register(_close)
os.register_at_fork(after_in_child=_forked)
