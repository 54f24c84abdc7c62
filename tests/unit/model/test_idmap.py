"""Maps of ids: what is one, and that they count back and forth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerkit.errors import ConfigError
from containerkit.model.idmap import NOBODY, IdMap
from containerkit.model.options import ContainerOptions
from containerkit.model.security import Security
from containerkit.runtime import codec

LAST = (1 << 32) - 2

lines = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 1000)), min_size=1, max_size=5
).map(
    # disjoint on both sides, in any order
    lambda found: [
        (inside + 2000 * index, outside + 5000 * (7 - index), count)
        for index, (inside, outside, count) in enumerate(found)
    ]
)


@given(lines, st.integers(0, 12000))
def test_back_and_forth(ranges: list[tuple[int, int, int]], number: int) -> None:
    ids = IdMap(ranges)
    outside = ids.uid_outside(number)
    assert outside is None or ids.uid_inside(outside) == number
    assert (outside is None) == (not any(a <= number < a + n for a, _, n in ranges))
    assert ids.gid_outside(number) == outside


@given(lines)
def test_no_two_are_one(ranges: list[tuple[int, int, int]]) -> None:
    ids = IdMap(ranges)
    seen = [ids.uid_outside(number) for a, _, n in ranges for number in range(a, a + n)]
    assert len(set(seen)) == len(seen)
    assert None not in seen


def test_a_range() -> None:
    ids = IdMap.of_range(1 << 30)
    assert ids.outside(0, 65535) == (1 << 30, (1 << 30) + 65535)
    assert ids.root() == (1 << 30, 1 << 30)
    assert ids.inside(0, (1 << 30) + 7) == (NOBODY, 7)
    with pytest.raises(ConfigError, match="65536:0 is outside"):
        ids.outside(65536, 0)


def test_without_a_root() -> None:
    assert IdMap([(1000, 5, 1), (10, 7, 1)], gids=[(0, 9, 1)]).root() == (7, 9)


@pytest.mark.parametrize(
    "ranges",
    [
        [],
        7,
        [7],
        [(0, 0)],
        [(0, 0, 0)],
        [(0, -1, 1)],
        [(0, 0, "1")],
        [(0, True, 1)],
        [(0, 0, LAST + 2)],
        [(LAST + 1, 0, 1)],
        [(0, 100, 10), (9, 200, 1)],
        [(0, 100, 10), (10, 109, 1)],
        [(number, number, 1) for number in range(341)],
    ],
)
def test_what_is_none(ranges: object) -> None:
    with pytest.raises(ConfigError):
        IdMap(ranges)  # type: ignore[arg-type]


@pytest.mark.parametrize("userns", ["", "private", None, 5])
def test_other_namespaces_are_refused(userns: object) -> None:
    with pytest.raises(ConfigError, match="userns"):
        Security(userns=userns)  # type: ignore[arg-type]


def test_it_is_kept_with_the_options() -> None:
    options: ContainerOptions = {"security": Security(userns=IdMap([(0, 5, 6)], [(1, 2, 3)]))}
    assert codec.load(codec.dump(options)) == options
