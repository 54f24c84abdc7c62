"""Layers that are copied for a container's ids: when, what is seen of it, and what is left of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from containerkit import aio
from containerkit.launch.ops import F_AS_IS, Code
from containerkit.launch.plan import Plan
from containerkit.runtime import lowers
from containerkit.runtime.recover import recover
from containerkit.snapshots import contents
from tests.support import ocibuild
from tests.support.patience import unmount, until
from tests.support.registry import RegistryServer

pytestmark = pytest.mark.needs("host root")  # an ordinary user's layers have the right ids already

AUTO = ck.Security(userns="auto")
COPIED = ck.EngineConfig(copied_layers=True)
FOREVER = ["sleep", "1000"]


@pytest.fixture
def copying(engine_root: Path, busybox: str) -> Iterator[ck.Engine]:
    with ck.Engine.open(engine_root, config=COPIED) as opened:
        opened.images.pull(busybox)
        yield opened


def is_copied(plan: Plan) -> bool:
    (how,) = [op for op in plan.prepare if op.code == Code.ID_MAP]
    return bool(how.flags & F_AS_IS)


def copies_in(root: Path) -> list[str]:
    """The copies for runs: of the engine, not of a container."""
    return sorted(name for name in os.listdir(root / "containers") if "-copy" in name)


def left_in(root: Path) -> list[str]:
    return os.listdir(root / "containers") + os.listdir(root / "owners")


def owners_below(directory: Path) -> set[int]:
    return {
        os.lstat(os.path.join(place, name)).st_uid
        for place, directories, files in os.walk(directory)
        for name in (*directories, *files)
    }


# ---- when


async def run_for_asyncio(root: Path, image: str) -> None:
    async with await aio.Engine.open(root) as engine:
        result = await engine.run(image, "stat -c %u /bin; cat", input=b"i", security=AUTO)
        assert result.stdout == b"0\ni"


def test_a_file_system_without_id_mapped_mounts(tmp_path: Path, busybox: str) -> None:
    """An overlay's, which is what a container's own root often is; found out by trying."""
    root = tmp_path / "merged" / "root"
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = "lowerdir=lower,upperdir=upper,workdir=work"
    subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, "merged"], cwd=tmp_path, check=True
    )
    try:
        with ck.Engine.open(root) as engine:
            assert not is_copied(engine.plan(busybox, "true", security=AUTO))
            for security in (AUTO, ck.Security.strict()):
                result = engine.run(
                    busybox, "stat -c %u /bin; cat", input=b"i", security=security, check=True
                )
                assert result.stdout == b"0\ni"
            plan = engine.plan(busybox, "true", security=AUTO)
            assert is_copied(plan)
            asyncio.run(run_for_asyncio(root, busybox))
            assert "a copy that has its ids: the kernel, or the file system" in plan.explain()
            assert not any("copy" in note for note in engine.plan(busybox, "true").notes)
        assert left_in(root) == []
    finally:
        unmount(tmp_path / "merged")


def test_layers_are_shared_where_they_can_be(engine_root: Path, busybox: str) -> None:
    with ck.Engine.open(engine_root) as engine:
        engine.run(busybox, "true", security=AUTO, check=True)
        assert not is_copied(engine.plan(busybox, "true", security=AUTO))
        with engine.start(busybox, FOREVER, security=AUTO) as box:
            assert not (engine_root / "containers" / box.id / "copy").exists()
        assert copies_in(engine_root) == []


# ---- what is seen of it


def test_file_capabilities_and_whiteouts(engine: ck.Engine, registry: RegistryServer) -> None:
    """As with layers that are shared: the root that a file's capabilities are of is its own."""
    program = shutil.which("busybox")
    assert program is not None
    value = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0).decode("ascii")  # net_bind_service
    cat = ocibuild.Entry(
        data=Path(program).read_bytes(),
        mode=0o755,
        pax={"SCHILY.xattr.security.capability": value},
    )
    files: dict[str, ocibuild.Content] = {"caps/cat": cat, "etc/.wh.group": ""}
    name = registry.push("test/capable:latest", ocibuild.busybox(files))
    script = "grep CapPrm /proc/self/status; /caps/cat /proc/self/status | grep CapPrm"
    security = ck.Security(userns="auto", no_new_privileges=False)
    result = engine.run(name, script, security=security, user=1000, text=True, check=True)
    assert result.stdout.split()[1::2] == ["0" * 16, "0000000000000400"]
    script = "[ ! -e /etc/group ] && stat -c %u:%g /home/app"
    assert engine.run(name, script, security=AUTO, text=True, check=True).stdout == "1000:1000\n"


