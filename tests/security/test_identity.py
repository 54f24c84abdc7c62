"""Who a container's processes are: no text, number or file of an image makes root of anybody."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import pytest

import containerkit as ck
from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch.ops import Code, Op
from containerkit.state.userns import WHOLE, read_map
from tests.security import plans
from tests.support import ocibuild
from tests.support.registry import RegistryServer

pytestmark = pytest.mark.needs("ids")

STATUS = ("cat", "/proc/self/status")

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
app:x:1000:1000:app:/home/app:/bin/sh
toor:x:0:0::/root:/bin/sh
1234:x:0:0::/root:/bin/sh
4294967296:x:0:0::/root:/bin/sh
wraps:x:4294967296:4294967296::/:/bin/sh
negative:x:-1:-1::/:/bin/sh
empty:x:::/:/bin/sh
octal:x:0x0:0::/:/bin/sh
short:x:0
ends:x:5:5::/:/bin/sh\u2028evil:x:0:0::/:/bin/sh
"""
GROUP = """\
root:x:0:
app:x:1000:
1234:x:0:app
extra:x:1001:app
wraps:x:4294967296:app
"""


@pytest.fixture(scope="module")
def strange(registry: RegistryServer) -> str:
    """An image whose passwd and group files try everything."""
    files: dict[str, ocibuild.Content] = {"etc/passwd": PASSWD, "etc/group": GROUP}
    return registry.push("test/strange:latest", ocibuild.busybox(files))


def who(text: str) -> tuple[set[str], set[str], list[str]]:
    """Return uids, gids and groups: real, effective, saved and of the file system."""
    lines = dict(line.split(":\t") for line in text.splitlines())
    return set(lines["Uid"].split()), set(lines["Gid"].split()), lines["Groups"].split()


USERS: tuple[tuple[str | int, int, int, list[int]], ...] = (
    ("1234", 1234, 0, [0]),
    ("1234:1234", 1234, 1234, [1234]),
    ("app", 1000, 1000, [0, 1000, 1001]),
    ("app:1234", 1000, 1234, [1234]),
    ("app:root", 1000, 0, [0]),
    (1000, 1000, 1000, [0, 1000, 1001]),
    ("toor", 0, 0, [0]),  # the control: names are looked up
)


LAST: tuple[str | int, int, int, list[int]] = (
    "2147483647:2147483647",
    2147483647,
    2147483647,
    [2147483647],
)


def test_users_and_exact_groups(engine: ck.Engine, strange: str) -> None:
    """The same by a start and by an exec; the primary group is in the list (CVE-2022-2989)."""
    has_all = read_map("/proc/self/uid_map") == WHOLE and os.geteuid() == 0
    for user, uid, gid, groups in (*USERS, *([LAST] if has_all else [])):
        expected = {str(uid)}, {str(gid)}, list(map(str, groups))
        assert who(engine.run(strange, STATUS, text=True, user=user).stdout) == expected, user
        with engine.start(strange, ["sleep", "1000"], user=user) as box:
            assert who(box.exec(STATUS, text=True).stdout) == expected, user
            assert who(box.exec(STATUS, text=True, user=user).stdout) == expected, user
            assert who(box.exec(STATUS, text=True, user="7:8").stdout) == ({"7"}, {"8"}, ["8"])


NOBODYS = [
    "4294967296", "4294967295", "2147483648", "18446744073709551616", "-1", "+0", "01", "00", "0x0",
    "1e3", "1000:", ":0", ":", "0:-1", "app:4294967296", "wraps", "app:wraps", "negative", "empty",
    "octal", "short", "evil", "\u0660", " 0", "0 ", "root\n", "roo\0t", "ROOT", "",
]  # fmt: skip


def test_strange_users_are_errors(engine: ck.Engine, strange: str) -> None:
    """Each was root in some engine (CVE-2016-3697, CVE-2024-40635), or nearly."""
    with engine.start(strange, ["sleep", "1000"], user="app") as box:
        for user in NOBODYS:
            with pytest.raises(ConfigError):
                engine.run(strange, ["true"], user=user)
            with pytest.raises(ConfigError):
                box.exec(["true"], user=user)


def test_strange_users_of_an_image_are_errors(engine: ck.Engine, registry: RegistryServer) -> None:
    files: dict[str, ocibuild.Content] = {"etc/passwd": PASSWD, "etc/group": GROUP}
    for user in ("4294967296", "-1", "evil", "0x0", "1234:x:0"):
        image = registry.push("test/user:strange", ocibuild.busybox(files, config={"User": user}))
        with pytest.raises(ConfigError):
            engine.run(image, ["true"], pull="always")


def test_an_images_own_user(engine: ck.Engine, registry: RegistryServer) -> None:
    """The control of the one before; and nobody is who says nothing, in strict."""
    image = registry.push("test/user:plain", ocibuild.busybox(config={"User": "app"}))
    found = who(engine.run(image, STATUS, text=True).stdout)
    assert found == ({"1000"}, {"1000"}, ["1000", "1001"])
    root = registry.push("test/user:root", ocibuild.busybox(config={"User": "0"}))
    try:
        engine.plan(root, STATUS, security=ck.Security.strict())
    except MissingFeature as error:
        pytest.skip(str(error))
    result = engine.run(root, STATUS, text=True, security=ck.Security.strict())
    assert who(result.stdout) == ({"65534"}, {"65534"}, ["65534"])


GROUPS = """
import os, sys
import containerkit as ck

os.setgroups([0, 4, 27, 4242])
print(*os.getgroups())
with ck.Engine.open(sys.argv[1]) as engine:
    for user in ("0", "app", "5:6"):
        status = ["grep", "Groups", "/proc/self/status"]
        print(engine.run(sys.argv[2], status, text=True, user=user, check=True).stdout, end="")
        with engine.start(sys.argv[2], ["sleep", "1000"], user=user) as box:
            print(box.exec(status, text=True).stdout, end="")
"""


@pytest.mark.needs("host root")
def test_the_callers_groups_stay_with_it(engine: ck.Engine, hostile: str) -> None:
    engine.images.pull(hostile)
    command = [sys.executable, "-c", GROUPS, str(engine.root), hostile]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    control, *inside = found.stdout.splitlines()
    assert "4242" in control.split()
    expected = [["0"], ["0"], ["1000", "1001"], ["1000", "1001"], ["6"], ["6"]]
    assert [line.split()[1:] for line in inside] == expected


def test_other_groups_would_be_seen(engine: ck.Engine, hostile: str) -> None:
    with plans.replaced(
        Code.GROUPS, Op(Code.GROUPS, arena=(struct.pack("<2I", 0, 4242), None, None))
    ):
        found = who(engine.run(hostile, STATUS, text=True, user=0).stdout)
    assert found[2] == ["0", "4242"]
