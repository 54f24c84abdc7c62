"""Events as they are followed: by other processes, over rotations, without losing any."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import ConfigError
from containerkit.model.event import Event, EventFilter
from containerkit.state import events
from containerkit.stdio.aiodrive import adrive
from containerkit.stdio.events import Described, Events
from tests.integration.waits import deadline
from tests.support import ocibuild
from tests.support.registry import RegistryServer


def kinds(found: Events) -> list[str]:
    with found:
        return [event.kind for event in found]


def test_those_that_were(tmp_path: Path) -> None:
    events.append(tmp_path, "create", "a" * 64, name="web", image="nginx", note=1)
    events.append(tmp_path, "start", "a" * 64)
    with Events(tmp_path) as found:
        first, second = found
    assert (first.kind, first.id, first.name, first.image) == ("create", "a" * 64, "web", "nginx")
    assert first.attributes == {"note": 1}
    assert abs((datetime.now(UTC) - first.time).total_seconds()) < 60
    assert (second.kind, second.name, second.image) == ("start", "web", "nginx")


def test_names_are_those_of_the_time_or_looked_up(tmp_path: Path) -> None:
    asked: list[str] = []

    def describe(identity: str) -> Described | None:
        asked.append(identity)
        return Described("old", "img", {"role": "x"}) if identity == "known" else None

    for kind, identity, name in (
        ("start", "known", None), ("rename", "known", "new"), ("die", "known", None),
        ("remove", "known", "new"), ("start", "unknown", None),
    ):  # fmt: skip
        events.append(tmp_path, kind, identity, name=name)
    with Events(tmp_path, describe=describe) as found:
        assert [(event.kind, event.name) for event in found] == [
            ("start", "old"), ("rename", "new"), ("die", "new"), ("remove", "new"), ("start", ""),
        ]  # fmt: skip
    assert asked == ["known", "unknown"]
    only = EventFilter(label="role=x")
    with Events(tmp_path, describe=describe, wanted=only) as found:
        assert {event.id for event in found} == {"known"}


def test_since_until_and_kinds(tmp_path: Path) -> None:
    lines = [events.encode(ns * 10**9, kind, "x", {}) for ns, kind in ((10, "start"), (20, "die"))]
    (tmp_path / events.NAME).write_bytes(b"".join(lines))
    assert kinds(Events(tmp_path, since=15)) == ["die"]
    assert kinds(Events(tmp_path, until=datetime.fromtimestamp(15, UTC))) == ["start"]
    assert kinds(Events(tmp_path, since=timedelta(seconds=1))) == []
    assert kinds(Events(tmp_path, wanted=EventFilter(kind="die"))) == ["die"]
    with pytest.raises(ConfigError):
        Events(tmp_path, since="yesterday")  # type: ignore[arg-type]


def test_following_begins_now_or_as_long_ago_as_asked(tmp_path: Path) -> None:
    events.append(tmp_path, "create", "x")
    with Events(tmp_path, follow=True) as new, Events(tmp_path, since=0, follow=True) as all_:
        events.append(tmp_path, "start", "x")
        assert next(new).kind == "start"
        assert [next(all_).kind, next(all_).kind] == ["create", "start"]


def test_a_follower_ends_at_until(tmp_path: Path) -> None:
    events.append(tmp_path, "start", "x")
    soon = time.time() + 0.05
    assert kinds(Events(tmp_path, since=0, until=soon, follow=True)) == ["start"]
    assert time.time() >= soon


def test_a_root_without_a_file_is_followed(tmp_path: Path) -> None:
    with Events(tmp_path, follow=True) as found:
        events.append(tmp_path, "start", "x")
        assert next(found).kind == "start"


def test_over_rotations(tmp_path: Path) -> None:
    events.append(tmp_path, "one", "x")
    events.rotate(tmp_path, least=1)
    with Events(tmp_path, since=0, follow=True) as found:
        assert next(found).kind == "one"
        events.append(tmp_path, "two", "x")
        events.rotate(tmp_path, least=1)
        # A launcher that had opened the file just before it was renamed.
        with (tmp_path / events.OLDER).open("ab") as late:
            late.write(events.encode(1, "late", "x", {}))
        events.append(tmp_path, "three", "x")
        events.rotate(tmp_path, least=1)
        events.append(tmp_path, "four", "x")
        assert [next(found).kind for _ in range(4)] == ["two", "late", "three", "four"]
        with (tmp_path / events.OLDER).open("ab") as late:
            late.write(events.encode(1, "late", "x", {}))
        events.append(tmp_path, "five", "x")
        assert [next(found).kind for _ in range(2)] == ["late", "five"]


def test_on_an_event_loop_and_cancelled(tmp_path: Path) -> None:
    async def follow() -> list[str]:
        with Events(tmp_path, follow=True) as found:
            task = asyncio.ensure_future(adrive(found._take()))
            await asyncio.sleep(0)
            events.append(tmp_path, "start", "x")
            event = await task
            waiting = asyncio.ensure_future(adrive(found._take()))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            events.append(tmp_path, "die", "x")
            later = await adrive(found._take())
            assert event is not None
            assert later is not None
            return [event.kind, later.kind]

    assert asyncio.run(follow()) == ["start", "die"]


FOLLOWER = """
import sys
from pathlib import Path
from containerkit.stdio.events import Events
with Events(Path(sys.argv[1]), follow=True) as found:
    print("ready", flush=True)
    for event in found:
        print(event.kind, event.id, event.name, flush=True)
        if event.kind == "remove":
            break
