"""What the kernel writes is read whatever it holds: a reading never fails for a strange line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from containerkit.runtime import stats, top

KEY = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
COUNT = st.integers(0, 1 << 64)


@given(st.dictionaries(KEY, COUNT))
def test_flat_files_read_back(values: dict[str, int]) -> None:
    text = "".join(f"{key} {value}\n" for key, value in values.items())
    assert stats.parse_flat(text) == values


@given(st.text())
def test_any_text_is_a_flat_file(text: str) -> None:
    assert all(value >= 0 for value in stats.parse_flat(text).values())


DEVICE = st.from_regex(r"[0-9]{1,3}:[0-9]{1,3}", fullmatch=True)


@given(st.lists(st.tuples(DEVICE, COUNT, COUNT, COUNT, COUNT)))
def test_devices_are_added_up_in_both_versions(
    rows: list[tuple[str, int, int, int, int]],
) -> None:
    unified = "".join(f"{d} rbytes={r} wbytes={w} rios={i} wios={o}\n" for d, r, w, i, o in rows)
    sizes = "".join(f"{d} Read {r}\n{d} Write {w}\n{d} Sync 9\n" for d, r, w, _, _ in rows)
    counts = "".join(f"{d} Read {i}\n{d} Write {o}\n{d} Total 9\n" for d, _, _, i, o in rows)
    columns = [[r, w, i, o] for _, r, w, i, o in rows] or [[0, 0, 0, 0]]
    expected = tuple(sum(column) for column in zip(*columns, strict=True))
    assert stats.parse_io(unified) == expected
    assert stats.parse_blkio(sizes, counts + "Total 5\n") == expected


@given(st.text(), st.text())
def test_any_text_says_something_of_devices(one: str, other: str) -> None:
    stats.parse_io(one)
    stats.parse_blkio(one, other)


@given(st.binary())
def test_any_passwd_file_gives_names(text: bytes) -> None:
    assert "" not in top.parse_passwd(text).values()


@given(st.binary(min_size=1).filter(lambda name: b"\n" not in name), st.integers(1, 1 << 22))
def test_a_process_may_call_itself_anything(name: bytes, pid: int) -> None:
    status = b"Name:\tx\nNSpid:\t%d\t7\nUid:\t1\t2\t3\t4\n" % pid
    fields = b"%d (%s) R 1 1 1 0 -1 0 0 0 0 0 5 6 0 0 20 0 1 0 7 8 9 0" % (pid, name)
    task = top.parse_task(status, fields, b"", depth=2, names={})
    assert (task.host_pid, task.pid, task.state) == (pid, 7, "R")
