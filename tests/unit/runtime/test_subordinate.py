"""An ordinary user's ranges: what a container has inside, and where it lies in the grant."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from containerkit.launch.identity import Identity
from containerkit.model.idmap import NOBODY, IdMap
from containerkit.runtime import subordinate
from containerkit.runtime.subordinate import LEAST, NOBODY_ALONE, free_in, ids_from, pool_of

PASSWD = b"root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:\nnonroot:x:65532:65532::/:\nx:x:99999:7::/:\n"
GROUP = b"root:x:0:\nextra:x:5000:\nnobody:x:65534:\n"


def who(uid: int, gid: int, *groups: int) -> Identity:
    return Identity(uid, gid, (gid, *groups), "/")


def shape(identity: Identity, *, alone: bool = False) -> subordinate.Shape:
    return subordinate.shape_of(identity, PASSWD, GROUP, alone=alone)


def test_what_an_image_names_and_whom_it_starts_as() -> None:
    assert shape(who(0, 0)) == ((0, LEAST), (5000, 1), (65532, 1), (NOBODY, 1))
    assert shape(who(70000, 1024, 1025)) == (
        (0, LEAST),
        (1024, 2),
        (5000, 1),
        (65532, 1),
        (NOBODY, 1),
        (70000, 1),
    )
    assert subordinate.size_of(shape(who(0, 0))) == LEAST + 3
    assert subordinate.shape_of(who(5, 5), None, None, alone=True) == ((0, LEAST), (NOBODY, 1))


def test_who_is_nobody_and_no_other_needs_one_id() -> None:
    assert shape(who(NOBODY, NOBODY), alone=True) == NOBODY_ALONE
    assert shape(who(NOBODY, 7), alone=True)[0] == (0, LEAST)
    assert shape(who(NOBODY, NOBODY))[0] == (0, LEAST)


def test_an_image_that_names_many() -> None:
    passwd = b"".join(b"u:x:%d:0::/:\n" % number for number in range(2000, 6000, 2))
    found = subordinate.shape_of(
        who(60001, 60003, *range(50000, 52000, 2)), passwd, None, alone=True
    )
    assert len(found) <= 340
    inside = ids_from(1, found)
    assert inside.uid_outside(60001) is not None
    assert inside.gid_outside(60003) is not None


def test_a_range_is_as_its_shape() -> None:
    ids = ids_from(30000, shape(who(0, 0)))
    assert ids.outside(0, 0) == (30000, 30000)
    assert ids.outside(65532, 5000) == (31025, 31024)
    assert ids.uid_outside(NOBODY) == 31026
    assert ids.uid_outside(2000) is None
    assert subordinate.span_of(ids) == (30000, LEAST + 3)
    assert subordinate.shape_in(ids) == shape(who(0, 0))


def test_where_ranges_lie() -> None:
    """Away from the numbers that images use, as far as there are others."""
    assert pool_of(65536) == (10_000, 65_000)
    assert pool_of(1 << 20) == (65537, (1 << 20) + 1)
    assert pool_of(2000) == (1000, 2001)
    assert pool_of(1) == (1, 2)


def test_free_ones() -> None:
    pool = (100, 200)
    assert free_in(pool, [], 10) == 190
    assert free_in(pool, [], 1) == 100
    assert free_in(pool, [(190, 10)], 10) == 180
    assert free_in(pool, [(100, 1), (102, 98)], 1) == 101
    assert free_in(pool, [(100, 95)], 10) is None
    assert free_in(pool, [(0, 150), (250, 10)], 50) == 150
    assert free_in(pool, [], 101) is None


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)).map(
        lambda ends: (min(ends), max(ends) + 1)
    ),
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 40)), max_size=12),
    st.integers(1, 60),
)
def test_what_is_free_is_nobody_elses(
    pool: tuple[int, int], taken: list[tuple[int, int]], count: int
) -> None:
    found = free_in(pool, taken, count)
    used = {one for first, size in taken for one in range(first, first + size)}
    rows = [set(range(start, start + count)) for start in range(pool[0], pool[1] - count + 1)]
    if found is None:
        assert all(row & used for row in rows)
    else:
        assert set(range(found, found + count)) in rows
        assert not set(range(found, found + count)) & used


def test_whose_files_are_whose_on_the_host() -> None:
    within = IdMap([(0, 500, 1), (1, 100_000, 65536)])
    own = subordinate.of_files(ids_from(30000, shape(who(0, 0))), within)
    assert own.outside(0, 7) == (129_999, 130_006)
    assert own.inside(500, 100_000) == (NOBODY, NOBODY)
    assert own.inside(131_024, 131_025) == (65532, NOBODY)


def test_of_one_that_has_its_images_layers_as_they_are() -> None:
    within = IdMap([(0, 500, 1), (1, 100_000, 65536)])
    own = subordinate.of_files(ids_from(30000, NOBODY_ALONE), within)
    assert own.outside(0, 1000) == (500, 100_999)
    assert own.outside(NOBODY, NOBODY) == (129_999, 129_999)
    assert own.inside(129_999, 100_004) == (NOBODY, 5)
    assert own.inside(100_000 + NOBODY - 1, 165_535) == (NOBODY, 65536)
