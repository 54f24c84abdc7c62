"""containerkit for asyncio: the same names, to be awaited.

    from containerkit import aio

    result = await aio.run("python:3.12-slim", ["python", "-c", "print(42)"])
    async with aio.Engine.open() as engine, engine.start("redis:7") as redis:
        async for entry in redis.logs(follow=True): ...

What is a value in containerkit (`Limits`, `Result`, the errors, …) is the same here.  `open`,
`start`, `create`, `shared` and `popen` return an object that is awaitable and an asynchronous
context manager; what is iterated there is iterated with ``async for`` here.

Cancelling `run` and `exec` kills what they started, `start`, `create` and `pull` roll back, waits
stop only themselves.
"""

from __future__ import annotations

from containerkit.aio.container import Container
from containerkit.aio.containers import Containers
from containerkit.aio.default import default_engine, run, start
from containerkit.aio.engine import Engine
from containerkit.aio.face import Eventual
from containerkit.aio.files import Files
from containerkit.aio.images import Image, Images
from containerkit.aio.like import ImageLike
from containerkit.aio.process import Process, Reader, Writer
from containerkit.aio.stream import Stream
from containerkit.surface import present

__all__ = [
    "Container",
    "Containers",
    "Engine",
    "Eventual",
    "Files",
    "Image",
    "ImageLike",
    "Images",
    "Process",
    "Reader",
    "Stream",
    "Writer",
    "default_engine",
    "run",
    "start",
]

for _name in __all__:
    present(globals()[_name])


def __dir__() -> list[str]:
    """Return the public names: submodules are none of them."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