"""


def test_another_process_sees_them_as_they_come(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FOLLOWER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        for kind in ("create", "start", "die", "remove"):
            events.append(tmp_path, kind, "x", name="web")
            assert other.stdout.readline() == f"{kind} x web\n"
        assert other.wait(timeout=deadline()) == 0


WRITERS, EACH = 8, 250


def write_many(root: Path, writer: int) -> None:
    for number in range(EACH):
        events.append(root, f"w{writer}", str(number))
        if writer == 0 and number in (80, 160):
            events.rotate(root, least=1)


def test_a_follower_loses_nothing_of_eight_writers(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with Events(tmp_path, follow=True) as found:
        writers = [context.Process(target=write_many, args=(tmp_path, n)) for n in range(WRITERS)]
        for one in writers:
            one.start()
        seen = [next(found) for _ in range(WRITERS * EACH)]
        for one in writers:
            one.join()
    assert Counter(event.kind for event in seen) == {f"w{n}": EACH for n in range(WRITERS)}
    for writer in range(WRITERS):
        mine = [int(event.id) for event in seen if event.kind == f"w{writer}"]
        assert mine == list(range(EACH))


def test_what_it_has_open_is_closed(tmp_path: Path) -> None:
    events.append(tmp_path, "start", "x")
    before = os.listdir("/proc/self/fd")
    one = Events(tmp_path, since=0, follow=True)
    assert isinstance(next(one), Event)
    one.close()
    one.close()
    assert not list(one)
    assert os.listdir("/proc/self/fd") == before


# ---- of images


def test_what_happens_to_an_image(engine_root: Path, registry: RegistryServer) -> None:
    name = registry.push("test/told:latest", ocibuild.busybox({"told": "x"}))
    with ck.Engine.open(engine_root) as engine:
        image = engine.images.pull(name)
        image.tag("told:again")
        image.untag("told:again")
        image.tag("told:third")
        engine.images.remove("told:third")
        engine.images.remove(name)
        with engine.events() as found:
            seen = [(event.kind, event.id, event.image) for event in found]
    full = image.references[0]
    assert [kind for kind, _id, _image in seen] == [
        "pull", "tag", "untag", "tag", "untag", "delete",
    ]  # fmt: skip
    assert {identity for _kind, identity, _image in seen} == {image.id}
    assert seen[0][2] == seen[-1][2] == full
    assert seen[1][2] == seen[2][2] == "docker.io/library/told:again"


# ---- of containers


def told(found: Events, identity: str) -> list[str]:
    return [event.kind for event in found if event.id == identity]


def test_the_life_of_a_container(engine: ck.Engine, busybox: str) -> None:
    began = time.time()
    with engine.start(busybox, ["sh", "-c", "exit 3"], labels={"role": "x"}, name="lived") as one:
        one.wait(timeout=deadline())
    with engine.events(since=began, container=one) as found:
        events_ = list(found)
    assert [event.kind for event in events_] == ["create", "start", "die", "remove"]
    assert {event.name for event in events_} == {"lived"}
    assert {event.image for event in events_} == {busybox}
    die = events_[2]
    assert (die.attributes["code"], die.attributes["cause"]) == (3, "exited")
    assert told(engine.events(since=began, label="role=x"), one.id) == [
        "create", "start", "die", "remove",
    ]  # fmt: skip
    assert told(engine.events(since=began, label="role=y"), one.id) == []
    assert told(engine.events(since=began, kind=("die", "oom")), one.id) == ["die"]
    assert told(engine.events(since=began, container="lived"), one.id)
    assert told(engine.events(since=began, image=busybox), one.id)
    with pytest.raises(ConfigError):
        engine.events(kind="dye")


def test_an_end_is_told_as_its_exit_says_it(engine: ck.Engine, busybox: str) -> None:
    for command, killed in ((["sleep", "1000"], True), (["sh", "-c", "exit 3"], False)):
        with engine.start(busybox, command) as one:
            if killed:
                one.kill()
            ended = one.wait(timeout=deadline())
            (die,) = engine.events(kind="die", container=one)
        told = die.attributes
        assert (told["code"], told["signal"], told["cause"]) == (
            ended.code, ended.signal, ended.cause,
        )  # fmt: skip


CHILD = """
import sys, containerkit as ck
with ck.Engine.open(sys.argv[1]) as engine:
    with engine.start(sys.argv[2], ["sleep", "1000"], name="theirs") as one:
        one.kill("TERM")
        one.rename("theirs-too")
        print(one.id, flush=True)
