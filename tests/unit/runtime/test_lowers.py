"""What a failed start says of the kernel, and which layers a copy stands in for."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from containerkit.errors import MissingFeature
from containerkit.launch.compile import compile_plan
from containerkit.launch.ops import F_AS_IS, F_OPTIONAL, Code
from containerkit.launch.plan import Plan
from containerkit.model.idmap import IdMap
from containerkit.model.options import ContainerOptions
from containerkit.model.rootfs import HostBind, Overlay, Rootfs
from containerkit.model.security import Security
from containerkit.runtime import packets
from containerkit.runtime.lowers import Lowers, renamed
from tests.unit.launch.plans import V1, request

AUTO: ContainerOptions = {"security": Security(userns="auto")}
IDS = IdMap.of_range(1 << 30)
HOST = Rootfs(
    (
        Overlay("/", ("host/1/skeleton",)),
        Overlay("/usr", ("/usr",)),
        HostBind("/opt", "/opt"),
        Overlay("/usr/local", ("host/1/masks/0",), writable=False),
    )
)


def plan(*, copied: str | None = None, **changes: Any) -> Plan:
    return compile_plan(request(options=AUTO, ids=IDS, copied=copied, **changes), V1)


def failed(code: Code, errnum: int, kind: int = packets.FAILED) -> packets.Event:
    return packets.Event(kind, 0, 0, int(code), errnum, 0, 0, 0, 0, 0, 0, 0, 0, 0)


@pytest.fixture
def lowers(tmp_path: Path) -> Lowers:
    return Lowers(tmp_path, copied=False)


@pytest.mark.parametrize(
    ("event", "learned"),
    [
        (failed(Code.OVERLAY, errno.EINVAL), True),
        (failed(Code.ID_MAP, errno.EPERM), True),
        (failed(Code.ID_MAP, errno.ENOSYS), True),
        (failed(Code.ID_MAP, errno.ENOSPC), False),
        (failed(Code.SOURCE, errno.EINVAL), False),
        (failed(Code.OVERLAY, errno.EINVAL, packets.EXITED), False),
    ],
)
def test_what_a_failed_start_says(lowers: Lowers, event: packets.Event, learned: bool) -> None:
    assert lowers.wanted(AUTO, IDS) is None
    assert lowers.refused(plan(), event) is learned
    assert lowers.wanted(AUTO, IDS) == (IDS if learned else None)
    assert lowers.wanted({}, None) is None


def test_a_copy_that_fails_as_well_was_not_the_remedy(lowers: Lowers) -> None:
    event = failed(Code.OVERLAY, errno.EINVAL)
    assert lowers.refused(plan(), event)
    assert not lowers.refused(plan(copied=lowers.why), event)
    assert lowers.why is None


def test_one_that_was_asked_for_stays(tmp_path: Path) -> None:
    lowers = Lowers(tmp_path, copied=True)
    assert not lowers.refused(plan(copied=lowers.why), failed(Code.OVERLAY, errno.EINVAL))
    assert lowers.wanted({"security": Security(userns=IDS)}, None) == IDS


def test_a_plan_without_a_namespace_says_nothing(lowers: Lowers) -> None:
    assert not lowers.refused(compile_plan(request(), V1), failed(Code.OVERLAY, errno.EINVAL))


def test_a_plan_with_copies() -> None:
    made = plan(copied="because", rootfs=renamed(HOST, "copies/1"))
    flags = {op.code: op.flags for op in made.prepare if op.code in (Code.ID_MAP, Code.SOURCE)}
    assert flags == {Code.ID_MAP: F_AS_IS, Code.SOURCE: F_AS_IS}
    assert [op.arena[0] for op in made.prepare if op.code == Code.OVERLAY] == [
        ("copies/1/0",),
        ("@3",),
        ("copies/1/3",),
    ]
    assert made.notes[0] == "its layers are a copy that has its ids: because"
    assert "files with the ids they have" in made.explain()
    shared = plan(rootfs=HOST)
    flags = {op.code: op.flags for op in shared.prepare if op.code in (Code.ID_MAP, Code.SOURCE)}
    assert flags == {Code.ID_MAP: 0, Code.SOURCE: F_OPTIONAL}


def test_layers_mixed_with_directories_of_the_host() -> None:
    with pytest.raises(MissingFeature, match="/srv"):
        renamed(Rootfs((Overlay("/", ("layers/a",)), Overlay("/srv", ("layers/b", "/srv")))), "c")
