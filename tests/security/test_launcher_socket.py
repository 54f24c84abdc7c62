"""The launcher's socket: for its own user and for root, and for whatever is sent there, nothing breaks."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import random
import socket
import struct
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import ContainerKitError
from containerkit.launch.ops import Code, Op
from containerkit.launch.plan import Plan
from containerkit.runtime import home, packets
from tests.integration.exec.look import launcher_of
from tests.security import plans

STRANGER = 65534


def request(kind: int, identity: str, *values: int) -> bytes:
    """A request about a container (ck_wire.h, struct ck_request)."""
    given = (*values, 0, 0, 0, 0)[:4]
    head = struct.pack("<IHHII", packets.MAGIC, packets.VERSION, kind, 80, 0)
    return head + identity.encode() + struct.pack("<4I", *given)


def knock(path: Path, data: bytes, *, user: int) -> int:
    """Connect as a user, send, and say how many bytes came back: an errno where nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sender:
        os.seteuid(user)
        try:
            sender.connect(os.fspath(path))
        except OSError as error:
            return -(error.errno or 0)
        finally:
            os.seteuid(0)
        try:
            sender.send(data)
            return len(sender.recv(4096))
        except OSError as error:
            return -(error.errno or 0)


@pytest.mark.needs("host root")
def test_another_user(engine: ck.Engine, hostile: str) -> None:
    """Its directory is closed to others; and were it open, the kernel says who connects."""
    with engine.start(hostile, ["sleep", "100000"]) as box:
        run = home.run_directory(engine.root)
        path = run / f"{launcher_of(engine).id}.sock"
        assert path.stat().st_mode & 0o777 == 0o600
        assert run.stat().st_mode & 0o777 == 0o700
        assert engine.root.stat().st_mode & 0o777 == 0o700
        kill = request(packets.SIGNAL, box.id, 9)
        assert knock(path, kill, user=STRANGER) == -errno.EACCES
        opened = (run.parent, run, path)
        before = [one.stat().st_mode & 0o7777 for one in opened]
        try:
            for one, mode in zip(opened, (0o711, 0o711, 0o666), strict=True):
                one.chmod(mode)
            refused = {0, -errno.EPIPE, -errno.ECONNRESET}
            assert knock(path, kill, user=STRANGER) in refused
            assert box.status == "running"
            # the control: root is answered, and its signal arrives
            assert knock(path, kill, user=0) > 0
            assert box.wait(timeout=120).signal == 9
        finally:
            for one, mode in zip(opened, before, strict=True):
                one.chmod(mode)


OTHER = (60, 61, 62)


def hostile_packets(identity: str) -> list[bytes]:
    """What no engine sends: of every kind, cut, too long, with numbers that lie, and noise."""
    noise = random.Random(4711)
    found = [b"x", b"\0" * 16, b"\xff" * 96]
    for kind in (*range(12), *range(16, 26), 64, 65, 0xFFFF):
        whole = request(kind, identity, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
        found += [whole, whole[:50], whole + noise.randbytes(64), whole + noise.randbytes(60000)]
        found.append(request(kind, identity, 1, 1) + struct.pack("<I", 0x7FFFFFFF))
        found.append(request(kind, "../" * 21 + "x"))
    magic = struct.pack("<IHHII", packets.MAGIC, packets.VERSION + 1, packets.SIGNAL, 80, 0)
    found.append(magic + identity.encode() + bytes(16))
    found += [noise.randbytes(noise.randrange(1, 300)) for _ in range(100)]
    return found


def test_packets_that_nobody_sends(engine: ck.Engine, hostile: str) -> None:
    """With descriptors of all sorts beside them; what runs goes on, and nothing stays open."""
    with (
        engine.start(hostile, ["sleep", "100000"]) as box,
        engine.start(hostile, ["sleep", "100000"]) as other,
    ):
        launcher = launcher_of(engine)
        box.exec(["true"])
        with open("/dev/null", "rb") as null, open("/etc/passwd", "rb") as place:
            fds = array.array("i", [null.fileno(), place.fileno()] * 4)
            for number, data in enumerate(hostile_packets(box.id)):
                with home.connect(engine.root, launcher.id) as sender:
                    rights = (
                        [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if number % 3 == 0 else []
                    )
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        sender.sendmsg([data], rights)
        assert launcher.alive
        assert other.exec(["echo", "well"], text=True).stdout == "well\n"
        assert other.status == "running"


@pytest.mark.parametrize(
    "code",
    [
        Code.LOCK,
        pytest.param(Code.CGROUP, marks=pytest.mark.needs("control groups")),
        Code.UPPER_DIR,
        Code.STATE,
        Code.LOG,
    ],
)
def test_a_plan_that_does_a_thing_twice(engine: ck.Engine, hostile: str, code: Code) -> None:
    """What the first one holds would be lost: descriptors, a lock, a group."""
    count = 0

    def twice(plan: Plan) -> Plan:
        nonlocal count
        found = [op for op in plan.prepare if op.code == code]
        count += len(found)
        again = [
            Op(
                code,
                flags=o.flags,
                fd=OTHER if o.fd[0] >= 0 else o.fd,
                arena=o.arena,
                value=o.value,
            )
            for o in found
        ]
        return plans.rebuilt(plan, prepare=[*plan.prepare, *again])

    with plans.changed(twice), pytest.raises(ContainerKitError):
        engine.start(hostile, ["sleep", "100000"]).remove(force=True)
    assert count == 1 or code == Code.CGROUP
