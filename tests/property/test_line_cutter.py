"""LineCutter against what `splitlines` would say, for any text in any pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from containerkit.stdio.entry import LINE_MAX, LineCutter

PIECES = st.lists(st.binary(max_size=40) | st.sampled_from([b"\n", b"a\nb", b"\n\n", b"\r\n"]))
LARGE = st.integers(0, 3).map(lambda n: b"x" * (n * LINE_MAX // 2))


@given(st.lists(PIECES.map(b"".join) | LARGE, max_size=12))
def test_nothing_is_lost_and_entries_are_lines(chunks: list[bytes]) -> None:
    cutter = LineCutter()
    entries = [piece for chunk in chunks for piece in cutter.feed(chunk)]
    before_end = b"".join(entries)
    entries += cutter.end()
    text = b"".join(chunks)
    assert b"".join(entries) == text
    assert all(0 < len(entry) <= LINE_MAX for entry in entries)
    assert all(b"\n" not in entry[:-1] for entry in entries)
    # Only the last line may wait, and only until it is too long.
    assert text.rfind(b"\n") < len(before_end)
    assert len(text) - len(before_end) <= LINE_MAX
    # An entry without an end is the last one, or a piece of a long line.
    assert all(e.endswith(b"\n") or len(e) == LINE_MAX for e in entries[:-1])
