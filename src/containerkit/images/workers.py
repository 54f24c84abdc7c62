"""A few threads for a list of tasks, whose events are delivered in the caller's thread.

Owns: starting, ending and joining the threads of one pull.  Must not: know what the tasks do.
Neighbour: `images.pull`.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar

from containerkit.errors import HostError, refusals

Event = TypeVar("Event")
Task = Callable[[Callable[[Event], None]], None]


def run_tasks(
    tasks: Sequence[Task[Event]],
    *,
    workers: int,
    cancelled: threading.Event,
    deliver: Callable[[Event], object],
) -> None:
    """Run *tasks*, in their order, up to *workers* at a time; return when all threads have ended.

    Args:
        tasks: each is given a function that takes its events.
        workers: threads at most.
        cancelled: set as soon as one task fails; tasks end early when they see it.
        deliver: called in this thread with each event; what it raises cancels the tasks.

    Raises:
        BaseException: of the task that failed first, or of *deliver*, or an interrupt.
    """
    events: SimpleQueue[Event | None] = SimpleQueue()
    pending = deque(tasks)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while pending and not cancelled.is_set():
                try:
                    task = pending.popleft()
                except IndexError:
                    return
                task(events.put)
        except BaseException as e:
            errors.append(e)
            cancelled.set()
        finally:
            events.put(None)

    threads = [
        threading.Thread(
            # Each knows, as this thread does, what event ends its waits (`state.cancel`).
            target=contextvars.copy_context().run,
            args=(work,),
            name=f"containerkit-pull-{number}",
            daemon=True,
        )
        for number in range(min(workers, len(tasks)))
    ]
    try:
        running = _start(threads)
        while running:
            event = events.get()
            if event is None:
                running -= 1
            else:
                deliver(event)
    except BaseException:
        cancelled.set()
        raise
    finally:
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    try:
        if errors:
            raise errors[0]
    finally:
        errors.clear()  # it holds this frame, and with it what the tasks had open, alive


def _start(threads: Sequence[threading.Thread]) -> int:
    """Start as many as the host allows, which then do the work of all; return how many.

    Raises:
        HostError: not one.
    """
    for number, thread in enumerate(threads):
        try:
            with refusals("start a download"):
                thread.start()
        except HostError:
            if number == 0:
                raise
            return number
    return len(threads)
