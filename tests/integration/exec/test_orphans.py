"""What execs leave behind: the container's first process waits for nobody, as `sleep` does."""

from __future__ import annotations

import containerkit as ck
from tests.support.patience import until

FORKS = "sleep 1000 & sleep 1000 & :"
BRIEF = "(sleep 0 & sleep 0 &); :"


def zombies(box: ck.Container) -> int:
    return sum(task.state == "Z" for task in box.top())


def test_what_is_left_is_killed_and_waited_for(box: ck.Container) -> None:
    """What the first ones left may stay; once they have, nothing does."""
    box.exec(FORKS)
    left = zombies(box)
    assert left == 2  # the control: nobody waits for them, and top shows them
    for _ in range(20):
        assert box.exec(FORKS).exit.ok
    assert zombies(box) == left


def test_what_has_ended_by_itself_too(box: ck.Container) -> None:
    for _ in range(16):
        box.exec(BRIEF)
    left = zombies(box)
    assert left > 0
    for _ in range(10):
        assert box.exec(BRIEF).exit.ok
    until(lambda: zombies(box) <= left + 2)


def test_a_strict_box_is_not_used_up(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "1000"], limits=ck.Limits(pids=32)) as box:
        for _ in range(60):
            assert box.exec(FORKS).exit.ok


def test_an_exec_ends_as_ever(box: ck.Container) -> None:
    """With an adopter, too, which the second one has."""
    box.exec(FORKS)
    assert box.exec("exit 7").exit.code == 7
    assert box.exec("kill -TERM $$").exit.signal == 15
    assert box.exec("tty", tty=True).stdout == b"/dev/pts/0\r\n"
    with box.popen(["cat"], text=True) as process:
        process.kill()
        assert process.wait(timeout=60).signal == 9
    with box.popen("sleep 1000 & echo $$; wait", text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(15)
        assert process.wait(timeout=60).signal == 15
    until(lambda: [task.pid for task in box.top() if task.state != "Z"] == [1])
