"""The sets of capabilities of everything that runs in a container, and ways to more of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import MissingFeature
from containerkit.launch.capabilities import ALL_MASK, mask_of
from containerkit.launch.ops import Code, Op
from containerkit.launch.syscalls import ARCHITECTURES
from containerkit.runtime import facts
from tests.security import plans
from tests.security.inside import CHECK, STATUS
from tests.support import ocibuild
from tests.support.registry import RegistryServer

NUMBERS = ARCHITECTURES[os.uname().machine].numbers
# An ordinary user's launcher has all of them, in the user namespace that it is in.
HELD = ALL_MASK if os.geteuid() else facts.capabilities()
SETS = ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")


def sets(text: str) -> dict[str, int]:
    lines = dict(line.split(":\t") for line in text.splitlines())
    return {name: int(lines[name], 16) for name in SETS}


def expected(security: ck.Security, *, root: bool) -> dict[str, int]:
    """What every process has: of root all that the container may have, of others nothing."""
    bounding = mask_of(security.capabilities) & HELD
    held = bounding if root else 0
    return {"CapPrm": held, "CapEff": held, "CapBnd": bounding, "CapInh": 0, "CapAmb": 0}


SECURITIES = {
    "default": ck.Security(),
    "new privileges": ck.Security(no_new_privileges=False),
    "two": ck.Security(capabilities={"KILL", "NET_BIND_SERVICE"}),
    "none": ck.Security(capabilities=()),
    "strict": ck.Security.strict(),
}


@pytest.mark.parametrize("name", SECURITIES)
def test_they_are_exact(engine: ck.Engine, hostile: str, name: str) -> None:
    """Of the first process, execs as the same and as other users, and health checks."""
    security = SECURITIES[name]
    try:
        engine.plan(hostile, ["true"], security=security)
    except MissingFeature as error:
        pytest.skip(str(error))
    for user in ("0", "1000:1000"):
        own = expected(security, root=user == "0")
        with engine.start(
            hostile,
            [
                "sh",
                "-c",
                "cat /proc/self/status >/tmp/new; mv /tmp/new /tmp/first; exec sleep 1000",
            ],
            security=security,
            user=user,
            healthcheck=CHECK,
            mounts=[ck.Mount.tmpfs("/tmp", mode=0o1777)],
        ) as box:
            box.wait_ready(healthy=True)
            assert sets(box.exec(["cat", "/tmp/first"], text=True).stdout) == own
            assert sets(box.exec(["cat", "/tmp/health"], text=True).stdout) == own
            assert sets(box.exec(STATUS, text=True).stdout) == own
            as_root = box.exec(STATUS, text=True, user=0).stdout
            assert sets(as_root) == expected(security, root=True)
            as_other = box.exec(STATUS, text=True, user="77:77").stdout
            assert sets(as_other) == expected(security, root=False)


def test_a_wider_set_would_be_seen(engine: ck.Engine, hostile: str) -> None:
    with plans.replaced(Code.CAPS, Op(Code.CAPS, value=(HELD, HELD))):
        found = sets(engine.run(hostile, STATUS, text=True, user=0).stdout)
    assert found["CapEff"] == found["CapBnd"] == HELD


INHERITED = """
import ctypes, struct, subprocess, sys
import containerkit as ck

libc = ctypes.CDLL(None, use_errno=True)
header = struct.pack("<Ii", 0x20080522, 0)
data = ctypes.create_string_buffer(24)
assert libc.capget(header, data) == 0
words = list(struct.unpack("<6I", data.raw))
words[2], words[5] = words[1], words[4]  # inheritable: all that is permitted
assert libc.capset(header, struct.pack("<6I", *words)) == 0
for capability in range(41):
    if (words[1] | words[4] << 32) >> capability & 1:
        assert libc.prctl(47, 2, capability, 0, 0) == 0  # PR_CAP_AMBIENT_RAISE
