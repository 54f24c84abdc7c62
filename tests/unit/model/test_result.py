"""What a result, an end and a failure say to people who know `subprocess`."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from containerkit.errors import ProcessFailed
from containerkit.model.exit import Exit
from containerkit.model.result import Result


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (Exit(), 0),
        (Exit(code=3), 3),
        (Exit.by_signal(9), 137),
        (Exit(code=None, cause="lost"), 255),
    ],
)
def test_an_end_is_equal_to_its_returncode(ended: Exit, code: int) -> None:
    assert ended == code
    assert code == ended
    assert ended != code + 1
    assert hash(ended) == hash(code)
    assert ended == copy.copy(ended) == pickle.loads(pickle.dumps(ended))


def test_ends_with_one_code_and_two_causes_are_two() -> None:
    assert Exit(code=137) != Exit.by_signal(9)
    assert Exit.by_signal(9) != Exit.by_signal(9, cause="oom")
    other: Any = True
    assert Exit(code=1) != other


@pytest.mark.parametrize("ended", [Exit(), Exit(code=1)])
def test_an_end_has_no_truth_value(ended: Exit) -> None:
    with pytest.raises(TypeError, match=r"\.ok"):
        bool(ended)


def test_a_result_shows_command_end_and_output() -> None:
    shown = repr(Result(b"out\n", b"err\n", Exit(code=3), argv=("sh", "-c", "a b")))
    assert (
        shown == "<Result \"sh -c 'a b'\" exited with code 3, stdout=b'out\\n', stderr=b'err\\n'>"
    )


def test_a_result_without_output_shows_none() -> None:
    assert repr(Result("", "", Exit(), argv=("true",))) == "<Result 'true' exited with code 0>"


def test_much_output_is_clipped() -> None:
    shown = repr(Result("a" * 5000, "", Exit(), truncated=True))
    assert len(shown) < 400
    assert "(4800 more)" in shown
    assert shown.endswith(", truncated>")


def test_no_output_is_a_command_to_the_terminal() -> None:
    shown = repr(Result("\x1b]0;title\x07\x9b31m\u202e", "\x1b[2J", Exit(), argv=("x\x1b[2J",)))
    assert shown.isprintable()
    assert "\u202e" not in shown


def test_a_failure_has_what_that_of_subprocess_has() -> None:
    with pytest.raises(ProcessFailed) as raised:
        Result("out", "err", Exit(code=3), argv=("sh", "-c", "x")).check()
    again: ProcessFailed = pickle.loads(pickle.dumps(raised.value))
    for error in (raised.value, again):
        assert error.returncode == 3
        assert (error.stdout, error.output, error.stderr) == ("out", "out", "err")
        assert error.cmd == ("sh", "-c", "x")
