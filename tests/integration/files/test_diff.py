"""`Container.diff`: as Docker's, less what only looks changed; and what of it is the engine's own."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import containerkit as ck

CASES: dict[str, tuple[str, list[str]]] = {
    "nothing": ("true", []),
    "reading": ("cat /data/file; ls -R /data", []),
    "a new file": ("echo x > /data/new", ["C /data", "A /data/new"]),
    "a new tree": (
        "mkdir -p /new/a/b; echo > /new/a/f",
        ["A /new", "A /new/a", "A /new/a/b", "A /new/a/f"],
    ),
    "written in place": ("echo more >> /data/file", ["C /data", "C /data/file"]),
    "written deep below": (
        "echo more >> /data/sub/er/deepest",
        ["C /data", "C /data/sub", "C /data/sub/er", "C /data/sub/er/deepest"],
    ),
    "opened for writing only": ("true >> /data/file", []),
    "replaced by the same": ("cp -p /data/file /data/f && mv /data/f /data/file", ["C /data"]),
    "mode": ("chmod 600 /data/file", ["C /data", "C /data/file"]),
    "owner": ("chown 7:8 /data/file", ["C /data", "C /data/file"]),
    "time": ("touch -d 2001-01-01 /data/file", ["C /data", "C /data/file"]),
    "mode and back": ("chmod 600 /data/file; chmod 644 /data/file", []),
    "mode of a directory": ("chmod 700 /data/sub", ["C /data", "C /data/sub"]),
    "removed": ("rm /data/file", ["C /data", "D /data/file"]),
    "a tree removed": ("rm -r /data/sub", ["C /data", "D /data/sub"]),
    "removed and made again": (
        "rm -r /data/sub; mkdir /data/sub; echo new > /data/sub/new",
        ["C /data", "C /data/sub", "D /data/sub/deep", "D /data/sub/er", "A /data/sub/new"],
    ),
    "a tree removed and made again": (
        "rm -r /data/sub; mkdir -p /data/sub/er; echo new > /data/sub/er/new",
        ["C /data", "C /data/sub", "D /data/sub/deep", "C /data/sub/er"]
        + ["D /data/sub/er/deepest", "A /data/sub/er/new"],
    ),
    "made and removed": ("echo > /data/new; rm /data/new", ["C /data"]),
    "a file becomes a directory": (
        "rm /data/file; mkdir /data/file; echo > /data/file/in",
        ["C /data", "C /data/file", "A /data/file/in"],
    ),
    "a directory becomes a file": (
        "rm -r /data/sub; echo > /data/sub",
        ["C /data", "C /data/sub"],
    ),
    "a link changed": ("ln -sf other /data/link", ["C /data", "C /data/link"]),
    "renamed": ("mv /data/file /data/moved", ["C /data", "D /data/file", "A /data/moved"]),
    "a directory renamed": (
        "mv /data/sub /data/moved",
        ["C /data", "A /data/moved", "A /data/moved/deep", "A /data/moved/er"]
        + ["A /data/moved/er/deepest", "D /data/sub"],
    ),
    "hidden below, made again": ("echo > /data/gone-above", ["C /data", "A /data/gone-above"]),
    "hidden in an opaque directory": ("echo > /opaque/below", ["C /opaque", "A /opaque/below"]),
    "of the upper layer": ("echo >> /data/both", ["C /data", "C /data/both"]),
    "what is mounted": ("echo > /dev/shm/x; echo >> /etc/hosts; echo > /proc/self/comm", []),
    "special": ("mkfifo /data/fifo; ln -s x /data/l", ["C /data", "A /data/fifo", "A /data/l"]),
    "a new name of a file": ("ln /data/file /data/same", ["C /data", "A /data/same"]),
}


def shown(box: ck.Container) -> list[str]:
    return [str(change) for change in box.diff()]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.needs("ids")] if case == "owner" else [])
        for case in CASES
    ],
)
def test_what_is_different(engine: ck.Engine, layered: str, case: str) -> None:
    command, wanted = CASES[case]
    with engine.start(layered, ["sh", "-c", f"{{ {command}; }} 2>&1"]) as box:
        assert box.wait(timeout=120).code == 0, box.log_text()
        assert shown(box) == sorted(wanted, key=lambda line: line[2:])


def test_a_change_is_a_value(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sh", "-c", "echo > /tmp/x; rm /etc/group"]) as box:
        box.wait(timeout=120)
        assert box.diff() == (
            ck.Change("/etc", "modified"),
            ck.Change("/etc/group", "deleted"),
            ck.Change("/tmp", "modified"),
            ck.Change("/tmp/x", "added"),
        )


def test_nothing_is_different_before_and_after_an_idle_run(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox, ["true"]) as box:
        assert shown(box) == []
        for _ in range(2):
            box.start()
            box.wait(timeout=120)
            assert shown(box) == []
        box.files.write_text("/tmp/x", "")
        assert shown(box) == ["C /tmp", "A /tmp/x"]


def test_mount_targets_are_no_changes(engine: ck.Engine, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    mounts = [
        ck.Mount.bind(tmp_path, "/new/mount"),
        ck.Mount.bind(tmp_path / "file", "/etc/single"),
        ck.Mount.tmpfs("/scratch"),
    ]
    command = ["sh", "-c", "echo > /new/mount/y; echo > /scratch/z; echo > /new/own"]
    with engine.start(busybox, command, mounts=mounts, secrets={"key": "word"}) as box:
        box.wait(timeout=120)
        assert shown(box) == ["A /new", "A /new/own"]
    with engine.start(busybox, ["true"], mounts=mounts) as box:
        box.wait(timeout=120)
        assert shown(box) == []


@pytest.mark.needs("host root")
def test_the_host_image(engine: ck.Engine) -> None:
    command = ["sh", "-c", "echo > /usr/lib/new; echo > /tmp/own; rm /usr/bin/env"]
    with engine.start(None, command) as box:
        assert box.wait(timeout=120).code == 0, box.log_text()
        assert shown(box) == [
            "C /tmp", "A /tmp/own", "C /usr", "C /usr/bin", "D /usr/bin/env", "C /usr/lib",
            "A /usr/lib/new",
        ]  # fmt: skip


@pytest.mark.needs("control groups")
def test_a_running_one_is_frozen_meanwhile(engine: ck.Engine, busybox: str) -> None:
    """Of files that are written in turn, never the later one without the earlier."""
    loop = "i=0; while :; do i=$((i+1)); echo > /tmp/a$i; echo > /tmp/b$i; done"
    with engine.start(busybox, ["sh", "-c", loop]) as box:
        for _ in range(10):
            names = [change.path for change in box.diff()]
            counts = [sum(name.startswith(f"/tmp/{kind}") for name in names) for kind in "ab"]
            assert counts[0] - counts[1] in {0, 1}
        assert str(box.status) == "running"
        before, deadline = box.diff(), time.monotonic() + 60
        while box.diff() == before:  # it goes on in between
            assert time.monotonic() < deadline


def test_a_name_that_is_no_text(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sh", "-c", "touch /tmp/$(printf '\\377')"]) as box:
        box.wait(timeout=120)
        assert os.fsencode(box.diff()[-1].path) == b"/tmp/\xff"
