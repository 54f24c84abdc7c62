"""What the preset "strict" promises for options that a caller leaves out: asked of the kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import containerkit as ck
from containerkit.errors import ConfigError, MissingFeature

pytestmark = pytest.mark.needs("control groups")


@pytest.fixture
def box(engine: ck.Engine, hostile: str) -> Iterator[ck.Container]:
    """One of them that runs; the control is the default beside it, in each test."""
    security = ck.Security.strict()
    try:
        engine.plan(hostile, ["true"], security=security)
    except MissingFeature as error:
        pytest.skip(str(error))
    with engine.start(hostile, ["sleep", "1000"], security=security) as started:
        yield started


def limits(box: ck.Container) -> tuple[int | None, int | None]:
    """Return what its control group holds it to: memory and processes."""
    found = box.stats()
    assert found.memory is not None
    assert found.pids is not None
    return found.memory.limit, found.pids.limit


def test_its_limits(engine: ck.Engine, hostile: str, box: ck.Container) -> None:
    assert limits(box) == (512 << 20, 128)
    script = "ulimit -n; ulimit -Hn; ulimit -Hc"
    assert box.exec(script, text=True).stdout.split() == ["1024", "1024", "0"]
    with engine.start(hostile, ["sleep", "1000"]) as plain:
        assert limits(plain) == (None, 2048)


def test_it_writes_to_scratch_only(box: ck.Container) -> None:
    script = "for d in / /home /etc /usr /var/tmp; do echo x >$d/f; done 2>/dev/null; ls /f /*/f /var/tmp/f"
    assert box.exec(["sh", "-c", script], text=True).stdout == ""
    assert box.exec(["sh", "-c", "cd /tmp && echo x >f && ls"], text=True).stdout == "f\n"


def test_it_is_nobody_and_has_no_network(
    engine: ck.Engine, hostile: str, box: ck.Container
) -> None:
    assert box.exec(["id", "-u"], text=True).stdout == "65534\n"
    assert box.exec(["ls", "/proc/self/root/sys/class"], text=True).returncode != 0
    devices = box.exec(["cut", "-d:", "-sf1", "/proc/net/dev"], text=True).stdout.split()
    assert devices == ["lo"]
    with pytest.raises(ConfigError, match="strict has no network"):
        engine.run(hostile, ["true"], security=ck.Security.strict(), network="host")
