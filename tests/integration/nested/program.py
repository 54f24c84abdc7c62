"""What runs inside a container of somebody else's: this library, and what it must do there.

Each scenario is a function; the first argument names it, the second is a directory to work in, the third
the name of an image in a registry ("" where none can be used).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import containerkit as ck
from containerkit.errors import CommandNotFound, MissingFeature, Timeout

E = TypeVar("E", bound=BaseException)


def running(word: str) -> list[int]:
    """Return the processes that have a word of their own on their command line."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{entry}/cmdline", "rb") as file:
            if word.encode() in file.read().split(b"\0"):
                found.append(int(entry))
    return found


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that nothing tells."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def opened(place: str) -> Iterator[ck.Engine]:
    """Open an engine, which says what is missing."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with ck.Engine.open(f"{place}/root") as engine:
            engine.run(None, ["true"], check=True)
            engine.run(None, ["true"], check=True)
            found = [one for one in said if one.category is ck.DegradedWarning]
            assert len(found) == 1
            assert found[0].filename == __file__
            assert "no namespaces" in str(found[0].message)
            warnings.simplefilter("error")
            yield engine


def caught(kind: type[E], call: Callable[[], object]) -> E:
    """Return what a call raises."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def refused(call: Callable[[], object], what: str) -> None:
    """Check that something which can not be held is not promised."""
    assert what in str(caught(MissingFeature, call))


# ---- scenarios ---------------------------------------------------------------------------------


def run(place: str, _image: str) -> None:
    """A run: its streams, code, rights, and the end of all that it started."""
    with opened(place) as engine:
        script = (
            "cat; echo to stderr >&2; grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; exit 3"
        )
        result = engine.run(None, ["sh", "-c", script], input="in\n", text=True)
        assert result.returncode == 3
        assert result.stdout == "in\nNoNewPrivs:\t1\nSeccomp:\t2\n"
        assert result.stderr == "to stderr\n"
        script = "(setsid sleep 4321 &); setsid sh -c 'sleep 4321 & sleep 4321' & echo done"
        assert engine.run(None, ["sh", "-c", script], text=True).stdout == "done\n"
        assert running("4321") == []
        command = ["sh", "-c", "setsid sleep 4322 & sleep 4322"]
        late = caught(Timeout, lambda: engine.run(None, command, timeout=0.3))
        assert late.result is not None
        assert late.result.exit.cause == "timeout"
        assert running("4322") == []
        assert engine.run(None, ["tty"], text=True, tty=True).stdout.startswith("/dev/pts/")
        caught(CommandNotFound, lambda: engine.run(None, ["no-such-command"]))


def network(place: str, _image: str) -> None:
    """No network is no network, by whichever way it is asked for."""
    script = (
        "import socket\n"
        "socket.socketpair()\n"
        "for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET):\n"
        "    try:\n"
        "        socket.socket(family)\n"
        "    except OSError as error:\n"
        "        print(error.errno)\n"
    )
    with opened(place) as engine:
        command = [sys.executable, "-c", script]
        assert engine.run(None, command, text=True).stdout.split() == ["97"] * 4
        with_network = engine.run(None, command, text=True, network="host").stdout
        assert "97" not in with_network.split()[:2]
        loose = ck.Security(seccomp="unconfined")
        assert engine.run(None, command, text=True, security=loose).stdout.split() == ["97"] * 4


def kept(place: str, _image: str) -> None:
    """A container that stays: execs, logs, signals, restarts, files, and its end."""
    script = "trap 'echo stopped; exit 7' TERM; echo up; setsid sleep 4323 & while :; do sleep 0.05; done"
    with opened(place) as engine:
        with engine.start(None, ["sh", "-c", script], name="one") as box:
            box.wait_ready(log="up")
            result = box.exec(
                ["sh", "-c", "cat; setsid sleep 4324 & exit 5"], input="in", text=True
            )
            assert (result.returncode, result.stdout) == (5, "in")
            assert running("4324") == []
            assert running("4323")
            with box.popen(["sh", "-c", "echo ready; sleep 4325"]) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
            assert running("4325") == []
            box.files.write_bytes(f"{place}/file", b"content")
            assert box.exec(["cat", f"{place}/file"], text=True).stdout == "content"
            assert engine.containers.get("one").status == "running"
            refused(box.pause, "freezes")
            refused(box.diff, "kept apart")
            refused(box.stats, "told apart")
            refused(box.top, "told apart")
            box.stop()
            assert box.wait().code == 7
            assert box.log_text() == "up\nstopped\n"
            assert running("4323") == []
            box.start()
            box.kill()
            assert box.wait().signal == 9
            assert running("4323") == []
        assert not engine.containers.list(all=True)


def promises(place: str, _image: str) -> None:
    """What can not be held is refused when it is asked for."""
    with opened(place) as engine:
        for options, what in (
            ({"hostname": "name"}, "host name"),
            ({"mounts": [ck.Mount.tmpfs("/mnt")]}, "mounts"),
            ({"secrets": {"name": b"secret"}}, "secrets"),
            ({"limits": ck.Limits(memory="64m")}, "memory"),
            ({"security": ck.Security.strict()}, "strict"),
            ({"security": ck.Security(read_only=True)}, "read-only"),
            ({"security": ck.Security(userns="auto")}, "user namespace"),
            ({"security": ck.Security(capabilities=["SYS_ADMIN"])}, "SYS_ADMIN"),
        ):
            refused(lambda given=options: engine.run(None, ["true"], **given), what)  # type: ignore[misc]
        limited = engine.run(
            None, ["sh", "-c", "ulimit -n"], text=True, limits=ck.Limits(ulimits={"nofile": 77})
        )
        assert limited.stdout == "77\n"
        row = engine.probe()["nested"]
        assert not row.present
        assert "seccomp=unconfined" in row.knob
        with warnings.catch_warnings(), ck.Engine.open(f"{place}/root") as other:
            warnings.simplefilter("error", ck.DegradedWarning)
            for _ in range(2):
                caught(ck.DegradedWarning, lambda: other.run(None, ["true"]))


