"""The operations that the sweeps break off: each prepared, acted, and undone.

An operation is a generator function of an engine and an image: what comes before its first ``yield``
prepares, between the two the sweep does its harm, and what comes after undoes and must work whatever
happened.  `act` runs one.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import containerkit as ck

Operation = Callable[[ck.Engine, str], Iterator[None]]

SLEEP = ["sleep", "1000"]
OPTIONS: dict[str, Any] = {"network": "none"}
OWN_IDS: dict[str, Any] = {**OPTIONS, "security": ck.Security(userns="auto")}
STRICT: dict[str, Any] = {"security": ck.Security.strict()}


def _removed(container: ck.Container) -> None:
    with contextlib.suppress(ck.ContainerNotFound):
        container.remove(force=True)


def _all_removed(engine: ck.Engine) -> None:
    for container in engine.containers.list(all=True):
        _removed(container)


def run(engine: ck.Engine, image: str) -> Iterator[None]:
    yield
    engine.run(image, ["sh", "-c", "sleep 1000 & echo hello > /f"], **OPTIONS).check()
    yield


def start(engine: ck.Engine, image: str) -> Iterator[None]:
    yield
    engine.start(image, SLEEP, **OPTIONS)
    yield
    _all_removed(engine)


def detach(engine: ck.Engine, image: str) -> Iterator[None]:
    yield
    engine.start(image, SLEEP, lifetime="detached", **OPTIONS)
    yield
    _all_removed(engine)


def create(engine: ck.Engine, image: str) -> Iterator[None]:
    yield
    engine.containers.create(image, SLEEP, name="made", **OPTIONS)
    yield
    _all_removed(engine)


def execute(engine: ck.Engine, image: str) -> Iterator[None]:
    container = engine.start(image, SLEEP, **OPTIONS)
    yield
    assert (
        container.exec(["sh", "-c", "sleep 1000 & cat"], input=b"hello").check().stdout == b"hello"
    )
    yield
    container.remove(force=True)


def stop(engine: ck.Engine, image: str) -> Iterator[None]:
    container = engine.start(image, SLEEP, **OPTIONS)
    yield
    container.stop(grace=5)
    yield
    _removed(container)


def _removing(container: ck.Container) -> Iterator[None]:
    """Remove it; what fails once succeeds when it is asked again."""
    yield
    try:
        container.remove(force=True)
    except ck.HostError:
        container.remove(force=True)
        raise
    yield
    _removed(container)


def remove(engine: ck.Engine, image: str) -> Iterator[None]:
    container = engine.start(image, ["sh", "-c", "mkdir -p /a/b; echo x > /a/b/c; sleep 1000"])
    yield from _removing(container)


def restart(engine: ck.Engine, image: str) -> Iterator[None]:
    container = engine.start(image, SLEEP, lifetime="detached", **OPTIONS)
    yield
    container.restart(grace=0)
    yield
    _removed(container)


def pause(engine: ck.Engine, image: str) -> Iterator[None]:
    container = engine.start(image, SLEEP, **OPTIONS)
    yield
    container.pause()
    container.unpause()
    yield
    _removed(container)


def rename(engine: ck.Engine, image: str) -> Iterator[None]:
    container = engine.containers.create(image, SLEEP, name="before", **OPTIONS)
    yield
    container.rename("after")
    yield
    _removed(container)


def update(engine: ck.Engine, image: str) -> Iterator[None]:
    container = engine.start(image, SLEEP, **OPTIONS)
    yield
    container.update(limits=ck.Limits(pids=77))
    yield
    _removed(container)


def logs(engine: ck.Engine, image: str) -> Iterator[None]:
    container = engine.start(image, ["sh", "-c", "echo one; echo two >&2"], **OPTIONS)
    container.wait(timeout=120)
    yield
    assert {entry.data for entry in container.logs(follow=True)} == {b"one\n", b"two\n"}
    yield
    _removed(container)


def files(engine: ck.Engine, image: str) -> Iterator[None]:
    container = engine.start(image, SLEEP, **OPTIONS)
    yield
    container.files.write_bytes("/etc/new", b"content")
    assert container.files.read_bytes("/etc/new") == b"content"
    container.export(io.BytesIO())
    yield
    _removed(container)


def stopped_files(engine: ck.Engine, image: str) -> Iterator[None]:
    container = engine.containers.create(image, SLEEP, **OPTIONS)
    yield
    container.files.write_bytes("/new", b"content")
    assert any(change.path == "/new" for change in container.diff())
    yield
    _removed(container)


def commit(engine: ck.Engine, image: str) -> Iterator[None]:
    container = engine.start(image, SLEEP, **OPTIONS)
    container.files.write_bytes("/new", b"content")
    yield
    made = container.commit("committed")
    assert [layer.size > 0 for layer in made.layers] == [True, True]
    assert engine.images.get("committed") == made
    yield
    _removed(container)


def look(engine: ck.Engine, image: str) -> Iterator[None]:
    container = engine.start(image, SLEEP, **OPTIONS)
    yield
    assert [one.id for one in engine.containers.list()] == [container.id]
    container.stats()
    container.top()
    container.inspect()
    yield
    _removed(container)


def reopen(engine: ck.Engine, image: str) -> Iterator[None]:
    yield
    with ck.Engine.open(engine.root) as again:
        again.run(image, ["true"], **OPTIONS).check()
    yield


def pull(engine: ck.Engine, image: str) -> Iterator[None]:
    for one in engine.images.list():
        if image in map(str, one.references):
            one.remove(force=True)
    engine.gc()
    yield
    engine.images.pull(image, insecure=True)
    yield
    engine.images.pull(image, insecure=True)


def share(engine: ck.Engine, image: str) -> Iterator[None]:
    yield
    with engine.containers.shared("one", image, SLEEP, **OPTIONS) as container:
        assert container.status == "running"
    yield


def attach(engine: ck.Engine, image: str) -> Iterator[None]:
    script = "read word; echo got $word"
    container = engine.start(image, ["sh", "-c", script], stdin_open=True, **OPTIONS)
    yield
    with container.attach() as process:
        said = process.communicate(b"one\n", timeout=20).stdout
        # What a log can not take is counted, and holds nobody up.
        assert said == b"got one\n" or container.inspect().dropped_log_bytes == 8
    yield
    _removed(container)


def terminal(engine: ck.Engine, image: str) -> Iterator[None]:
    container = engine.start(image, SLEEP, tty=True, **OPTIONS)
    yield
    assert container.exec(["tty"], tty=True).check().stdout.startswith(b"/dev/pts/")
    with container.popen(["cat"], tty=True) as process:
        process.resize(30, 100)
        process.kill()
        process.wait(timeout=20)
    yield
    _removed(container)


def health(engine: ck.Engine, image: str) -> Iterator[None]:
    check = ck.Healthcheck(["sh", "-c", "echo well"], interval=0.05)
    yield
    container = engine.start(image, SLEEP, healthcheck=check, **OPTIONS)
    container.wait_ready(healthy=True, timeout=20)
    yield
    _removed(container)


def strict(engine: ck.Engine, image: str) -> Iterator[None]:
    yield
    assert engine.run(image, ["id", "-u"], **STRICT).check().stdout == b"65534\n"
    yield


def own_ids(engine: ck.Engine, image: str) -> Iterator[None]:
    """A kept container with a range of ids: made, started, written to, started again."""
    yield
    container = engine.start(image, SLEEP, lifetime="detached", **OWN_IDS)
    container.files.write_bytes("/etc/new", b"content")
    container.restart(grace=0)
    assert container.exec(["cat", "/etc/new"]).check().stdout == b"content"
    yield
    _all_removed(engine)


def own_ids_removed(engine: ck.Engine, image: str) -> Iterator[None]:
    container = engine.start(image, ["sh", "-c", "echo x > /f; sleep 1000"], **OWN_IDS)
    yield from _removing(container)


OPERATIONS: dict[str, Operation] = {
    operation.__name__: operation
    for operation in (
        run, start, detach, create, execute, stop, remove, restart, pause, rename, update, logs,
        files, stopped_files, commit, look, reopen, pull, share, attach, terminal, health,
        strict, own_ids, own_ids_removed,
    )
}  # fmt: skip


def act(operation: Iterator[None], begin: Callable[[], object], end: Callable[[], object]) -> None:
    """Run an operation; *begin* and *end* are called around what is broken off.

    Raises:
        Whatever the operation raises between the two; its undoing has been done by then.
    """
    failure: BaseException | None = None
    next(operation)
    begin()
    try:
        next(operation)
    except Exception as error:
        failure = error
    finally:
        end()
    if failure is None:
        next(operation, None)
        return
    try:
        raise failure
    finally:
        del failure  # it holds this frame, and what the operation had open


def undo(engine: ck.Engine) -> None:
    """Remove what an operation that failed has left to its caller."""
    _all_removed(engine)
