"""One container against another of the same engine: its processes, files, agent, socket and store."""

from __future__ import annotations

import os
from pathlib import Path

import containerkit as ck
from tests.integration.exec.look import launcher_of

SECRET = "of-the-sibling-only"
SHARED = "of-its-config"
LOOK = (
    "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ /proc/[0-9]*/mountinfo"
    " /proc/*/cgroup /proc/net/unix /proc/sched_debug /proc/locks;"
    " ls -lR /dev /run /sys/fs 2>/dev/null; hostname; ps"
)


def test_nothing_of_it_is_to_be_seen(
    engine: ck.Engine, hostile: str, security: ck.Security
) -> None:
    """While execs, with an agent that waits for more, are in both."""
    options = {"security": security}
    with (
        engine.start(
            hostile,
            ["sh", "-c", "sleep 100000; :", SECRET],
            env={"TOKEN": SECRET},
            secrets={"token": SECRET.encode()},
            hostname="sibling",
            **options,  # type: ignore[arg-type]
        ) as first,
        engine.start(hostile, ["sleep", "100000"], **options) as box,  # type: ignore[arg-type]
        first.popen(["sh", "-c", "sleep 100000; :", SECRET], env={"TOKEN": SECRET}),
    ):
        first.exec(f"echo {SECRET} >/dev/shm/{SECRET}", check=True)
        for tty in (False, True):
            said = box.exec(LOOK, text=True, tty=tty).stdout
            assert SECRET not in said
            assert first.id[:12] not in said
            assert "ck-launcher" not in said
            assert "sibling" not in said
        find = ["find", "/dev", "-name", f"*{SECRET}*"]
        assert box.exec(["find", "/", *find[2:]], text=True).stdout == ""
        # the control: whoever is in there sees it
        own = first.exec(LOOK, text=True).stdout
        assert SECRET in own
        assert "sibling" in own
        assert first.exec(find, text=True).stdout == f"/dev/shm/{SECRET}\n"
        mine = box.exec("echo /proc/[0-9]*", text=True).stdout.split()
        assert len(mine) <= 3  # its own first process, the shell, its child


def test_its_secrets_are_in_no_file_of_the_root(
    engine: ck.Engine, hostile: str, security: ck.Security
) -> None:
    """Neither in config, plan, record, event nor log.  The control is its environment, which is there."""
    with engine.start(
        hostile,
        ["sleep", "100000"],
        secrets={"token": SECRET.encode()},
        env={"A": SHARED},
        security=security,
    ) as box:
        assert box.exec(["cat", "/run/secrets/token"], text=True).stdout == SECRET
        assert SECRET not in repr(box.inspect())
        assert SECRET not in str(box.plan().explain())
        box.restart()
        assert box.exec(["cat", "/run/secrets/token"], text=True).stdout == SECRET
        files = {
            path: path.read_bytes()
            for path in Path(engine.root).rglob("*")
            if path.is_file() and not path.is_symlink() and "layers" not in path.parts
        }
        assert [path for path, data in files.items() if SECRET.encode() in data] == []
        assert [path for path, data in files.items() if SHARED.encode() in data]
        launcher = launcher_of(engine)
        for name in ("environ", "cmdline"):
            assert SECRET.encode() not in Path(f"/proc/{launcher.pid}/{name}").read_bytes()


def test_the_launcher_has_nothing_of_the_program(engine: ck.Engine, hostile: str) -> None:
    """No environment, its own name as arguments, no directory, no terminal, and not dumpable."""
    engine.run(hostile, ["true"])
    place = Path(f"/proc/{launcher_of(engine).pid}")
    assert (place / "environ").read_bytes() == b""
    assert (place / "cmdline").read_bytes() == b"ck-launcher\0"
    assert os.readlink(place / "cwd") == "/"
    assert not list((place / "root").glob("etc"))
    assert [os.stat(place / f"fd/{n}").st_rdev for n in range(3)] == [os.makedev(1, 3)] * 3
    fields = (place / "stat").read_text().rpartition(")")[2].split()
    assert fields[3] == fields[2] != str(os.getsid(0))  # a session of its own
    assert fields[4] == "0"  # without a terminal
