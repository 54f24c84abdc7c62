"""What a container writes is in its log, whole, with its times, while it runs and after."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from containerkit.model.log import Log
from containerkit.stdio.logs import last_lines, log_text
from containerkit.stdio.records import HEADER
from tests.integration.logs.kept import Kept, kept

if TYPE_CHECKING:
    from containerkit.engine import Engine
    from containerkit.stdio.entry import LogEntry

NOISE = 'i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo "$i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"; done'


def names(container: Kept) -> list[str]:
    return sorted(path.name for path in container.directory.glob("log*"))


def rss(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


def test_both_streams_with_their_times(engine: Engine, busybox: str) -> None:
    with kept(engine, busybox, "echo one; echo two >&2") as container:
        end = container.wait()
        with container.logs() as logs:
            entries = list(logs)
    assert sorted((e.stream, e.data) for e in entries) == [
        ("stderr", b"two\n"),
        ("stdout", b"one\n"),
    ]
    for entry in entries:
        ns = int(entry.time.timestamp() * 1e6) * 1000
        assert end.started_ns - 1000 <= ns <= end.finished_ns
        assert entry.time.tzinfo is UTC


def test_one_stream_alone(engine: Engine, busybox: str) -> None:
    with kept(engine, busybox, "echo one; echo two >&2") as container:
        container.wait()
        assert [e.data for e in container.logs(stderr=False)] == [b"one\n"]
        assert [e.data for e in container.logs(stdout=False)] == [b"two\n"]


def test_the_log_is_there_when_the_end_is(engine: Engine, busybox: str) -> None:
    """Everything that was in the pipes when it died is in the log once its end is told."""
    with kept(engine, busybox, "head -c 60000 /dev/zero; echo last >&2; exit 37") as container:
        assert container.wait().exit_code == 37
        with container.logs() as logs:
            entries = list(logs)
    assert b"".join(e.data for e in entries if e.stream == "stdout") == bytes(60000)
    assert b"".join(e.data for e in entries if e.stream == "stderr") == b"last\n"


def test_any_bytes_survive(engine: Engine, busybox: str) -> None:
    """Joined, the entries are exactly what was written."""
    script = "head -c 300000 /dev/urandom > /tmp/data; sha256sum < /tmp/data >&2; cat /tmp/data"
    with kept(engine, busybox, script) as container:
        container.wait()
        with container.logs() as logs:
            entries = list(logs)
    import hashlib

    data = b"".join(e.data for e in entries if e.stream == "stdout")
    said = b"".join(e.data for e in entries if e.stream == "stderr")
    assert len(data) == 300000
    assert hashlib.sha256(data).hexdigest().encode() == said.split()[0]


def test_since_and_until(engine: Engine, busybox: str) -> None:
    with kept(engine, busybox, "echo one; read x; echo two", stdin_open=True) as container:
        with container.follow() as logs:
            first = next(logs)
            between = datetime.now(UTC)
            os.write(fd := container.attach(), b"\n")
            os.close(fd)
            second = next(logs)
        container.wait()
        assert first.time < between < second.time
        assert [e.data for e in container.logs(since=between)] == [b"two\n"]
        assert [e.data for e in container.logs(until=between)] == [b"one\n"]
        assert [e.data for e in container.logs(since=first.time, until=first.time)] == [b"one\n"]
        assert len(list(container.logs(since=timedelta(hours=1)))) == 2
        assert not list(container.logs(until=timedelta(hours=1)))
        assert len(list(container.logs(since=between.timestamp() - 3600))) == 2


def test_follow_until_a_time(engine: Engine, busybox: str) -> None:
    with kept(engine, busybox, "echo one; sleep 1000") as container:
        with container.follow() as logs:
            next(logs)
        with container.follow(until=time.time() + 0.2) as logs:
            assert [e.data for e in logs] == [b"one\n"]
        with container.follow(until=timedelta(hours=1)) as logs:
            assert not list(logs)


def test_the_last_lines(engine: Engine, busybox: str) -> None:
    with kept(engine, busybox, f"{NOISE}; printf tail") as container:
        container.wait()
        everything = [e.data for e in container.logs()]
        for count in (0, 1, 2, 10, 999, 3001, 5000):
            wanted = everything[-count:] if count else []
            assert [e.data for e in container.logs(tail=count)] == wanted
        assert log_text(container.directory, tail=2).endswith(
            "3000 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\ntail"
        )
        assert last_lines(container.directory, 1) == ("tail",)
        assert len(log_text(container.directory)) == sum(map(len, everything))


def test_no_log_has_no_lines(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "gone") == ()
    assert last_lines(tmp_path) == ()
    assert log_text(tmp_path) == ""


def test_follow_ends_with_the_container(engine: Engine, busybox: str) -> None:
    with kept(engine, busybox, f"{NOISE}; printf unfinished") as container:
        with container.follow() as logs:
            entries = [e.data for e in logs]
        assert len(entries) == 3001
        assert entries[-1] == b"unfinished"
        with container.follow() as logs:  # also one that has ended before
            assert [e.data for e in logs] == entries


def test_follow_with_tail(engine: Engine, busybox: str) -> None:
    with kept(engine, busybox, "echo a; echo b; read x; echo c", stdin_open=True) as container:
        with container.follow() as logs:
            assert [next(logs).data, next(logs).data] == [b"a\n", b"b\n"]
        with container.follow(tail=1) as logs, container.follow(tail=0) as fresh:
            assert next(logs).data == b"b\n"
            os.write(fd := container.attach(), b"\n")
            os.close(fd)
            assert [e.data for e in logs] == [b"c\n"]
            assert [e.data for e in fresh] == [b"c\n"]


def test_two_followers_see_the_same(engine: Engine, busybox: str) -> None:
    found: list[list[LogEntry]] = [[], []]

    def follow(into: list[LogEntry], container: Kept) -> None:
        with container.follow() as logs:
            into.extend(logs)

    with kept(engine, busybox, NOISE) as container:
        threads = [threading.Thread(target=follow, args=(one, container)) for one in found]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found[0] == found[1]
    assert len(found[0]) == 3000


def test_an_iterator_is_closed_early(engine: Engine, busybox: str) -> None:
    with kept(engine, busybox, "yes") as container:
        logs = container.follow()
        assert next(logs).data == b"y\n"
        logs.close()
        assert next(logs, None) is None
        logs.close()


def _read_elsewhere(directory: Path, pipe: int) -> None:
    os.write(pipe, log_text(directory).encode())


def test_any_process_reads_it(engine: Engine, busybox: str) -> None:
    reader, writer = os.pipe()
    with kept(engine, busybox, "echo hello; sleep 1000") as container:
        with container.follow() as logs:
            next(logs)
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_read_elsewhere, args=(container.directory, writer))
        process.start()
        os.close(writer)
        assert os.read(reader, 100) == b"hello\n"
        os.close(reader)
        process.join()
        process.close()


# ---- size


def test_a_flood_stays_under_the_cap(engine: Engine, busybox: str) -> None:
    """Neither the log nor the launcher grows, and a container that floods holds up no other."""
    log = Log(max_size="256k", max_files=3)
    with kept(engine, busybox, "yes 0123456789abcdef", log=log) as container:
        launcher = engine._runner.launcher()[0]
        with container.follow() as logs:
            next(logs)
        before = rss(launcher.pid)
        seen: set[int] = set()
        deadline = time.monotonic() + 120
        while len(seen) < 8 and time.monotonic() < deadline:
            for entry in os.scandir(container.directory):
                with suppress(FileNotFoundError):  # renamed since
                    status = entry.stat()
                    assert not entry.name.startswith("log") or status.st_size <= log.max_size
                    if entry.name == "log.2":
                        seen.add(status.st_mtime_ns)
            assert engine.run(busybox, ["true"]).exit.ok
        assert len(seen) >= 8
        assert rss(launcher.pid) - before < 1 << 20
        container.kill()
        container.wait()
        assert names(container) == ["log", "log.1", "log.2"]
        with container.logs() as entries:
            assert all(e.data == b"0123456789abcdef\n" for e in list(entries)[:-1])


def test_follow_across_rotations(engine: Engine, busybox: str) -> None:
    """A follower sees every byte that was not rotated away."""
    script = 'i=0; while [ $i -lt 60000 ]; do i=$((i+1)); echo "line $i of many of the same"; done'
    log = Log(max_size="256k", max_files=50)
    with kept(engine, busybox, script, log=log) as container, container.follow() as logs:
        for number, entry in enumerate(logs, 1):
            assert entry.data == b"line %d of many of the same\n" % number
        assert number == 60000
        assert 5 < len(names(container)) < 50


def test_what_was_rotated_away_is_skipped(engine: Engine, busybox: str) -> None:
    """A follower that sleeps misses whole files, not parts of them."""
    with kept(
        engine, busybox, "echo first; read x; seq 1 200000", stdin_open=True,
        log=Log(max_size="128k", max_files=2),
    ) as container, container.follow() as logs:  # fmt: skip
        assert next(logs).data == b"first\n"
        os.write(fd := container.attach(), b"\n")
        os.close(fd)
        container.wait()
        rest = [e.data for e in logs]
        assert rest[-1] == b"200000\n"
        numbers = [int(data) for data in rest if data.strip()]
        gaps = [b - a for a, b in pairwise(numbers) if b - a != 1]
        assert len(gaps) <= 2  # the beginning of one line, what follows
        assert names(container) == ["log", "log.1"]


def test_what_rotation_leaves_is_whole(engine: Engine, busybox: str) -> None:
    log = Log(max_size="128k", max_files=2)
    with engine.containers.create(busybox, "seq 1 50000", log=log) as container:
        container.start()
        container.wait()
        entries = [entry.data for entry in container.logs()]
        first = int(entries[0])
        assert first > 1
        assert entries == [b"%d\n" % number for number in range(first, 50_001)]
        gone = sum(len(b"%d\n" % number) for number in range(1, first))
        assert gone - 10 <= container.inspect().dropped_log_bytes <= 2 * gone


def test_one_file_only(engine: Engine, busybox: str) -> None:
    with kept(engine, busybox, "seq 1 100000", log=Log("128k", 1)) as container:
        container.wait()
        assert names(container) == ["log"]
        assert [e.data for e in container.logs(tail=1)] == [b"100000\n"]
        assert (container.directory / "log").stat().st_size <= 128 << 10


def test_a_log_of_nothing(engine: Engine, busybox: str) -> None:
    """It is drained all the same."""
    with kept(engine, busybox, "seq 1 100000; exit 7", log=False) as container:
        assert container.wait().exit_code == 7
        assert names(container) == []
        assert not list(container.logs())


def test_a_reader_that_sleeps_stalls_nobody(engine: Engine, busybox: str) -> None:
    log = Log("1m", 2)
    with (
        kept(engine, busybox, "seq 1 300000; exit 3", log=log) as container,
        container.follow() as logs,
    ):
        next(logs)  # and no more
        assert container.wait().exit_code == 3


def test_a_torn_record_is_ignored(engine: Engine, busybox: str) -> None:
    with kept(engine, busybox, "echo whole") as container:
        container.wait()
        with (container.directory / "log").open("ab") as file:
            file.write(HEADER.pack(100, 1, 0, 0x4C43, 1) + b"half of it")
        assert [e.data for e in container.logs()] == [b"whole\n"]
        assert [e.data for e in container.logs(tail=5)] == [b"whole\n"]


def test_a_process_that_closes_its_output(engine: Engine, busybox: str) -> None:
    with kept(engine, busybox, "echo before; exec >&- 2>&-; sleep 0.2; exit 5") as container:
        with container.follow() as logs:
            assert [e.data for e in logs] == [b"before\n"]
        assert container.wait().exit_code == 5


# ---- input


def test_cat_and_a_clean_end_of_file(engine: Engine, busybox: str) -> None:
    from containerkit.runtime import packets

    with kept(engine, busybox, ["cat"], stdin_open=True) as container:
        fd = container.attach()
        os.write(fd, b"hello\n")
        with container.follow() as logs:
            assert next(logs).data == b"hello\n"
            os.close(fd)  # the launcher's own end keeps it open
            fd = container.attach()
            os.write(fd, b"again\n")
            assert next(logs).data == b"again\n"
            assert container.ask(packets.CLOSE_INPUT)[0].kind == packets.DONE
            os.write(fd, b"rest\n")
            os.close(fd)
            assert [e.data for e in logs] == [b"rest\n"]
        assert container.wait().exit_code == 0


def test_without_stdin_open_there_is_no_input(engine: Engine, busybox: str) -> None:
    import errno

    from containerkit.runtime import packets

    with kept(engine, busybox, "cat; sleep 1000") as container:
        for kind in (packets.ATTACH, packets.CLOSE_INPUT):
            event, fds = container.ask(kind)
            assert (event.kind, event.errnum, fds) == (packets.FAILED, errno.ENOTCONN, [])


def test_a_flood_keeps_nothing_else_waiting(engine: Engine, busybox: str) -> None:
    """Beside it the launcher makes the next start ready, and clears away what has ended."""
    with ExitStack() as floods:
        for _ in range(2):
            floods.enter_context(kept(engine, busybox, ["yes"], log=Log("1m", 2)))
        launcher = engine._runner.launcher()[0]
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
        for _ in range(3):
            before = set(children.read_text(encoding="ascii").split())
            assert engine.run(busybox, ["true"]).exit.ok
            deadline = time.monotonic() + 120
            while set(children.read_text(encoding="ascii").split()) <= before:
                assert time.monotonic() < deadline, "no child is parked for the next start"


def test_following_a_flood_costs_little_memory(engine: Engine, busybox: str) -> None:
    log = Log(max_size="1m", max_files=3)
    with kept(engine, busybox, ["yes"], log=log) as container, container.follow() as logs:
        next(logs)
        before = rss(os.getpid())
        for _ in range(5):
            assert all(entry.data for entry in islice(logs, 100_000))
            assert rss(os.getpid()) - before < 16 << 20


def test_the_log_of_restarts(engine: Engine, busybox: str) -> None:
    """One log for all of them, and following goes on until it has ended for good."""
    with (
        kept(
            engine,
            busybox,
            "echo again; exit 1",
            lifetime="detached",
            restart="on-failure:2",
            log=Log("128k", 2),
        ) as container,
        container.follow() as logs,
    ):
        assert [entry.data for entry in logs] == [b"again\n"] * 3
        assert names(container) == ["log"]
