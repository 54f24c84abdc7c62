"""What is alike in all containers is not the same file system: /dev, what hides paths, control groups.

inotify(7), flock(2) and a remount reach everybody who has a part of one.
"""

from __future__ import annotations

import pytest

import containerkit as ck
from containerkit.model.security import DEFAULT_CAPABILITIES

ADMIN = ck.Security.default(capabilities=[*DEFAULT_CAPABILITIES, "SYS_ADMIN"])
PLACES = ("/dev", "/dev/shm", "/proc/keys", "/sys/firmware")
HOLD = "exec 9</dev/null; flock -n 9 && echo held"


@pytest.mark.needs("device nodes")
def test_no_file_system_is_shared(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    """Whether the child was parked ahead or cloned for its start alone."""
    look = ["stat", "-c", "%d", *PLACES]
    with (
        engine.start(hostile, ["sleep", "1000"], security=security) as one,
        engine.start(hostile, ["sleep", "1000"], security=security) as other,
    ):
        first, second = (
            {int(text) for text in box.exec(look, text=True).stdout.split()} for box in (one, other)
        )
    assert first
    assert first.isdisjoint(second)


@pytest.mark.needs("device nodes")
def test_a_lock_on_a_device(engine: ck.Engine, security: ck.Security) -> None:
    """Its control: within one container it is seen."""
    with (
        engine.start(None, ["sleep", "1000"], security=security) as one,
        engine.start(None, ["sleep", "1000"], security=security) as other,
        one.popen(f"{HOLD}; exec sleep 1000", text=True) as holder,
    ):
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert one.exec(HOLD, text=True).stdout == ""
        assert other.exec(HOLD, text=True).stdout == "held\n"
        holder.kill()


@pytest.mark.needs("host root")
def test_who_may_mount_changes_its_own_only(engine: ck.Engine, hostile: str) -> None:
    script = (
        "mount -o remount,rw /dev && rm /dev/urandom && echo 4 >/dev/urandom && cat /dev/urandom"
    )
    with engine.start(hostile, ["sleep", "1000"]) as beside:
        assert engine.run(hostile, ["sh", "-c", script], security=ADMIN, text=True).stdout == "4\n"
        look = ["stat", "-c", "%F", "/dev/urandom"]
        said = beside.exec(look, text=True).stdout + engine.run(hostile, look, text=True).stdout
    assert said == "character special file\n" * 2
