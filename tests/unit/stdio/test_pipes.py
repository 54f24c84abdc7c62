"""Streams of a process: bytes and text come out as they went in, however they are cut."""

from __future__ import annotations

import os
import pty
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerkit.model.coding import UTF8
from containerkit.stdio.pipes import Reader, Writer


def filled(data: bytes, *, text: bool) -> Reader[bytes] | Reader[str]:
    """A reader of a pipe that holds so much and has ended."""
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return Reader[str](read, UTF8) if text else Reader[bytes](read, None)


@pytest.fixture
def pipe() -> Iterator[tuple[Reader[bytes], Writer[bytes]]]:
    read, write = os.pipe()
    with Reader[bytes](read, None) as reader, Writer[bytes](write, None) as writer:
        yield reader, writer


SMALL = st.binary(max_size=300)


@given(SMALL)
def test_lines_joined_are_what_was_written(data: bytes) -> None:
    with filled(data, text=False) as reader:
        lines = [bytes(line) for line in reader]  # type: ignore[arg-type]
    assert b"".join(lines) == data
    assert all(line.find(b"\n") == len(line) - 1 for line in lines[:-1])


@given(SMALL, st.lists(st.integers(1, 50), max_size=20))
def test_text_is_the_same_however_it_is_read(data: bytes, sizes: list[int]) -> None:
    """Characters cut in two by a read come whole, and what is no UTF-8 is replaced once."""
    with filled(data, text=True) as reader:
        said = ""
        for number, size in enumerate(sizes):
            said += [reader.read, reader.read1, lambda _size: reader.readline()][number % 3](size)  # type: ignore[operator]
        said += reader.read()  # type: ignore[operator]
    assert said == data.decode("utf-8", "replace")


@given(st.text(max_size=100), st.integers(0, 120))
def test_a_size_of_text_is_counted_in_characters(text: str, size: int) -> None:
    text = text.encode("utf-8", "replace").decode()
    with filled(text.encode(), text=True) as reader:
        assert reader.read(size) == text[:size]
        assert reader.read() == text[size:]


def test_read1_gives_what_is_there(pipe: tuple[Reader[bytes], Writer[bytes]]) -> None:
    reader, writer = pipe
    assert writer.write(b"some") == 4
    assert (reader.read1(2), reader.read1()) == (b"so", b"me")
    writer.close()
    assert (reader.read1(), reader.ended, reader.readline(), reader.read()) == (b"", True, b"", b"")


def test_half_a_character_is_waited_for() -> None:
    read, write = os.pipe()
    with Reader[str](read, UTF8) as reader:
        os.write(write, b"\xc3")
        thread = threading.Thread(target=lambda: os.write(write, b"\xa9"))
        thread.start()
        assert reader.read1() == "é"
        thread.join()
        os.close(write)


def test_a_closed_stream(pipe: tuple[Reader[bytes], Writer[bytes]]) -> None:
    reader, writer = pipe
    writer.write(b"left over")
    assert reader.read1(1) == b"l"
    for stream in pipe:
        stream.close()
        stream.close()
        assert stream.closed
    for call in (reader.read, reader.read1, reader.readline, reader.fileno, writer.fileno):
        with pytest.raises(ValueError, match="closed"):
            call()
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"x")


def test_nobody_reads(pipe: tuple[Reader[bytes], Writer[bytes]]) -> None:
    reader, writer = pipe
    reader.close()
    with pytest.raises(BrokenPipeError):
        writer.write(b"x")


def test_kinds_are_not_mixed(pipe: tuple[Reader[bytes], Writer[bytes]]) -> None:
    _reader, writer = pipe
    with pytest.raises(TypeError, match="bytes is expected, not str"):
        writer.write("x")  # type: ignore[arg-type]
    with Writer[str](os.dup(writer.fileno()), UTF8) as texts:
        assert texts.write("é") == 1
        with pytest.raises(TypeError, match="str is expected"):
            texts.write(b"x")  # type: ignore[arg-type]
        texts.flush()


def test_a_terminal_ends_as_a_file_does() -> None:
    master, slave = pty.openpty()
    os.write(slave, b"last words\n")
    os.close(slave)
    with Reader[bytes](master, None) as reader:
        assert reader.read() == b"last words\r\n"


def test_a_dropped_stream_closes_its_descriptor() -> None:
    read, write = os.pipe()
    reader = Reader[bytes](read, None)
    del reader
    with pytest.raises(BrokenPipeError):
        os.write(write, b"x")
    os.close(write)


def test_what_was_read_ahead_can_be_taken(pipe: tuple[Reader[bytes], Writer[bytes]]) -> None:
    reader, writer = pipe
    writer.write(b"one\ntwo\n")
    assert reader.readline() == b"one\n"
    assert (reader._drain(), reader._drain()) == (b"two\n", b"")


def test_several_lines_at_once(pipe: tuple[Reader[bytes], Writer[bytes]]) -> None:
    reader, writer = pipe
    writer.writelines([b"one\n", b"two\n", b"three"])
    writer.close()
    assert (reader.readable(), writer.writable()) == (True, True)
    assert reader.readlines() == [b"one\n", b"two\n", b"three"]


MIXED = st.lists(st.sampled_from(["iterate", "readline", "read", "read1", "drain"]), max_size=30)


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r", "é".encode(), "字".encode()[:2]])), MIXED)
def test_whatever_reads_what_the_others_left(pieces: list[bytes], ways: list[str]) -> None:
    """Lines that an iteration has set apart are there for every other way to read."""
    data = b"".join(pieces)
    with filled(data, text=False) as reader:
        said = b""
        for way in ways:
            if way == "iterate":
                said += bytes(next(iter(reader), b""))  # type: ignore[arg-type]
            elif way == "drain":
                said += reader._drain()
            else:
                said += bytes(getattr(reader, way)(*([] if way == "readline" else [2])))
        assert said + bytes(reader.read()) == data  # type: ignore[arg-type]


def test_lines_are_cut_at_newlines_only() -> None:
    data = "é\rb\n\x85c\u2028d\n\n字".encode() + b"\xff\n\xe5\n\xe5"
    with filled(data, text=True) as reader:
        text = data.decode("utf-8", "replace")
        assert list(reader) == text.replace("\n", "\n\0").split("\0")


def test_a_character_cut_by_a_read_is_whole_in_the_next_line() -> None:
    with filled("ab字c\nd\n".encode(), text=True) as reader:
        assert reader.read1(3) == "ab"
        assert list(reader) == ["字c\n", "d\n"]


def test_iterating_lines_costs_no_call_for_each(pipe: tuple[Reader[bytes], Writer[bytes]]) -> None:
    """5 million lines took 28 times as long as with `subprocess`: a line is taken by the interpreter."""
    reader, writer = pipe
    writer.write(b"x\n" * 10_000)
    writer.close()
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    lines = iter(reader)
    next(lines)
    sys.setprofile(count)
    try:
        n = sum(1 for _ in lines)
    finally:
        sys.setprofile(None)
    assert n == 9_999
    assert calls < 2.5 * n  # the generators, here and there


def test_closing_ends_an_iteration(pipe: tuple[Reader[bytes], Writer[bytes]]) -> None:
    reader, writer = pipe
    writer.write(b"1\n2\n3\n")
    lines = iter(reader)
    assert next(lines) == b"1\n"
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        next(lines)