status = ["cat", "/proc/self/status"]
print(subprocess.run(status, capture_output=True, text=True, check=True).stdout)
with ck.Engine.open(sys.argv[1]) as engine:
    for user in ("0", "1000"):
        print("----")
        print(engine.run(sys.argv[2], status, text=True, user=user, check=True).stdout)
        with engine.start(sys.argv[2], ["sleep", "1000"], user=user) as box:
            print("----")
            print(box.exec(status, text=True).stdout)
"""


@pytest.mark.needs("host root")
def test_what_the_caller_would_pass_on_stays_with_it(engine: ck.Engine, hostile: str) -> None:
    """Inheritable and ambient sets survive an exec by nature (CVE-2022-24769)."""
    engine.images.pull(hostile)
    command = [sys.executable, "-c", INHERITED, str(engine.root), hostile]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    control, *inside = [sets(text.strip()) for text in found.stdout.split("----\n")]
    assert control["CapInh"]
    assert control["CapAmb"]
    root, other = (expected(ck.Security(), root=is_root) for is_root in (True, False))
    assert inside == [root, root, other, other]


# ---- ways to more


@pytest.fixture(scope="module")
def setuid(registry: RegistryServer, attacks: Path) -> str:
    """An image with a program that becomes root when it is run."""
    become = ocibuild.Entry(data=(attacks / "call").read_bytes(), mode=0o4755)
    plain = ocibuild.program((attacks / "call").read_bytes())
    return registry.push(
        "test/setuid:latest", ocibuild.busybox({"bin/become": become, "bin/call": plain})
    )


def test_setuid_programs_give_nothing(engine: ck.Engine, setuid: str) -> None:
    command = ["become", str(NUMBERS["geteuid"])]

    def euid(security: ck.Security) -> str:
        return engine.run(setuid, command, text=True, user="1000", security=security).stdout

    assert euid(ck.Security()) == "1000\n"
    assert euid(ck.Security(no_new_privileges=False)) == "0\n"
    with engine.start(setuid, ["sleep", "1000"], user="1000") as box:
        assert box.exec(command, text=True).stdout == "1000\n"


def test_a_user_does_not_become_another(engine: ck.Engine, setuid: str) -> None:
    calls = [
        NUMBERS["setuid"],
        0,
        "--",
        NUMBERS["setgid"],
        0,
        "--",
        NUMBERS["setgroups"],
        1,
        "hex:00000000",
    ]

    def said(user: str, security: ck.Security) -> list[str]:
        command = ["call", *map(str, calls)]
        return engine.run(setuid, command, text=True, user=user, security=security).stdout.split()

    assert said("1000", ck.Security()) == ["-1"] * 3
    assert said("1000", ck.Security(no_new_privileges=False)) == ["-1"] * 3
    assert said("0", ck.Security()) == ["0"] * 3


@pytest.mark.needs("ids")
def test_root_without_capabilities_can_do_what_anybody_can(engine: ck.Engine, hostile: str) -> None:
    script = "touch /tmp/f; chown 5:5 /tmp/f; chroot / true; mkdir /home/app/x"

    def refused(security: ck.Security) -> int:
        result = engine.run(hostile, ["sh", "-c", script], text=True, security=security, user=0)
        return len(result.stderr.splitlines())

    assert refused(ck.Security(capabilities=())) == 3
    assert refused(ck.Security()) == 0


def test_securebits_and_dumpable_are_as_ever(engine: ck.Engine, setuid: str) -> None:
    """Nothing is left of keeping capabilities over a change of user (PR_GET_SECUREBITS)."""
    for user in ("0", "1000"):
        command = ["call", str(NUMBERS["prctl"]), "27"]
        assert engine.run(setuid, command, text=True, user=user).stdout == "0\n"
        with engine.start(setuid, ["sleep", "1000"], user=user) as box:
            assert box.exec(command, text=True).stdout == "0\n"