def test_a_host_image(copying: ck.Engine) -> None:
    """Its skeleton is copied; /usr is what it is, and belongs to nobody."""
    script = "import os; open('/new', 'w'); print(os.stat('/new').st_uid, os.stat('/usr').st_uid)"
    result = copying.run(
        None, [sys.executable, "-c", script], security=AUTO, user=0, text=True, check=True
    )
    assert result.stdout.split() == ["0", "65534"]


def test_its_own_directory_holds_it(copying: ck.Engine, busybox: str) -> None:
    with copying.containers.create(busybox, FOREVER, security=AUTO) as box:
        directory = copying.root / "containers" / box.id
        assert not (directory / "copy").exists()
        box.start()
        first = int(os.readlink(directory / "ids"))
        assert owners_below(directory / "copy" / "0") == {first, first + 1000}
        (directory / "copy" / "the same").touch()
        box.stop(grace=0)
        assert box.files.stat("/bin/busybox").uid == 0
        box.start()
        assert (directory / "copy" / "the same").exists()
        box.stop(grace=0)
        (directory / "copied").unlink()
        (directory / "copied").symlink_to("another boot")
        box.start()
        assert not (directory / "copy" / "the same").exists()
        assert box.exec("ls -n /bin/busybox", text=True).stdout.split()[2] == "0"
    assert not directory.exists()


def test_runs_use_the_one_that_is_there(
    copying: ck.Engine, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lowers, "_IDLE", 1)
    for _ in range(3):
        copying.run(busybox, "true", security=AUTO, check=True)
    assert len(copies_in(copying.root)) == 1
    ids = ck.IdMap([(0, 500000, 2000)])
    copying.run(busybox, "true", security=ck.Security(userns=ids), check=True)
    assert len(copies_in(copying.root)) == 2
    copying.run(busybox, "true", security=AUTO, check=True)
    assert len(copies_in(copying.root)) == 2
    ids = ck.IdMap([(0, 600000, 2000)])
    copying.run(busybox, "true", security=ck.Security(userns=ids), check=True)
    assert len(copies_in(copying.root)) == 2
    assert copying.prune().size > 1 << 20
    assert copies_in(copying.root) == []
    copying.run(busybox, "true", security=AUTO, check=True)


def test_nothing_is_left_when_the_engine_is_closed(copying: ck.Engine, busybox: str) -> None:
    copying.run(busybox, "true", security=AUTO, check=True)
    assert copies_in(copying.root)
    copying.close()
    assert left_in(copying.root) == []


# ---- what goes wrong


def test_a_copy_that_fails(
    copying: ck.Engine, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(contents.Contents, "copy_file", refuse)
        with pytest.raises(ck.HostError, match="layers"):
            copying.run(busybox, "true", security=AUTO)
        with pytest.raises(ck.HostError, match="layers"):
            copying.start(busybox, FOREVER, security=AUTO)
    assert copies_in(copying.root) == []
    assert copying.containers.list() == ()
    copying.run(busybox, "true", security=AUTO, check=True)


KILLED = """
import sys
import containerkit as ck
from containerkit.snapshots import contents

copy_file = contents.Contents.copy_file
left = [1]

def interrupted(self, *arguments):
    if not left[0]:
        print("half", flush=True)
        sys.stdin.read()
    left[0] -= 1
    return copy_file(self, *arguments)

contents.Contents.copy_file = interrupted
with ck.Engine.open(sys.argv[1], config=ck.EngineConfig(copied_layers=True)) as engine:
    getattr(engine, sys.argv[2])(sys.argv[3], "true", security=ck.Security(userns="auto"))
"""


@pytest.mark.parametrize("verb", ["run", "start"])
def test_a_process_killed_half_way(engine_root: Path, busybox: str, verb: str) -> None:
    with ck.Engine.open(engine_root) as engine:
        engine.images.pull(busybox)
    words = [sys.executable, "-c", KILLED, str(engine_root), verb, busybox]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        assert left_in(engine_root)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def gone() -> bool:
        recover(engine_root)
        return not left_in(engine_root)

    assert until(gone)
    with ck.Engine.open(engine_root) as engine:
        assert engine.containers.list() == ()
