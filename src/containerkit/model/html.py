"""How values show themselves in a notebook: small tables and texts of HTML.

Whatever is shown may come from a container or an image, so that all of it is escaped here; there is
no other way in.  Colours, fonts and borders are the notebook's own: nothing here names one, and a dark
theme stays dark.

Owns that HTML, and the tuples of handles that are shown as one table.  Must not: read anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Protocol, TypeVar

SHOWN = 10_000
"""Characters of a text; what is longer is cut, and the rest is counted."""

_LEFT = 'style="text-align: left"'
_TEXT = 'style="text-align: left; white-space: pre-wrap; max-height: 24em; overflow: auto"'
_PICTURES = {code: 0x2400 + code for code in range(32) if code not in b"\t\n"} | {127: 0x2421}
"""Control characters, which a browser shows as nothing, become their pictures: ESC is "␛"."""


class HasRow(Protocol):
    """What a list shows as one row of its table."""

    def _row_of_table(self) -> Mapping[str, object]:
        """Return what its columns are called, and what it has there."""


T_co = TypeVar("T_co", bound=HasRow, covariant=True)


class Listing(tuple[T_co, ...]):
    """A tuple of handles that a notebook shows as a table."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return grid([one._row_of_table() for one in self]) if self else "<p>none</p>"


def word(value: object) -> str:
    """Return a value as text for a cell; None is a dash."""
    from html import escape  # its tables of entities are for who shows something

    if isinstance(value, datetime):
        value = f"{value:%Y-%m-%d %H:%M:%S %Z}"
    said = "–" if value is None else f"{value:,}" if type(value) is int else str(value)
    return escape(_cut(said).translate(_PICTURES))


def text(content: str | bytes) -> str:
    """Return an output: as it stands, in a box that scrolls."""
    said = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    return f"<pre {_TEXT}>{word(said)}</pre>"


def facts(rows: Iterable[tuple[str, object]], *, title: str = "") -> str:
    """Return a table of names and values."""
    lines = [f"<tr><th {_LEFT}>{word(n)}</th><td {_LEFT}>{word(v)}</td></tr>" for n, v in rows]
    return _table(title, "".join(lines))


def grid(rows: Iterable[Mapping[str, object]], *, title: str = "") -> str:
    """Return a table with a row for each mapping; all have the keys of the first."""
    lines: list[str] = []
    for row in rows:
        if not lines:
            head = "".join(f"<th {_LEFT}>{word(name)}</th>" for name in row)
            lines.append(f"<thead><tr>{head}</tr></thead>")
        lines.append(
            f"<tr>{''.join(f'<td {_LEFT}>{word(cell)}</td>' for cell in row.values())}</tr>"
        )
    return _table(title, "".join(lines))


def _table(title: str, lines: str) -> str:
    caption = f"<caption {_LEFT}><b>{word(title)}</b></caption>" if title else ""
    return f"<table>{caption}{lines}</table>"


def _cut(said: str) -> str:
    left = len(said) - SHOWN
    return said if left <= 0 else f"{said[:SHOWN]}… ({left:,} more characters)"
