"""LineCutter: entries are whole lines, long ones in pieces, and nothing is lost."""

from __future__ import annotations

import pytest

from containerkit.stdio.entry import LINE_MAX, LineCutter


def cut(*chunks: bytes) -> list[bytes]:
    cutter = LineCutter()
    return [piece for chunk in chunks for piece in cutter.feed(chunk)] + cutter.end()


@pytest.mark.parametrize(
    ("chunks", "entries"),
    [
        ((), []),
        ((b"a\nb\n",), [b"a\n", b"b\n"]),
        ((b"a", b"b", b"\n", b"c"), [b"ab\n", b"c"]),
        ((b"\n\n",), [b"\n", b"\n"]),
        ((b"a\r\nb",), [b"a\r\n", b"b"]),
        ((b"x" * LINE_MAX, b"\n"), [b"x" * LINE_MAX, b"\n"]),
        ((b"x" * (LINE_MAX + 1) + b"\ny",), [b"x" * LINE_MAX, b"x\n", b"y"]),
    ],
)
def test_entries(chunks: tuple[bytes, ...], entries: list[bytes]) -> None:
    assert cut(*chunks) == entries


def test_a_line_without_end_is_not_held_back_beyond_the_limit() -> None:
    cutter = LineCutter()
    given = [piece for _ in range(3) for piece in cutter.feed(b"z" * LINE_MAX)]
    assert given == [b"z" * LINE_MAX] * 2
    assert cutter.end() == [b"z" * LINE_MAX]


def test_single_bytes_join_to_lines() -> None:
    text = b"one\ntwo\n\nthree"
    assert cut(*(text[i : i + 1] for i in range(len(text)))) == [
        b"one\n",
        b"two\n",
        b"\n",
        b"three",
    ]
