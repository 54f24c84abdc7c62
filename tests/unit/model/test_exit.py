"""How a process ended."""

from __future__ import annotations

import pickle

import pytest

from containerkit.model.exit import Exit


@pytest.mark.parametrize(
    ("end", "ok", "returncode", "text"),
    [
        (Exit(), True, 0, "exited with code 0"),
        (Exit(code=3), False, 3, "exited with code 3"),
        (Exit.by_signal(9), False, 137, "ended by signal 9"),
        (Exit.by_signal(9, cause="oom"), False, 137, "ended (oom), code 137"),
        (Exit(code=0, cause="timeout"), False, 0, "ended (timeout), code 0"),
        (Exit(code=None, cause="lost"), False, 255, "ended (lost), code None"),
    ],
)
def test_ends(end: Exit, ok: bool, returncode: int, text: str) -> None:
    assert (end.ok, end.returncode, str(end)) == (ok, returncode, text)
    assert pickle.loads(pickle.dumps(end)) == end
