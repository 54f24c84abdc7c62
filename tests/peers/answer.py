"""What came of a case, in a form that can be compared whoever ran it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NotRequired, TypedDict

RECORDED = Path(__file__).with_name("recorded.json")

REFUSED = 125
"""The code for a container that is not made: docker-run(1), Exit Status."""


class Answer(TypedDict):
    """The code, and what it wrote, or that no process of the container's ran."""

    code: int
    out: NotRequired[list[str]]
    refused: NotRequired[bool]


def ran(code: int, out: str, *, ordered: bool = True) -> Answer:
    """Return the answer of a container that ran; its lines are sorted if their order means nothing."""
    lines = [line.rstrip() for line in out.replace("\r", "").splitlines()]
    return {"code": code, "out": lines if ordered else sorted(lines)}


def refused(code: int = REFUSED) -> Answer:
    """Return the answer where no process ran: 125, or 127 or 126 for a command that cannot run."""
    return {"code": code, "refused": True}


def read() -> Any:
    """Return the record: "versions", and "cases" by name, each with a "docker" and a "podman"."""
    return json.loads(RECORDED.read_text(encoding="utf-8"))


def write(versions: dict[str, str], cases: dict[str, dict[str, Answer]]) -> None:
    """Replace the record.  A case is a line, so that a change of one is one line of a diff."""

    def rows(items: Iterable[tuple[str, object]]) -> str:
        return ",\n".join(
            f"  {json.dumps(name)}: {json.dumps(value, sort_keys=True, ensure_ascii=False)}"
            for name, value in sorted(items)
        )

    RECORDED.write_text(
        f'{{\n"versions": {{\n{rows(versions.items())}\n}},\n"cases": {{\n{rows(cases.items())}\n}}\n}}\n',
        encoding="utf-8",
    )
