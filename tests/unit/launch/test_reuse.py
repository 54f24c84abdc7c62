"""Who may have a container's control groups next."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from containerkit.launch.ops import F_SPOILT, F_TUNED, F_UNCOMMON
from containerkit.launch.reuse import PUT_BACK, cgroup_flags

POOL = Path(__file__).parents[3] / "src" / "_native" / "ck_launcher_pool.c"


@pytest.mark.parametrize(
    ("settings", "v1", "v2"),
    [
        ((), 0, 0),
        (("pids", "pids.max", "5"), 0, 0),
        (("memory", "memory.limit_in_bytes", "5"), F_TUNED, F_TUNED),
        (("cpu", "cpu.shares", "5"), F_TUNED | F_SPOILT, F_TUNED | F_SPOILT),
        (
            ("cpuset", "cpuset.cpus", "0"),
            F_UNCOMMON | F_TUNED | F_SPOILT,
            F_TUNED | F_SPOILT,
        ),
        (
            ("pids", "pids.max", "5", "devices+", "devices.allow", "c 1:1 r"),
            F_UNCOMMON | F_TUNED | F_SPOILT,
            F_TUNED | F_SPOILT,
        ),
    ],
)
def test_flags(settings: tuple[str, ...], v1: int, v2: int) -> None:
    assert (cgroup_flags(settings, "v1"), cgroup_flags(settings, "hybrid")) == (v1, v1)
    assert cgroup_flags(settings, "v2") == v2


def test_what_the_launcher_puts_back() -> None:
    table = re.search(r"limits\[\] = (.*?);", POOL.read_text(encoding="utf-8"), re.DOTALL)
    assert table is not None
    text = "".join(re.findall(r'"(.*?)"', table[1]))
    assert set(text.split("\\0")[1::3]) == PUT_BACK
