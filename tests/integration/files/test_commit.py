"""`Container.commit`: what a container has written is seen by the next one, and nothing else is."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from containerkit import aio
from containerkit.model.digest import Digest
from tests.support import ocibuild
from tests.support.registry import RegistryServer

WORK = """
cd /data; echo more >> file; rm other; mv both moved; ln moved second; chmod 4755 second
rm -r sub; mkdir -p sub/er; echo new > sub/er/new; ln -sf nowhere link; touch -d 2001-01-01 empty
mkdir /tmp/d; echo > /tmp/d/f; chmod 0 empty /tmp/d; mkfifo fifo
mkdir -m 1777 open; touch "$(printf 'odd \\377\\nname')" "$(printf '%0255d' 0)"
truncate -s 40M sparse; printf end >> sparse
rm -r /opaque; mkdir /opaque; echo kept > /opaque/below; echo > /data/gone-above
rm -r /empty; echo a file > /empty; mkdir -p /new/a/b; true >> /etc/passwd
rm /bin/vi; echo > /etc/"$(printf '%0251d' 1)"; rm /etc/"$(printf '%0251d' 1)"
"""
LIST = """
find /data /opaque /empty /new /bin -print0 | sort -z | xargs -0 stat -c '%n %F %a %u %g %Y %N'
find /data /opaque /empty -type f -print0 | sort -z | xargs -0 stat -c '%n %s %h'
find /data /opaque /empty -type f -size -100k -print0 | sort -z | xargs -0 md5sum
"""


def entries(engine: ck.Engine, image: ck.Image) -> dict[str, tarfile.TarInfo]:
    """What the last layer of an image has."""
    path = engine.root / "blobs" / "sha256" / image.layers[-1].digest.partition(":")[2]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(path.read_bytes()))) as archive:
        return {member.name: member for member in archive}


def names(engine: ck.Engine, image: ck.Image) -> list[str]:
    return list(entries(engine, image))


@pytest.fixture
def own(engine_root: Path, busybox: str) -> Iterator[ck.Engine]:
    """An engine on a root of this test alone."""
    with ck.Engine.open(engine_root) as opened:
        opened.images.pull(busybox)
        yield opened


def test_the_next_one_sees_the_same(engine: ck.Engine, layered: str) -> None:
    script = f"{{ {WORK} }} 2>&1; touch /tmp/done; exec sleep 100000"
    with engine.start(layered, ["sh", "-c", script]) as box:
        box.wait_ready(command="test -e /tmp/done", timeout=120)
        seen = box.exec(["sh", "-c", LIST]).check().stdout
        image = box.commit("test/work:1")
        assert box.status == "running"
    assert b"/data/sparse 41943043 1" in seen
    assert engine.run("test/work:1", ["sh", "-c", LIST]).check().stdout == seen
    made = entries(engine, image)
    assert [name for name in made if ".wh." in name] == [
        "bin/.wh.vi",
        "data/.wh.both",
        "data/.wh.other",
        "data/sub/.wh..wh..opq",
        "opaque/.wh..wh..opq",
    ]
    assert "etc" not in made  # what was opened only is not what changed
    assert made["data/second"].linkname == "data/moved"
    assert image.layers[-1].size < 1 << 20  # holes cost next to nothing
    with engine.start("test/work:1", ["true"]) as again:
        again.wait(timeout=120)
        assert again.diff() == ()
    image.remove()


def test_created_running_paused_and_stopped_ones(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox, ["sh", "-c", "echo y > /tmp/y"]) as box:
        untouched = box.commit()
        assert untouched.layers == engine.images.get(busybox).layers
        assert untouched.history[-1].empty_layer
        box.files.write_text("/tmp/x", "x")
        assert names(engine, box.commit()) == ["tmp", "tmp/x"]
        box.start()
        box.wait(timeout=120)
        stopped = box.commit()
        assert names(engine, stopped) == ["tmp", "tmp/x", "tmp/y"]
        assert [one.empty_layer for one in stopped.history] == [False, False]
        assert stopped.layers[-1] == box.commit(message="again").layers[-1]  # the same bytes
    assert engine.run(stopped, ["cat", "/tmp/x", "/tmp/y"]).check().stdout == b"xy\n"
    engine.images.prune()


@pytest.mark.needs("ids")
def test_what_it_says(engine: ck.Engine, busybox: str) -> None:
    options: ck.ContainerOptions = {
        "name": "said",
        "env": {"TOKEN": "shared", "PATH": None},
        "labels": {"one": "1"},
        "user": "1000:1000",
        "workdir": "/tmp",
        "stop_signal": "INT",
        "healthcheck": ck.Healthcheck(["true"], interval=7),
    }
    with engine.containers.create(busybox, ["sleep", "1"], **options) as box:
        plain = box.commit().config
        since = dt.datetime.now(dt.UTC)
        image = box.commit(
            "test/said",
            message="why",
            author="who",
            changes=['ENTRYPOINT ["echo"]', "CMD $TOKEN", "ENV B=$TOKEN", "EXPOSE 80", "USER 0"],
        )
        (event,) = engine.events(since=since, until=dt.datetime.now(dt.UTC))
    assert (plain.cmd, plain.env, plain.labels) == (("sleep", "1"), ("TOKEN=shared",), {"one": "1"})
    assert (plain.user, plain.workdir, plain.stop_signal) == ("1000:1000", "/tmp", "INT")
    assert plain.healthcheck is not None
    assert (plain.healthcheck.test, plain.healthcheck.interval_ns) == (("CMD", "true"), 7 * 10**9)
    assert image.config.entrypoint == ("echo",)
    assert image.config.cmd == ("/bin/sh", "-c", "$TOKEN")
    assert image.config.env == ("TOKEN=shared", "B=shared")
    assert (image.config.exposed_ports, image.config.user) == (("80/tcp",), "0")
    assert image.history[-1][1:4] == ("sleep 1", "why", "who")
    assert (event.kind, event.name, event.attributes["comment"]) == ("commit", "said", "why")
    assert event.attributes["image_id"] == image.id
    image.remove()
    engine.images.prune()


@pytest.mark.needs("ids")
def test_owners(engine: ck.Engine, busybox: str) -> None:
    """As an ordinary user, those of its subordinate ids; others may not even look at some."""
    script = "cd /tmp; mkdir -m 700 d; echo x > d/f; chown -R 1000:1001 d; chmod 4750 d/f"
    with engine.start(busybox, ["sh", "-c", script]) as box:
        assert box.wait(timeout=120).code == 0, box.log_text()
        image = box.commit()
    made = entries(engine, image)["tmp/d/f"]
    assert (made.uid, made.gid, made.mode) == (1000, 1001, 0o4750)
    told = engine.run(image, ["stat", "-c", "%u %g %a", "/tmp/d", "/tmp/d/f"]).check().stdout
    assert told == b"1000 1001 700\n1000 1001 4750\n"
    engine.images.prune()


def test_what_is_mounted_is_not_in_it(engine: ck.Engine, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    mounts = [
        ck.Mount.bind(tmp_path, "/new/mount"),
        ck.Mount.bind(tmp_path / "file", "/etc/single"),
        ck.Mount.tmpfs("/scratch"),
    ]
    command = ["sh", "-c", "echo >> /etc/hosts; echo > /new/mount/y; cp /run/secrets/key /scratch"]
    with engine.start(busybox, command, mounts=mounts, secrets={"key": "word"}) as box:
        assert box.wait(timeout=120).code == 0, box.log_text()
        assert box.commit().history[-1].empty_layer
        box.files.write_text("/etc/own", "")
        assert names(engine, box.commit()) == ["etc", "etc/own"]
    engine.images.prune()


def test_it_outlives_the_container_and_its_image(own: ck.Engine, busybox: str) -> None:
    with own.containers.create(busybox, ["cat", "/f"]) as box:
        box.files.write_text("/f", "content")
        own.images.get(busybox).remove()
        image = box.commit("kept")
    own.gc()
    assert own.check().ok
    assert own.run("kept").check().stdout == b"content"
    assert [entry.empty_layer for entry in image.history] == [False, False]
    image.remove()
    own.gc()
    assert list((own.root / "blobs" / "sha256").iterdir()) == []
    with pytest.raises(ck.InvalidStatus, match="commit"):
        box.commit()


def test_from_another_process(engine: ck.Engine, busybox: str) -> None:
    program = (
        "import sys, containerkit as ck\n"
        "with ck.Engine.open(sys.argv[1]) as engine:\n"
        "    print(engine.containers.get(sys.argv[2]).commit('theirs').id)\n"
    )
    with engine.start(busybox, ["sh", "-c", "echo theirs > /f; sleep 100000"]) as box:
        box.wait_ready(command="test -s /f", timeout=120)
        done = subprocess.run(
            [sys.executable, "-c", program, str(engine.root), box.id],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    assert engine.images.get("theirs").id == done.stdout.strip()
    assert engine.run("theirs", ["cat", "/f"]).stdout == b"theirs\n"
    engine.images.remove("theirs")


def test_elsewhere_by_a_registry(engine: ck.Engine, busybox: str, registry: RegistryServer) -> None:
    with engine.containers.create(busybox, ["cat", "/f"]) as box:
        box.files.write_text("/f", "content")
        image = box.commit("pushed")
    blobs = engine.root / "blobs" / "sha256"

    def data(digest: str) -> bytes:
        return (blobs / Digest.parse(digest).encoded).read_bytes()

    parts = [image.id, *(layer.digest for layer in image.layers)]
    pushed = ocibuild.Image(
        data(image.digest),
        "application/vnd.oci.image.manifest.v1+json",
        {digest: data(digest) for digest in parts},
    )
    name = registry.push("test/committed:1", pushed)
    engine.images.get("pushed").remove()
    engine.gc()
    assert engine.images.pull(name).digest == image.digest
    assert engine.run(name).check().stdout == b"content"


@pytest.mark.needs("control groups")
def test_it_is_frozen_meanwhile(engine: ck.Engine, busybox: str) -> None:
    """Of files that are written in turn, never the later one without the earlier."""
    loop = "i=0; while :; do i=$((i+1)); echo > /tmp/a$i; echo > /tmp/b$i; done"
    with engine.start(busybox, ["sh", "-c", loop]) as box:
        for _ in range(3):
            found = names(engine, box.commit())
            counts = [sum(name.startswith(f"tmp/{kind}") for name in found) for kind in "ab"]
            assert counts[0] - counts[1] in {0, 1}
        assert str(box.status) == "running"
    engine.images.prune()


def test_what_no_layer_can_say(engine: ck.Engine, busybox: str) -> None:
    before = engine.images.list()
    with engine.containers.create(busybox, ["true"]) as box:
        box.files.write_text("/tmp/.wh.group", "")
        with pytest.raises(ck.FileError, match=r"cannot commit .*would say that another is gone"):
            box.commit("never")
        box.files.remove("/tmp/.wh.group")
        for change in ("ONBUILD RUN true", "ENV TOKEN", "USER a b"):
            with pytest.raises(ck.ConfigError, match="change 1"):
                box.commit("never", changes=change)
        with pytest.raises(ck.InvalidReference, match="pinned"):
            box.commit(f"never@sha256:{'0' * 64}")
        with pytest.raises(ck.InvalidSpec, match="NUL"):
            box.commit("never", message="\0")
        deep = "i=0; while [ $i -lt 300 ]; do mkdir d; cd d; i=$((i+1)); done"
    with engine.start(busybox, ["sh", "-c", f"cd /tmp; {deep}"]) as box:
        box.wait(timeout=120)
        with pytest.raises(ck.HostError, match="too deep"):
            box.commit("never")
    assert engine.images.list() == before


@pytest.mark.needs("host root")
def test_the_host_image(engine: ck.Engine) -> None:
    with (
        engine.containers.create(None, ["true"]) as box,
        pytest.raises(ck.ConfigError, match=r"cannot commit .*host's own"),
    ):
        box.commit()


def test_more_than_an_image_may_be(engine_root: Path, busybox: str) -> None:
    """A file of a terabyte that takes no room is not read to its end."""
    limits = ck.ImageLimits(size="64m", entries=3000)
    with ck.Engine.open(engine_root, config=ck.EngineConfig(image_limits=limits)) as engine:
        command = ["sh", "-c", "truncate -s 1024G /tmp/f"]
        with engine.start(busybox, command) as box:
            assert box.wait(timeout=120).code == 0, box.log_text()
            with pytest.raises(ck.ArchiveError, match="cannot commit"):
                box.commit()
        assert os.listdir(engine_root / "ingest") == []


async def commit_with_asyncio(root: Path, image: str) -> None:
    async with await aio.Engine.open(root) as engine:
        box = await engine.containers.create(image, ["cat", "/f"])
        await box.files.write_text("/f", "content")
        made = await box.commit("asyncio")
        assert isinstance(made, aio.Image)
        await box.remove()
        assert (await engine.run(made)).stdout == b"content"
        await made.remove()


def test_with_asyncio(engine: ck.Engine, busybox: str) -> None:
    import asyncio

    asyncio.run(commit_with_asyncio(engine.root, busybox))
