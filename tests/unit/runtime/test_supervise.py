"""A launcher of its own: which plans it can follow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import containerkit as ck
from containerkit.runtime.cgroups import NO_GROUP
from containerkit.runtime.supervise import plan_holds

COMMON = frozenset({"pids", "memory", "cpu"})
FILES = frozenset({"memory.memsw.limit_in_bytes", "blkio.weight"})


def launcher(
    controllers: frozenset[str] = COMMON, files: frozenset[str] = FILES, version: str = "v1"
) -> Any:
    group = NO_GROUP._replace(
        controllers=controllers, names=tuple(sorted(controllers)), files=files
    )
    return SimpleNamespace(group=group, version=version)


@pytest.mark.parametrize(
    ("other", "holds"),
    [
        (launcher(), True),
        (launcher(COMMON | {"cpuset", "blkio"}), True),
        (launcher(files=FILES - {"blkio.weight"}), True),
        (launcher(files=FILES - {"memory.memsw.limit_in_bytes"}), False),
        (launcher(COMMON - {"pids"}), False),
        (launcher(frozenset()), False),
        (launcher(version="v2"), False),
    ],
)
def test_a_plan_holds_where_the_same_can_be_limited(other: Any, holds: bool) -> None:
    assert plan_holds(launcher(), other, {}) is holds
    assert plan_holds(other, launcher(), {}) is holds


@pytest.mark.parametrize(
    "limits", [ck.Limits(cpuset="0"), ck.Limits(io_weight=100), ck.Limits(io=[ck.IoLimit("8:0")])]
)
def test_never_with_a_limit_that_few_have(limits: ck.Limits) -> None:
    assert not plan_holds(launcher(), launcher(), {"limits": limits})