def deaths(place: str, _image: str) -> None:
    """Whoever is killed, nothing of a container goes on; what it leaves is cleared away."""
    child = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "import containerkit as ck\n"
        f"with ck.Engine.open({place + '/root'!r}) as engine:\n"
        "    box = engine.start(None, ['sh', '-c', 'setsid sleep 4326 & sleep 4326'])\n"
        "    owned = box._keeper.runner.launcher()[0].pid\n"
        "    print(owned, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    for victim in ("owner", "launcher"):
        with subprocess.Popen(
            [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            launcher = int(process.stdout.readline())
            until(lambda: len(running("4326")) == 2)
            if victim == "owner":
                process.kill()
            else:
                os.kill(launcher, 9)
            until(lambda: running("4326") == [])
            process.kill()
        until(lambda: nothing_left(place))


def nothing_left(place: str) -> bool:
    """Return whether an engine that is opened finds everything of others cleared away."""
    with ck.Engine.open(f"{place}/root") as engine:
        return not engine.containers.list(all=True) and not os.listdir(f"{place}/root/owners")


def detached(place: str, _image: str) -> None:
    """A detached one outlives its engine, is found again, and restarts."""
    with opened(place) as engine:
        script = "echo $$ >>runs; sleep 0.2; exit 1"
        box = engine.start(
            None,
            ["sh", "-c", script],
            workdir=place,
            lifetime="detached",
            restart="on-failure:1",
            healthcheck=ck.Healthcheck("true", interval=0.05),
            name="stays",
        )
        identity = box.id
    with ck.Engine.open(f"{place}/root") as engine:
        again = engine.containers.get("stays")
        assert again.id == identity
        assert again.wait().code == 1
        with open(f"{place}/runs", encoding="ascii") as file:
            assert len(file.readlines()) == 2
        again.remove()


def has_more_than_one_id() -> bool:
    """Whether the user namespace around has, or is the host's."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return sum(int(line.split()[2]) for line in file) > 1


def image(place: str, reference: str) -> None:
    """An image of a registry: its files are copied, and are the root."""
    with opened(place) as engine:
        script = "ls /; id -u; echo mine >/file; cat /file /etc/hostname; cd /; ls -d .."
        result = engine.run(reference, ["sh", "-c", script], text=True)
        assert result.returncode == 0, result.stderr
        assert "bin" in result.stdout.split()
        assert "work" not in result.stdout.split()
        assert os.listdir(f"{place}/root/containers") == []
        with engine.start(reference, ["sleep", "4327"], workdir="/made/here") as box:
            assert box.exec(["sh", "-c", "pwd; echo x >/new"], text=True).stdout == "/made/here\n"
            if has_more_than_one_id():
                assert box.exec(["id", "-u"], user="nobody", text=True).stdout != "0\n"
            assert box.files.read_text("/new") == "x\n"
            box.files.write_text("/put", "y\n")
            assert box.exec(["cat", "/put"], text=True).stdout == "y\n"
            box.kill()
            box.wait()
            assert box.files.read_text("/new") == "x\n"
        assert running("4327") == []
        assert os.listdir(f"{place}/root/containers") == []
        created = engine.containers.create(reference, ["cat", "/before"])
        created.files.write_text("/before", "start\n")
        created.start()
        created.wait()
        assert created.log_text() == "start\n"
        created.remove()


def covered(place: str, image: str) -> None:
    """Namespaces without a /proc of their own are of no use, which is said, and who decides."""
    run(place, image)
    with opened(place) as engine:
        row = engine.probe()["nested"]
        assert not row.present
        assert "covered" in row.found
        assert "systempaths=unconfined" in row.knob
        refused(lambda: engine.run(None, ["true"], security=ck.Security.strict()), "strict")


def apart(place: str, reference: str) -> None:
    """With all that is needed, there is no difference to any other user."""
    with warnings.catch_warnings(), ck.Engine.open(f"{place}/root") as engine:
        warnings.simplefilter("error")
        assert engine.probe()["nested"].present
        for image in (None, reference):
            script = "echo $$; cat /proc/1/comm; ls -d /sys/class/net/lo; echo >/file; hostname"
            with engine.start(image, ["sleep", "4328"], hostname="apart") as box:
                said = box.exec(["sh", "-c", "kill -9 1; cat /proc/1/cmdline"], text=True).stdout
                assert said == "sleep\x004328\0"
            said = engine.run(image, ["sh", "-c", script], text=True, hostname="apart").stdout
            assert said == "1\nsh\n/sys/class/net/lo\napart\n", said
            assert os.path.exists("/file") is False


def no_image(place: str, reference: str) -> None:
    """Without chroot an image can not be started, and that is said."""
    with opened(place) as engine:
        refused(lambda: engine.run(reference, ["true"]), "chroot")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
