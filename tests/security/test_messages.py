"""What a container says reaches the reader of an error as text, never his terminal as commands.

Control characters of a log, of standard error, of a health check or of a file's name, in the text of
an exception, are shown escaped, as a traceback prints it; and a line without an end is cut.
"""

from __future__ import annotations

import pytest

import containerkit as ck
from containerkit.errors import ContainerKitError, NotReady, ProcessFailed, Timeout

SAYS = r"printf '\033]0;pwned\007\033[31m\302\233 \342\200\256evil\n'"
EVIL = "\x1b]0;pwned\x07\x1b[31m\x9b \u202eevil"


def text_of(error: BaseException) -> str:
    text = str(error)
    assert all(c.isprintable() or c in "\n\t" for c in text), text
    return text


def test_standard_error(engine: ck.Engine, hostile: str) -> None:
    with pytest.raises(ProcessFailed) as caught:
        engine.run(hostile, ["sh", "-c", f"{SAYS} >&2; exit 1"], check=True, text=True)
    assert "\\x1b]0;pwned\\x07" in text_of(caught.value)
    assert caught.value.result.stderr == f"{EVIL}\n"  # the control: it was said


def test_a_log(engine: ck.Engine, hostile: str) -> None:
    script = f"{SAYS}; head -c 100000 /dev/zero | tr '\\0' x; exit 1"
    with pytest.raises(NotReady) as caught:
        engine.start(hostile, ["sh", "-c", script], ready=ck.Ready(log="never"))
    assert "\\u202eevil" in text_of(caught.value)
    assert EVIL in caught.value.log
    assert len(str(caught.value)) < 10_000 < max(map(len, caught.value.log))


def test_a_health_check(engine: ck.Engine, hostile: str) -> None:
    check = ck.Healthcheck(f"{SAYS}; exit 1", interval=0.05, retries=1)
    with (
        engine.start(hostile, ["sleep", "100000"], healthcheck=check) as box,
        pytest.raises(Timeout) as caught,
    ):
        box.wait_ready(healthy=True, timeout=1)
    text_of(caught.value)


def test_names_of_files(engine: ck.Engine, hostile: str) -> None:
    name = "d\x1b[31m\udcff\n"
    with engine.start(hostile, ["sleep", "100000"]) as box:
        box.files.mkdir(f"/{name}")
        assert name in [one.name for one in box.files.list("/")]
        with pytest.raises(ContainerKitError) as caught:
            box.files.read_bytes(f"/{name}")
        text_of(caught.value).encode()
        with pytest.raises(ContainerKitError) as caught:
            box.exec([f"/{name}"])
        text_of(caught.value).encode()
