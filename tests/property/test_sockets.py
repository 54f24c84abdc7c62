"""Tables of sockets: what is in them is found, and nothing else makes them fail."""

from __future__ import annotations

import contextlib
import struct

from hypothesis import given
from hypothesis import strategies as st

from containerkit.runtime.listening import listeners, status_of
from containerkit.runtime.sockets import answers
from containerkit.runtime.stats import parse_net_dev

ADDRESS = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
ROW = st.tuples(
    ADDRESS, st.integers(0, 65535), st.sampled_from(["01", "0A", "07"]), st.integers(0, 1 << 40)
)


@given(st.lists(ROW), st.integers(0, 65535), st.sampled_from(["0A", "07"]))
def test_every_listener_of_a_port_and_no_other(
    rows: list[tuple[bytes, int, str, int]], port: int, state: str
) -> None:
    table = "header\n" + "".join(
        f"{number:4}: {address.hex().upper()}:{own:04X} 00000000:0000 {st_} 0:0 00:0 0 0 0 {inode} 1\n"
        for number, (address, own, st_, inode) in enumerate(rows)
    )
    expected = {inode for _, own, st_, inode in rows if own == port and st_ == state}
    assert listeners(table, port, state) == expected


@given(st.text(), st.integers(0, 65535))
def test_any_text_is_a_table(text: str, port: int) -> None:
    listeners(text, port, "0A")


@given(st.lists(st.integers(0, 1 << 60), min_size=16, max_size=16), st.sampled_from(["lo", "eth0"]))
def test_an_interface(numbers: list[int], name: str) -> None:
    found = parse_net_dev(f"a\nb\n{name:>6}: {' '.join(map(str, numbers))}\n")
    if name == "lo":
        assert found is None
    else:
        assert found == (numbers[0], numbers[8], numbers[1], numbers[9])


@given(st.lists(st.integers(0, (1 << 32) - 1)), st.booleans())
def test_inodes_that_the_kernel_tells(inodes: list[int], last: bool) -> None:
    data = b"".join(
        struct.pack("=IHHII", 88, 20, 2, 1, 0) + bytes(68) + struct.pack("=I", inode)
        for inode in inodes
    )
    if last:
        data += struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)
    assert list(answers(data)) == inodes + ([None] if last else [])


@given(st.binary())
def test_any_packet_is_an_answer_or_an_error(data: bytes) -> None:
    with contextlib.suppress(OSError):
        assert len(list(answers(data))) <= len(data) // 16


@given(st.binary())
def test_any_answer_has_a_status_or_none(answer: bytes) -> None:
    status = status_of(answer)
    assert isinstance(status, str) or 0 <= status <= 999
