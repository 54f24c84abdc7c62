"""`Container.popen`: talking with a process."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import CommandNotFound, ConfigError, InvalidStatus, Timeout
from tests.support.patience import until

ECHO = "while read line; do echo got $line; done; echo end >&2; exit 7"


def test_a_conversation(box: ck.Container) -> None:
    with box.popen(ECHO, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for word in ("one", "two"):
            process.stdin.write(word + "\n")
            assert next(process.stdout) == f"got {word}\n"
        assert (process.poll(), process.exit, process.returncode) == (None, None, None)
        process.stdin.close()
        assert (process.stdout.read(), process.stderr.read()) == ("", "end\n")
        assert process.wait(timeout=60) == ck.Exit(code=7)
        assert (process.poll(), process.returncode) == (ck.Exit(code=7), 7)
        assert process.argv[-1] == ECHO


def test_its_pid_is_as_this_process_sees_it(box: ck.Container) -> None:
    with box.popen(["sleep", "1000"]) as process:
        cmdline = Path(f"/proc/{process.pid}/cmdline")
        # The kernel closes what is not to be inherited before it has the words in place.
        assert until(cmdline.read_bytes) == b"sleep\x001000\x00"


def test_communicate(box: ck.Container) -> None:
    data = os.urandom(400_000)
    with box.popen("tee /dev/stderr") as process:
        result = process.communicate(data)
    assert (result.stdout, result.stderr, result.exit.ok) == (data, data, True)
    assert result.image_digest == box.image_digest
    with box.popen(["cat"], text=True) as talker:
        assert talker.communicate("grün").stdout == "grün"


def test_communicate_out_of_time_loses_nothing(box: ck.Container) -> None:
    with box.popen("echo first; read line; echo second") as process:
        # Its input is held open by another descriptor, so that it can not end.
        held = os.dup(process.stdin.fileno())
        with pytest.raises(Timeout) as caught:
            process.communicate(timeout=0.3)
        assert caught.value.result is None
        assert process.poll() is None
        os.close(held)
        assert process.communicate(timeout=60).stdout == b"first\nsecond\n"


def test_wait_out_of_time_kills_nothing(box: ck.Container) -> None:
    with box.popen(["cat"]) as process:
        with pytest.raises(Timeout):
            process.wait(timeout=0.05)
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(timeout=60).ok


def test_several_threads_see_its_end(box: ck.Container) -> None:
    found: list[ck.Exit] = []
    with box.popen(["cat"]) as process:
        threads = [
            threading.Thread(target=lambda: found.append(process.wait(timeout=60)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        process.stdin.close()
        for thread in threads:
            thread.join()
    assert found == [ck.Exit(code=0)] * 8


def test_a_reader_that_waits_is_freed_by_kill(box: ck.Container) -> None:
    read: list[bytes] = []
    with box.popen(["cat"]) as process:
        thread = threading.Thread(target=lambda: read.append(process.stdout.read()))
        thread.start()
        process.kill()
        thread.join()
    assert read == [b""]


def test_closing_early_and_again(box: ck.Container) -> None:
    process = box.popen(["yes"])
    assert process.stdout is not None
    assert process.stdout.read1(2) == b"y\n"
    process.close()
    process.close()
    assert process.exit == ck.Exit.by_signal(9)
    assert process.stdout.closed
    process.send_signal("TERM")  # to nobody
    with pytest.raises(ConfigError, match="signal"):
        process.send_signal("NONE")
    with pytest.raises(ValueError, match="closed"):
        process.stdout.read1()


def test_the_wrong_kind_of_input(box: ck.Container) -> None:
    with box.popen(["cat"]) as process, pytest.raises(TypeError, match="bytes"):
        process.stdin.write("text")  # type: ignore[arg-type]


def test_what_can_not_start(box: ck.Container) -> None:
    with pytest.raises(CommandNotFound):
        box.popen(["no-such-thing"])
    box.kill()
    box.wait(timeout=60)
    with pytest.raises(InvalidStatus):
        box.popen(["true"])


def test_a_forked_child_owns_nothing(box: ck.Container) -> None:
    with box.popen(["cat"]) as process:
        assert process.stdin is not None
        pid = os.fork()
        if pid == 0:
            try:
                seen = process.stdin.closed, process.stdout.closed, process.poll()
                process.close()
                os._exit(0 if seen == (True, True, ck.Exit(code=None, cause="lost")) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        process.stdin.write(b"still here\n")
        assert next(process.stdout) == b"still here\n"
        process.stdin.close()  # a copy in the child would keep it open
        assert process.wait(timeout=60).ok


# ---- terminals


def test_a_terminal(box: ck.Container) -> None:
    with box.popen(
        "tty; stty size; read x; stty size; echo $x >&2", tty=True, text=True
    ) as process:
        assert process.stderr is None
        assert process.stdin is not None
        assert process.stdout is not None
        assert next(process.stdout).startswith("/dev/pts/")
        assert next(process.stdout) == "24 80\r\n"
        process.resize(50, 132)
        process.stdin.write("word\n")
        assert process.stdout.read() == "word\r\n50 132\r\nword\r\n"
        assert process.wait(timeout=60).ok


def test_a_terminal_for_one_command(box: ck.Container) -> None:
    result = box.exec("cat; test -t 1 && echo terminal", tty=True, input=b"in\n")
    assert result.stdout.replace(b"\r", b"").splitlines().count(b"in") == 2  # its echo, and cat's
    assert result.stdout.endswith(b"terminal\r\n")
    assert result.stderr == b""


def test_control_c_reaches_it(box: ck.Container) -> None:
    with box.popen("echo up; sleep 1000", tty=True) as process:
        assert next(process.stdout) == b"up\r\n"
        process.stdin.write(b"\x03")
        assert process.wait(timeout=60).signal == 2


def test_terminals_leave_no_mounts(box: ck.Container) -> None:
    def mounts() -> str:
        return box.exec("wc -l < /proc/self/mountinfo", text=True).stdout

    before = mounts()
    for _ in range(3):
        assert box.exec(["tty"], tty=True).exit.ok
    assert mounts() == before


def test_a_window_of_no_terminal(box: ck.Container) -> None:
    with box.popen(["cat"]) as process, pytest.raises(ConfigError, match="no terminal"):
        process.resize(1, 1)
    with box.popen(["cat"], tty=True) as process, pytest.raises(ConfigError, match="no window"):
        process.resize(0, 1)
