"""Many containers at once from one event loop, with a deadline for all of them.

Run it with ``.venv/bin/python examples/parallel.py``, as root.  Each job runs in a container of its
own; what is cancelled is gone: its processes, its files, its control group.
"""

from __future__ import annotations

import asyncio

import containerkit as ck
from containerkit import aio

JOBS = {
    "square": "print(12 ** 2)",
    "fails": "raise SystemExit('no such luck')",
    "memory": "bytearray(512 << 20)",
    "slow": "import time; time.sleep(600)",
}


async def job(engine: aio.Engine, program: str) -> str:
    """Run a program in a container; return what came of it."""
    limits = ck.Limits(memory="64m", pids=16)
    done = await engine.run(None, ["python3", "-c", program], text=True, limits=limits)
    return done.stdout.strip() if done.exit.ok else f"{done.exit} {done.stderr}".strip()


async def watch(container: aio.Container) -> int:
    """Count the lines that a container writes until it ends."""
    async with container.logs(follow=True) as lines:
        return len([line async for line in lines])


async def main() -> None:
    """Run all jobs side by side, and a service beside them."""
    ticking = "while echo tick; do sleep 0.05; done"
    async with aio.Engine.open() as engine, engine.start(None, ticking) as ticker:
        counting = asyncio.create_task(watch(ticker))
        tasks = {name: asyncio.create_task(job(engine, JOBS[name])) for name in JOBS}
        await asyncio.wait(tasks.values(), timeout=5)
        for name, task in tasks.items():
            if task.cancel():  # it has not ended
                await asyncio.wait([task])  # until nothing of it is left
            print(f"{name:7} {'took too long' if task.cancelled() else task.result()}")
        await ticker.stop(grace=0)
        print(f"{await counting} ticks meanwhile")


if __name__ == "__main__":
    asyncio.run(main())
