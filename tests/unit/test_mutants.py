"""Each row of the table of mutants fits the tree: `make mutants` runs them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.mutants.table import MUTANTS, Mutant

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.file}: {m.breaks}")
def test_each_row_fits_the_tree(mutant: Mutant) -> None:
    text = (PROJECT / mutant.file).read_text(encoding="utf-8")
    assert mutant.apply(text) != text
    assert mutant.tests
    for test in mutant.tests:
        path, _, name = test.partition("::")
        names = re.findall(
            r"^(?:async )?def (test_\w+)", (PROJECT / path).read_text(), re.MULTILINE
        )
        assert not name or name.partition("[")[0] in names, test


def test_a_row_that_does_not_fit_is_refused() -> None:
    mutant = Mutant("x", "one", "two", "nothing", ("y",))
    assert mutant.apply("one") == "two"
    for text in ("nothing", "one one"):
        with pytest.raises(ValueError, match="times"):
            mutant.apply(text)


def test_no_row_is_there_twice() -> None:
    assert len({(m.file, m.old, m.new) for m in MUTANTS}) == len(MUTANTS)
    assert len({(m.file, m.breaks) for m in MUTANTS}) == len(MUTANTS)
