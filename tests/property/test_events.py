"""Lines of events survive any neighbour, and any bytes survive being read as events."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from containerkit.state import events

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(
    st.text(min_size=1).filter(lambda name: name not in {"t", "kind", "id"}),
    JSON | st.just({"t": 1, "kind": "x", "id": "y"}),
    max_size=4,
)
STAMP = st.integers(0, 1 << 62)


@given(STAMP, st.text(), st.text(), FIELDS)
def test_a_line_is_one_line_and_reads_back(
    ns: int, kind: str, identity: str, fields: dict[str, object]
) -> None:
    line = events.encode(ns, kind, identity, fields)
    assert line.count(b"\n") == 1
    told = {name: value for name, value in fields.items() if value is not None}
    assert events.decode(line[:-1]) == (ns, kind, identity, told)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_event_or_none(line: bytes) -> None:
    events.decode(line)


@given(st.text(), st.data())
def test_what_is_torn_takes_no_other_with_it(identity: str, data: st.DataObject) -> None:
    line = events.encode(1, "die", identity, {})
    torn = line[: data.draw(st.integers(0, len(line) - 1))]
    record = events.decode(torn + line[:-1])
    assert record is not None
    assert record.id == identity


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(1, 60)))
def test_pieces_of_any_size_give_the_same_events(junk: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(
        part.replace(b"\n", b"") + b"\n" + events.encode(n, "k", str(n), {})
        for n, part in enumerate(junk)
    )
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / events.NAME
        path.touch()
        fd = events.open_file(Path(name))
        lines = events.Lines(fd)
        seen = []
        for cut in [*cuts, len(whole)]:
            with path.open("ab") as file:
                file.write(whole[:cut])
            whole = whole[cut:]
            seen += [record.id for record in lines.read()]
        os.close(fd)
    assert seen == [str(number) for number in range(len(junk))]
