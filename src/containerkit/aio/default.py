"""The default engine in the asyncio face: the blocking face's own, with threads to work in.

Owns: that handle, one a process, and the functions that need none of your own: `run`, `start`.
The engine itself is `containerkit.default_engine`'s, closed at exit.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from containerkit import default as blocking
from containerkit.aio.container import Container
from containerkit.aio.engine import Engine
from containerkit.aio.face import Eventual, like
from containerkit.stdio.threads import Workers

_engine: Engine | None = None


@like(blocking.default_engine)
async def default_engine() -> Engine:
    """Return this process's default engine, opening it on first use, and again when it was closed."""
    global _engine
    if _engine is None or _engine.closed:
        workers = Workers(1)
        try:
            core = await workers.call(blocking.default_engine)
        finally:
            await workers.close()
        if _engine is None or _engine.closed:
            _engine = Engine(core)
    return _engine


if TYPE_CHECKING:
    # The very signatures of the methods.
    _typed: Engine = Engine.__new__(Engine)
    run = _typed.run
    start = _typed.start
else:

    async def run(*args: Any, **keywords: Any) -> Any:
        """Run a command in a container of the default engine; see `Engine.run`."""
        return await (await default_engine()).run(*args, **keywords)

    def start(*args: Any, **keywords: Any) -> Eventual[Container]:
        """Start a container of the default engine; see `Engine.start`."""

        async def started() -> Container:
            return await (await default_engine()).start(*args, **keywords)

        return Eventual(started)

    import inspect

    for _function, _method in ((run, Engine.run), (start, Engine.start)):
        _function.__doc__ = _method.__doc__
        _signature = inspect.signature(_method)
        _function.__signature__ = _signature.replace(
            parameters=list(_signature.parameters.values())[1:]
        )


def _forked() -> None:
    global _engine
    _engine = None


os.register_at_fork(after_in_child=_forked)
