"""What a check of a root found, as `engine.check()` reports it.

Owns the values and their text.  Must not look: `care.check` does.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import attrs

ProblemKind = Literal[
    "changed blob",
    "missing blob",
    "changed tree",
    "unknown tree",
    "broken image",
    "unknown container",
    "damaged record",
]


class Problem(NamedTuple):
    """Something that is not as the catalog says.

    Attributes:
        kind: what sort of thing.
        what: its digest, ChainID or container id.
        detail: what is wrong with it, in words.
        repaired: whether it is as it should be now.
    """

    kind: ProblemKind
    what: str
    detail: str
    repaired: bool = False

    def __str__(self) -> str:
        done = " (repaired)" if self.repaired else ""
        return f"{self.kind} {self.what}: {self.detail}{done}"


@attrs.frozen
class CheckReport:
    """A whole root, looked at.

    Args:
        problems: what was found, in the order of the parts below.
        blobs: looked at, each hashed.
        trees: looked at, each compared with its blob unpacked again.
        images: looked at.
        containers: looked at.
    """

    problems: tuple[Problem, ...]
    blobs: int = 0
    trees: int = 0
    images: int = 0
    containers: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything is as it should be, perhaps because it was repaired."""
        return all(problem.repaired for problem in self.problems)

    def _repr_html_(self) -> str:
        from containerkit.model import html

        found = html.grid(problem._asdict() for problem in self.problems) if self.problems else ""
        return f"<div><p>{html.word(str(self).partition(chr(10))[0])}</p>{found}</div>"

    def __str__(self) -> str:
        seen = (
            f"{self.blobs} blobs, {self.trees} trees, {self.images} images,"
            f" {self.containers} containers: "
        )
        if not self.problems:
            return f"{seen}no problem"
        return "\n".join([f"{seen}{len(self.problems)} problems", *map(str, self.problems)])
