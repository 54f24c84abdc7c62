"""Init: it reaps, passes signals on, ends with its command, and holds nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.logs.kept import kept
from tests.integration.logs.test_terminals import until
from tests.support.patience import until as until_true

if TYPE_CHECKING:
    from containerkit.engine import Engine


def test_it_is_not_the_command(engine: Engine, busybox: str) -> None:
    result = engine.run(busybox, ["sh", "-c", "echo $$; cat /proc/1/comm"], init=True)
    assert result.stdout == b"2\nck-init\n"


@pytest.mark.parametrize("code", [0, 7, 255])
def test_its_code_is_the_commands(engine: Engine, busybox: str, code: int) -> None:
    assert engine.run(busybox, f"exit {code}", init=True).exit.code == code


def test_a_command_that_a_signal_ends(engine: Engine, busybox: str) -> None:
    assert engine.run(busybox, "kill -9 $$", init=True).exit.code == 137


def test_a_command_that_is_not_there(engine: Engine, busybox: str) -> None:
    from containerkit.errors import CommandNotFound

    with pytest.raises(CommandNotFound):
        engine.run(busybox, ["no-such-command"], init=True)


def test_orphans_are_reaped(engine: Engine, busybox: str) -> None:
    script = """
        i=0; while [ $i -lt 200 ]; do i=$((i+1)); (sleep 0.01 & ); done
        while pidof sleep > /dev/null; do :; done
        grep -l 'State:.Z' /proc/[0-9]*/status | wc -l
    """
    result = engine.run(busybox, script, init=True)
    assert result.stdout.strip() == b"0", result


def test_signals_are_passed_on(engine: Engine, busybox: str) -> None:
    script = "trap 'echo got TERM; exit 5' TERM; echo ready; while :; do sleep 0.02; done"
    with kept(engine, busybox, script, init=True) as container, container.follow() as logs:
        until(logs, b"ready")
        container.kill(15)
        until(logs, b"got TERM")
        assert container.wait().exit_code == 5


def test_every_other_process_ends_with_it(engine: Engine, busybox: str) -> None:
    assert engine.run(busybox, "sleep 1000 & sleep 1000 & exit 3", init=True).exit.code == 3


def test_it_holds_nothing_and_says_what_it_handles(engine: Engine, busybox: str) -> None:
    """No descriptor; and signals count as handled, so that who stops it waits for the command."""
    with kept(engine, busybox, "echo ready; sleep 1000", init=True) as container:
        with container.follow() as logs:
            until(logs, b"ready")
        proc = Path(f"/proc/{container.pid()}")
        # The command may have come to speak before its init has let go of all.
        until_true(lambda: not list((proc / "fd").iterdir()))
        caught = int((proc / "status").read_text().partition("SigCgt:")[2].split()[0], 16)
        assert caught >> 14 & 1


def test_nothing_of_the_launchers_table_stays_mapped(engine: Engine, busybox: str) -> None:
    """With it, it would be some megabytes."""
    with kept(engine, busybox, "echo ready; sleep 1000", init=True) as container:
        with container.follow() as logs:
            until(logs, b"ready")
        statm = Path(f"/proc/{container.pid()}/statm")
        until_true(lambda: int(statm.read_text().split()[0]) * 4096 < 1 << 20)


def test_with_a_terminal(engine: Engine, busybox: str) -> None:
    """What is typed reaches the command once, and job control works."""
    script = "trap 'echo interrupted' INT; echo ready; while :; do sleep 0.05; done"
    with (
        kept(engine, busybox, script, init=True, tty=True) as container,
        container.follow() as logs,
    ):
        import os

        until(logs, b"ready")
        master = container.attach()
        os.write(master, b"\x03")
        until(logs, b"interrupted")
        os.close(master)
        container.kill(9)
        container.wait()
        assert b"interrupted" not in b"".join(entry.data for entry in logs)
