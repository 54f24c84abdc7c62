"""What a notebook shows: all of it is text, whoever wrote it; no colour is ours."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

import containerkit as ck
from containerkit.model import html

HOSTILE = "</pre></td><script>alert(1)</script><img src=x onerror='alert(2)'> & \x1b[31m"
NOW = datetime(2026, 1, 2, tzinfo=UTC)

SHOWN: dict[str, Any] = {
    "result": ck.Result(HOSTILE, HOSTILE, ck.Exit(1), argv=("echo", HOSTILE), truncated=True),
    "bytes": ck.Result(HOSTILE.encode() + b"\xff\x00", b"", ck.Exit(0)),
    "host": ck.HostReport((ck.HostFeature(HOSTILE, False, HOSTILE, HOSTILE, HOSTILE, HOSTILE),)),
    "check": ck.CheckReport((ck.Problem("changed tree", HOSTILE, HOSTILE),), blobs=3),
    "usage": ck.DiskUsage(images=ck.Space(3, 5 << 20)),
    "stats": ck.Stats(
        NOW,
        ck.CpuStats(1.0, 2.0, 3.0),
        0.5,
        ck.MemoryStats(3 << 20, 1 << 20, 64 << 20),
        ck.PidStats(2, 2048),
        ck.IoStats(1, 2),
        ck.NetworkStats(1, 2, 3, 4),
        0,
    ),
}
ALLOWED = {"div", "p", "b", "pre", "table", "caption", "thead", "tr", "th", "td"}


class Parsed(HTMLParser):
    """The tags and the text of a page, as a browser reads it; each tag is closed in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", SHOWN)
def test_nothing_that_is_shown_is_a_tag(name: str) -> None:
    page = SHOWN[name]._repr_html_()
    parsed = Parsed(page)
    assert parsed.tags <= ALLOWED
    assert parsed.attributes <= {"style"}
    assert not re.search(r"color|background|border|font|#[0-9a-f]{3}", page)
    if name not in {"usage", "stats"}:
        assert "<script>alert(1)</script>" in parsed.text


def test_the_control_sees_a_tag() -> None:
    with pytest.raises(AssertionError):
        assert Parsed(f"<p>{HOSTILE}").tags <= ALLOWED


def test_a_result_shows_its_ends_and_outputs() -> None:
    parsed = Parsed(SHOWN["result"]._repr_html_())
    assert "exited with code 1" in parsed.text
    assert "cut off" in parsed.text
    assert "␛[31m" in parsed.text
    assert "�␀" in Parsed(SHOWN["bytes"]._repr_html_()).text


def test_a_long_output_is_cut() -> None:
    shown = ck.Result("x" * 1_000_000, "", ck.Exit(0))._repr_html_()
    assert len(shown) < 2 * html.SHOWN
    assert "(990,000 more characters)" in shown


def test_a_report_without_problems_has_no_table() -> None:
    assert "table" not in Parsed(ck.CheckReport((), blobs=3)._repr_html_()).tags


def test_an_empty_list() -> None:
    assert Parsed(html.Listing[Any]()._repr_html_()).text == "none"


def test_a_time_is_shown_to_the_second() -> None:
    assert "2026-01-02 00:00:00 UTC" in SHOWN["stats"]._repr_html_()
