"""How a process ended."""

from __future__ import annotations

import pickle

import pytest

from containerkit.errors import ProcessFailed
from containerkit.model.exit import Exit
from containerkit.model.result import Result


@pytest.mark.parametrize(
    ("end", "ok", "returncode", "text"),
    [
        (Exit(), True, 0, "exited with code 0"),
        (Exit(code=3), False, 3, "exited with code 3"),
        (Exit.by_signal(9), False, 137, "ended by signal 9"),
        (Exit.by_signal(9, cause="oom"), False, 137, "ended (oom), code 137"),
        (Exit(code=2, cause="pids"), False, 2, "ended (pids), code 2"),
        (Exit(code=0, cause="timeout"), False, 0, "ended (timeout), code 0"),
        (Exit(code=None, cause="lost"), False, 255, "ended (lost), code None"),
    ],
)
def test_ends(end: Exit, ok: bool, returncode: int, text: str) -> None:
    assert (end.ok, end.returncode, str(end)) == (ok, returncode, text)
    assert pickle.loads(pickle.dumps(end)) == end


def test_what_to_do_about_it() -> None:
    """Said where a limit was too low, also by the error that `check` raises."""
    assert "pids=" in str(Exit(code=2, cause="pids").hint)
    assert "memory=" in str(Exit.by_signal(9, cause="oom").hint)
    assert Exit(code=2).hint is None
    with pytest.raises(
        ProcessFailed, match=r"ended \(pids\), code 2; hint: .*Limits\(pids="
    ) as caught:
        Result(b"", b"", Exit(code=2, cause="pids"), argv=("sh",)).check()
    assert caught.value.result.exit.code == 2