"""


def test_what_another_process_does(engine: ck.Engine, busybox: str) -> None:
    with engine.events(follow=True) as found:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(engine.root), busybox],
            check=True, stdout=subprocess.PIPE, text=True, timeout=deadline(),
        )  # fmt: skip
        identity = done.stdout.strip()
        seen: list[tuple[str, str]] = []
        while not seen or seen[-1][0] != "remove":
            event = next(found)
            if event.id == identity:
                seen.append((event.kind, event.name))
    kinds_ = [kind for kind, _name in seen]
    assert kinds_[0] == "create"
    assert kinds_.index("start") < kinds_.index("rename") < kinds_.index("die")
    assert ("rename", "theirs-too") in seen
    assert ("die", "theirs-too") in seen


def test_a_run_leaves_no_events(engine: ck.Engine, busybox: str) -> None:
    """It has no name and nothing to be looked at: its caller knows all of it."""
    engine.run(busybox, ["true"])  # pulls it, if nobody has yet
    began = time.time()
    engine.run(busybox, ["true"])
    assert not list(engine.events(since=began))


def test_one_that_was_created_and_removed(engine: ck.Engine, busybox: str) -> None:
    began = time.time()
    with engine.containers.create(busybox, ["true"], labels={"role": "x"}, name="made") as one:
        one.rename("renamed")
    with engine.events(since=began, container=one, kind=("create", "rename", "remove")) as found:
        seen = [(event.kind, event.name, event.image) for event in found]
    assert seen == [
        ("create", "made", busybox), ("rename", "renamed", busybox), ("remove", "renamed", busybox),
    ]  # fmt: skip
    with pytest.raises(ConfigError):
        engine.events(kind="dye")


MANY = """
import sys, containerkit as ck
with ck.Engine.open(sys.argv[1]) as engine:
    for _ in range(3):
        with engine.start(sys.argv[2], ["sleep", "1000"]) as one:
            one.kill()
            one.wait()
"""


@pytest.mark.slow
def test_a_follower_loses_nothing_of_eight_engines(engine: ck.Engine, busybox: str) -> None:
    expected = ["create", "start", "kill", "die", "remove"]
    seen: dict[str, list[str]] = {}
    with engine.events(follow=True, kind=expected) as found:
        others = [
            subprocess.Popen([sys.executable, "-c", MANY, str(engine.root), busybox])
            for _ in range(8)
        ]
        removed = 0
        while removed < 24:
            event = next(found)
            seen.setdefault(event.id, []).append(event.kind)
            removed += event.kind == "remove"
        assert [other.wait(timeout=deadline()) for other in others] == [0] * 8
    assert len(seen) == 24
    assert {tuple(kinds_) for kinds_ in seen.values()} == {tuple(expected)}


def test_a_launcher_alone_does_not_fill_the_disk(engine: ck.Engine, busybox: str) -> None:
    """While nobody has the root open: only engines begin a new file."""
    with engine.start(busybox, ["sleep", "1000"]) as box:
        file = engine.root / "events"
        os.truncate(file, (64 << 20) + 1)  # nearly all of it a hole
        box.kill()
        box.wait(timeout=120)
        assert file.stat().st_size == (64 << 20) + 1
        os.truncate(file, 0)
        box.start()
        assert b'"start"' in file.read_bytes()
