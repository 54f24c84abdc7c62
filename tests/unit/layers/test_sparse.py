"""Sparse files of every format of GNU tar: what their maps say, and which say nothing."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerkit._native import sparse
from containerkit.errors import ArchiveError
from tests.support.tars import END, Place, entry, header, padded, pax, records, unpack


def read(
    head: bytes, extended: bytes, size: int, stream: bytes = b"", piece: int = 7
) -> sparse.SparseMap:
    """Read a map, whatever of it is in the stream in pieces."""
    reading = sparse.read_map(head, extended, size)
    rest = memoryview(stream)
    try:
        due = next(reading)
        while rest:
            part = min(due, piece)
            taken, rest = rest[:part], rest[part:]
            due = reading.send(taken)
    except StopIteration as end:
        found: sparse.SparseMap = end.value
        assert not rest
        return found
    raise AssertionError("it wants more")


def as_in_c(fields: list[tuple[str, bytes]]) -> bytes:
    """PAX records with their ends and equals signs overwritten, as the applier leaves them."""
    return b"".join(records([field]).replace(b"=", b"\0", 1)[:-1] + b"\0" for field in fields)


def old_header(
    pairs: list[tuple[bytes, bytes]], real: bytes = b"%011o\0" % 1000, more: bytes = b"\0"
) -> bytes:
    body = b"".join(offset + length for offset, length in pairs).ljust(96, b"\0")
    return header(b"s", b"S", magic=b"ustar  \0", tail=bytes(41) + body + more + real)


def octal(*numbers: int) -> list[tuple[bytes, bytes]]:
    fields = [b"%011o\0" % number for number in numbers]
    return list(zip(fields[::2], fields[1::2], strict=True))


GOOD = {
    b"0,5,100,5": [(0, 5), (100, 5)],
    b"0,5,5,5": [(0, 5), (5, 5)],
    b"0,10,1000,0": [(0, 10), (1000, 0)],
    b"0\n,10": None,
    b"0,5,4,5": None,
    b"100,5,0,5": None,
    b"0,5,996,5": None,
    b"0,5": None,
    b"0,10,100": None,
    b"9223372036854775800,10": None,
    b"990,10,1001,0": None,
    b"": None,
    b"-1,10": None,
    b"0x0,10": None,
    b" 0,10": None,
    b"0,,10": None,
    b"1234567890123456789,10": None,
}


@pytest.mark.parametrize("text", GOOD)
def test_the_map_is_all_of_the_data_and_nothing_else(text: bytes) -> None:
    wanted = GOOD[text]
    version_01: list[tuple[str, bytes]] = [("GNU.sparse.size", b"1000"), ("GNU.sparse.map", text)]
    numbers = text.split(b",")
    version_00 = [("GNU.sparse.size", b"1000")]
    for at, number in enumerate(numbers):
        version_00.append(("GNU.sparse.numbytes" if at % 2 else "GNU.sparse.offset", number))
    version_10 = [("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"1000")]
    count = b"%d\n" % (len(numbers) // 2)
    in_data = padded(count + b"".join(number + b"\n" for number in numbers))
    for fields, stream in ((version_01, b""), (version_00, b""), (version_10, in_data)):
        size = 10 + len(stream)
        if wanted is not None:
            found = read(header(b"s"), as_in_c(fields), size, stream)
            assert found == sparse.SparseMap(1000, wanted)
            continue
        if stream and text == b"0,10,100":  # the third number is behind the map there
            continue
        with pytest.raises(sparse.BadMap):
            read(header(b"s"), as_in_c(fields), size, stream)


def test_without_a_size_it_is_no_sparse_file() -> None:
    for fields in ([("GNU.sparse.name", b"x")], [("GNU.sparse.size", b"-1")]):
        assert read(header(b"s"), as_in_c(fields), 7) == sparse.SparseMap(7, [(0, 7)])


@pytest.mark.parametrize(
    "fields",
    [
        {"GNU.sparse.size": b"-2"},
        {"GNU.sparse.size": b"9223372036854775808"},
        {"GNU.sparse.size": b"1.5"},
        {"GNU.sparse.size": b""},
        {"GNU.sparse.size": b"5", "GNU.sparse.major": b"2"},
    ],
)
def test_numbers_that_do_not_fit(fields: dict[str, bytes]) -> None:
    with pytest.raises(sparse.BadMap):
        read(header(b"s"), as_in_c(list(fields.items())), 5)


def test_an_old_map_goes_on_in_blocks_of_its_own() -> None:
    pairs = octal(*(number for at in range(4) for number in (at * 10, 5)))
    more = octal(*(number for at in range(4, 30) for number in (at * 10, 5)))
    blocks = [
        b"".join(a + b for a, b in more[:21]).ljust(504, b"\0") + b"\1".ljust(8, b"\0"),
        b"".join(a + b for a, b in more[21:]).ljust(512, b"\0"),
    ]
    found = read(old_header(pairs, more=b"\1"), b"", 150, b"".join(blocks))
    assert found == sparse.SparseMap(1000, [(at * 10, 5) for at in range(30)])
    binary = [(b"\x80" + bytes(10) + b"\5", b"%011o\0" % 10)]
    assert read(old_header(binary), b"", 10).segments == [(5, 10)]


def test_what_an_old_map_tells_of_is_no_directory(tmp_path: Path) -> None:
    tail = old_header(octal(0, 10))[345:]
    archive = entry(b"s/", b"S", b"0123456789", magic=b"ustar  \0", tail=tail) + END
    assert unpack(archive, tmp_path) == (1, 1000)
    assert (tmp_path / "s").read_bytes() == b"0123456789".ljust(1000, b"\0")


def test_old_maps_that_are_none() -> None:
    ten = b"%011o\0" % 10
    for pairs, real in (
        ([(b"%011o\0" % 0, b"9".ljust(12))], ten),
        ([(b"\xff" * 12, ten)], ten),
        ([(b"%011o\0" % 0, b"\x80\1" + bytes(10))], ten),
        ([(b"%011o\0" % 0, ten)], b"\xff" * 12),
        ([(b"%011o\0" % 0, ten)], b"%011o\0" % 9),
        ([(b"%011o\0" % 0, bytes(12))], ten),
    ):
        with pytest.raises(sparse.BadMap):
            read(old_header(pairs, real), b"", 10)


def test_a_map_has_an_end() -> None:
    fields = [("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"1")]
    endless = b"999999\n" + b"0\n" * (sparse.NUMBERS + 512)
    endless = endless[: len(endless) // 512 * 512]
    with pytest.raises(sparse.BadMap):
        read(header(b"s"), as_in_c(fields), 1 << 40, endless, 512)
    block = old_header(octal(*[0] * 8), more=b"\1")
    on_and_on = (b"".join(a + b for a, b in octal(*[0] * 42)) + b"\1".ljust(8, b"\0")) * 20_000
    with pytest.raises(sparse.BadMap):
        read(block, b"", 0, on_and_on, 512)
    with pytest.raises(sparse.BadMap):
        read(block, b"", 0, bytes(504) + b"\1".ljust(8, b"\0"), 512)
    numbers = ("GNU.sparse.map", b"0," * (sparse.NUMBERS // 2) + b"0")
    with pytest.raises(sparse.BadMap):
        read(header(b"s"), as_in_c([("GNU.sparse.size", b"1"), numbers, numbers]), 0)


def test_the_maps_of_a_layer_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("containerkit._native.applier._MAPS", 400)
    fields = {"GNU.sparse.size": b"100", "GNU.sparse.map": b"0,5,50,5"}
    file = pax(fields) + entry(b"s", data=b"0123456789")
    within, beyond = tmp_path / "within", tmp_path / "beyond"
    within.mkdir()
    beyond.mkdir()
    unpack(file * 4 + END, within)
    with pytest.raises(ArchiveError, match="maps are too long together"):
        unpack(file * 5 + END, beyond)


def test_a_length_of_many_digits(tmp_path: Path) -> None:
    length = b"%05000d" % 5010
    said = length + b" comment=\n" + records([("GNU.sparse.name", b"s")])
    archive = header(b"x", b"x", size=len(said)) + padded(said) + entry(b"t", data=b"x") + END
    assert unpack(archive, tmp_path) == (1, 1)
    assert (tmp_path / "s").read_bytes() == b"x"


FRAGMENTS = st.lists(
    st.sampled_from(
        [b"0", b"1", b"5", b"512", b"18446744073709551615", b",", b"\n", b"\0", b"\xff", b"x"]
    ),
    max_size=12,
).map(b"".join)
KEYS = ["size", "realsize", "major", "map", "offset", "numbytes"]


@given(
    st.lists(st.tuples(st.sampled_from(KEYS), FRAGMENTS), max_size=5),
    st.sampled_from([b"0", b"S"]),
    FRAGMENTS,
    FRAGMENTS,
)
def test_whatever_the_archive_says_the_error_is_typed(
    fields: list[tuple[str, bytes]], kind: bytes, tail: bytes, data: bytes
) -> None:
    extended = pax([(f"GNU.sparse.{key}", value) for key, value in fields])
    archive = extended + entry(b"s", kind, data, tail=bytes(41) + tail) + END
    for chunk in (1 << 20, 100):
        with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="sparse-") as top:
            place = Place(Path(top))
            with contextlib.suppress(ArchiveError):
                _, size = unpack(archive, place.destination, chunk=chunk)
                assert (place.destination / "s").stat().st_size == size
            assert not place.touched


def test_data_arrives_in_pieces_and_holes_stay_holes(tmp_path: Path) -> None:
    fields = {"GNU.sparse.size": b"8000000", "GNU.sparse.map": b"0,5,7000000,700,8000000,0"}
    archive = pax(fields) + entry(b"s", data=b"a" * 5 + b"b" * 700, mode=0o4755) + entry(b"t") + END
    for chunk in (1, 511, 513, 1 << 20):
        place = Place(tmp_path / str(chunk))
        assert unpack(archive, place.destination, chunk=chunk) == (2, 8_000_000)
        file = place.destination / "s"
        assert file.read_bytes() == (b"a" * 5 + bytes(6_999_995) + b"b" * 700 + bytes(999_300))
        assert file.stat().st_mode & 0o7777 == 0o4755
        assert file.stat().st_blocks * 512 < 1_000_000
        assert (place.destination / "t").exists()


def test_an_archive_that_ends_within_one(tmp_path: Path) -> None:
    fields = {"GNU.sparse.size": b"1000", "GNU.sparse.map": b"0,5,100,600"}
    archive = pax(fields) + entry(b"s", data=b"x" * 605)
    for number, cut in enumerate((512, 600, 1023)):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(ArchiveError, match="ends inside this entry") as caught:
            unpack(archive[: len(archive) - 1024 + cut], tmp_path / str(number))
        assert caught.value.entry == "s"
