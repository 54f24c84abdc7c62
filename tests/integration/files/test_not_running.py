"""The files of a container that does not run: created, stopped, paused, removed; and its starts."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import containerkit as ck
from containerkit.errors import ConfigError, InvalidStatus
from containerkit.runtime import begin, freezing
from containerkit.runtime.contents import held_still
from containerkit.state import record
from containerkit.state.lock import FileLock

COPY = ["sh", "-c", "cat /etc/config > /seen; exit 3"]


def test_a_created_container_is_filled_before_it_starts(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox, COPY) as box:
        box.files.write_text("/etc/config", "given")
        box.files.mkdir("/srv/data", parents=True)
        assert box.files.exists("/bin/sh")
        assert str(box.status) == "created"
        box.start()
        assert box.wait(timeout=120).code == 3
        assert box.files.read_text("/seen") == "given"
        assert str(box.status) == "stopped"
        assert box.exit is not None
        assert box.exit.code == 3
        box.files.write_text("/etc/config", "again")
        box.start()
        box.wait(timeout=120)
        assert box.files.read_text("/seen") == "again"
        assert box.files.exists("/srv/data")


def test_a_stopped_one_is_used_by_many_threads_at_once(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["true"]) as box:
        box.wait(timeout=120)
        failed: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for round_ in range(5):
                    box.files.write_text(f"/tmp/{number}", str(round_))
                    assert box.files.read_text(f"/tmp/{number}") == str(round_)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert len(box.files.list("/tmp")) == 4


def test_a_stream_of_a_stopped_one_goes_into_itself(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox, ["true"]) as box:
        box.files.write_text("/tmp/a", "a")
        box.files.mkdir("/copy")
        with box.files.archive("/tmp") as tar:
            box.files.extract("/copy", tar)
        assert box.files.read_text("/copy/tmp/a") == "a"


def test_an_open_file_outlives_the_call(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox, ["cat", "/tmp/late"]) as box:
        with box.files.open("/tmp/late", "w") as file:
            file.write("late")
        box.start()
        box.wait(timeout=120)
        assert box.log_text() == "late"


def test_starting_waits_for_those_who_use_the_files(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox, ["sleep", "1000"]) as box:
        tar = box.files.archive("/bin")
        tar.read(1000)
        starter = threading.Thread(target=box.start)
        starter.start()
        starter.join(0.2)
        assert str(box.status) == "created"
        tar.close()
        starter.join()
        assert str(box.status) == "running"


@pytest.mark.needs("control groups")
def test_the_files_of_a_paused_one(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "1000"]) as box:
        box.pause()
        box.files.write_text("/tmp/x", "x")
        assert box.files.read_text("/tmp/x") == "x"
        assert box.diff()
        assert str(box.status) == "paused"
        box.unpause()


@pytest.mark.needs("control groups")
def test_those_of_one_that_is_being_paused(
    engine: ck.Engine, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it is paused before the kernel has frozen all of it: that is waited for."""
    answers = [True, False, False]

    with engine.start(busybox, ["sleep", "1000"]) as box:
        box.pause()
        with monkeypatch.context() as patch:
            patch.setattr(freezing, "is_frozen", lambda _places: answers.pop())
            with held_still(box):
                assert answers == []
            assert str(box.status) == "paused"


def test_a_removed_one_has_none(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox, ["true"]) as box:
        files = box.files
        files.exists("/")
        box.remove()
        with pytest.raises(InvalidStatus):
            files.exists("/")
        with pytest.raises(InvalidStatus):
            box.diff()


def test_its_mounts_are_there(
    engine: ck.Engine, busybox: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = tmp_path_factory.mktemp("bound")
    (source / "here").write_text("host")
    mounts = [ck.Mount.bind(source, "/data")]
    with engine.containers.create(busybox, ["true"], mounts=mounts) as box:
        assert box.files.read_text("/data/here") == "host"
        box.files.write_text("/data/there", "box")
        assert (source / "there").read_text() == "box"
        assert "/data/there" not in [change.path for change in box.diff()]
    with pytest.raises(ConfigError):
        engine.containers.create(busybox, ["true"], workdir="relative")


def test_another_handle_reaches_them_too(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "1000"]) as box, ck.Engine.open(engine.root) as other:
        other.containers.get(box.id).files.write_text("/tmp/x", "from elsewhere")
        assert box.files.read_text("/tmp/x") == "from elsewhere"


def test_who_looks_at_it_meanwhile_is_waited_for(
    engine: ck.Engine, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start lock is held for a moment by who asks whether it is free, and by new clones."""
    with engine.containers.create(busybox, ["true"]) as box:
        look = FileLock(engine.root / "containers" / box.id / record.NAME)
        wait = begin.waited_for_lock

        def end_of_look(*args: Any) -> bool:
            look.release()
            return wait(*args)

        monkeypatch.setattr(begin, "waited_for_lock", end_of_look)
        assert look.try_acquire()
        assert box.files.exists("/bin/sh")
        assert look.try_acquire()
        box.start()
        assert box.wait(timeout=120).ok
