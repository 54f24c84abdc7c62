"""Readers of a log's files, on files made here: order, rotation, the end, what is left out."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from containerkit.errors import ConfigError
from containerkit.stdio.lines import Lines, ns_of, time_of
from containerkit.stdio.logfiles import LogFiles
from containerkit.stdio.logs import Logs, log_text, moment_ns
from containerkit.stdio.records import DATA_MAX, Record, encode


class Writer:
    """Writes and rotates as the launcher does; also the `Life` of what it writes."""

    def __init__(self, directory: Path, files: int = 3) -> None:
        self.directory = directory
        self.files = files
        self.time = 1_000_000_000
        self.ended = False
        self.closed = 0
        self.open: set[int] = set()  # streams whose last line has not ended

    def write(self, data: bytes, stream: int = 1) -> None:
        self.time += 1_000_000_000
        with (self.directory / "log").open("ab") as file:
            file.write(encode(Record(self.time, stream, data, stream in self.open)))
        (self.open.discard if data.endswith(b"\n") else self.open.add)(stream)

    def rotate(self) -> None:
        names = ["log", *[f"log.{number}" for number in range(1, self.files)]]
        for new, old in zip(names[:0:-1], names[-2::-1], strict=True):
            if (self.directory / old).exists():
                (self.directory / old).rename(self.directory / new)

    def over(self) -> bool:
        return self.ended

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


def data_of(logs: Logs) -> list[bytes]:
    with logs:
        return [entry.data for entry in logs]


def everything(files: LogFiles, *, grow: bool = True) -> bytes:
    found = b""
    while records := files.read(grow=grow):
        found += b"".join(record.data for record in records)
    return found


# ---- lines


def test_a_line_has_the_time_of_its_beginning() -> None:
    lines = Lines()
    assert not lines.feed([Record(1_000, 1, b"be")])
    assert not lines.feed([Record(2_000, 1, b"gin")])
    first, second = lines.feed([Record(3_000, 1, b"ning\nmore\nre")])
    assert (first.time, first.data) == (time_of(1_000), b"beginning\n")
    assert (second.time, second.data) == (time_of(3_000), b"more\n")
    assert [(e.time, e.data) for e in lines.end()] == [(time_of(3_000), b"re")]
    assert not lines.end()


def test_the_rest_of_a_lost_line_is_left_out() -> None:
    lines = Lines()
    lines.begin()
    assert not lines.feed([Record(1_000, 1, b"no begin", True), Record(1_000, 1, b"ning", True)])
    found = lines.feed([Record(2_000, 2, b"err\n"), Record(3_000, 1, b"\nwhole\n", True)])
    assert [(e.stream, e.data) for e in found] == [("stderr", b"err\n"), ("stdout", b"whole\n")]


def test_a_line_that_never_ended_does_not_hide_the_next_run() -> None:
    lines = Lines()
    lines.begin()
    assert not lines.feed([Record(1_000, 1, b"no beginning", True)])
    assert [e.data for e in lines.feed([Record(2_000, 1, b"anew\n")])] == [b"anew\n"]


def test_after_a_gap_entries_are_whole(writer: Writer) -> None:
    writer.write(b"first\n")
    with Logs(writer.directory, follow=writer) as logs:
        assert next(logs).data == b"first\n"
        writer.write(b"lost ")
        for _ in range(writer.files - 1):
            writer.rotate()
            writer.write(b"filler ")
        writer.rotate()
        writer.write(b"rest\nwhole\n")
        writer.ended = True
        assert [entry.data for entry in logs][-1] == b"whole\n"


def test_streams_do_not_mix() -> None:
    lines = Lines()
    assert not lines.feed([Record(1_000, 1, b"out "), Record(2_000, 2, b"err ")])
    found = lines.feed([Record(3_000, 1, b"put\n"), Record(4_000, 2, b"or")])
    assert [(e.stream, e.data) for e in found] == [("stdout", b"out put\n")]
    assert [(e.stream, e.data) for e in lines.end()] == [("stderr", b"err or")]


def test_what_is_unfinished_ends_in_order_of_time() -> None:
    lines = Lines()
    lines.feed([Record(1_000, 2, b"a"), Record(2_000, 1, b"b")])
    assert [e.data for e in lines.end()] == [b"a", b"b"]


def test_times_are_exact() -> None:
    moment = datetime(2026, 11, 27, 12, 0, 0, 123457, tzinfo=UTC)
    assert time_of(ns_of(moment)) == moment
    naive = moment.astimezone().replace(tzinfo=None)
    assert ns_of(naive) == ns_of(moment)
    assert moment_ns(1.5, "since") == 1_500_000_000
    assert moment_ns(None, "since") is None
    ago = moment_ns(timedelta(seconds=10), "since")
    assert ago is not None
    assert 10 <= datetime.now(UTC).timestamp() - ago / 1e9 < 60


@pytest.mark.parametrize("moment", ["now", True, b"1", object()])
def test_what_is_no_time(moment: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"since .* is no time"):
        Logs(tmp_path, since=moment)  # type: ignore[arg-type]


@pytest.mark.parametrize("tail", [-1, True, "3", 1.5])
def test_what_is_no_number_of_lines(tail: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tail"):
        Logs(tmp_path, tail=tail)  # type: ignore[arg-type]


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Logs(tmp_path / "none")


# ---- files


def test_older_files_come_first(writer: Writer) -> None:
    for number in range(3):
        writer.write(b"%d\n" % number)
        if number < 2:
            writer.rotate()
    assert data_of(Logs(writer.directory)) == [b"0\n", b"1\n", b"2\n"]


def test_more_than_nine_files(writer: Writer) -> None:
    writer.files = 12
    for number in range(12):
        writer.rotate()
        writer.write(b"%d\n" % number)
    assert data_of(Logs(writer.directory)) == [b"%d\n" % number for number in range(12)]


def test_without_following_it_ends_where_the_log_ended(writer: Writer) -> None:
    writer.write(b"a\n")
    with Logs(writer.directory) as logs:
        writer.write(b"b\n")
        assert [entry.data for entry in logs] == [b"a\n"]


def test_a_reader_follows_through_rotations(writer: Writer) -> None:
    writer.write(b"a")
    files = LogFiles(writer.directory)
    assert everything(files) == b"a"
    writer.write(b"b")
    writer.rotate()
    writer.write(b"c")
    writer.rotate()
    assert everything(files) == b"bc"  # while there is no present file
    writer.write(b"d")
    assert everything(files) == b"d"
    files.close()


def test_a_reader_that_is_outrun_goes_on_with_what_is_left(writer: Writer) -> None:
    writer.write(b"a")
    files = LogFiles(writer.directory)
    assert everything(files) == b"a"
    for data in (b"b", b"c", b"d", b"e", b"f"):
        writer.rotate()
        writer.write(data)
    assert everything(files) == b"def"
    files.close()


def test_the_rest_of_a_lost_line_does_not_go_on_with_another(writer: Writer) -> None:
    """A line whose rest was rotated away is not continued by the middle of another one."""
    writer.write(b"whole\nbegun ")
    with Logs(writer.directory, follow=writer) as logs:
        assert next(logs).data == b"whole\n"
        for data in (b"lost\n", b"lost ", b"end\n", b"a\n", b"b\n"):
            writer.rotate()
            writer.write(data)
        writer.ended = True
        assert [entry.data for entry in logs] == [b"begun ", b"a\n", b"b\n"]


def test_a_log_that_begins_later(writer: Writer) -> None:
    files = LogFiles(writer.directory)
    assert everything(files) == b""
    writer.write(b"a")
    writer.rotate()
    writer.write(b"b")
    assert everything(files) == b"ab"
    files.close()


def test_a_torn_end_of_an_older_file(writer: Writer) -> None:
    """As a crash leaves it; what was written after it is in a file of its own."""
    writer.write(b"a\n")
    with (writer.directory / "log").open("ab") as file:
        file.write(encode(Record(1, 1, b"lost\n"))[:-3])
    writer.rotate()
    writer.write(b"b\n")
    assert data_of(Logs(writer.directory)) == [b"a\n", b"b\n"]
    for count in range(3):
        assert data_of(Logs(writer.directory, tail=count)) == [b"a\n", b"b\n"][2 - count :]


def test_what_is_no_record_ends_its_file(writer: Writer) -> None:
    (writer.directory / "log").write_bytes(b"something else that is long enough")
    writer.rotate()
    writer.write(b"b\n")
    assert data_of(Logs(writer.directory)) == [b"b\n"]


def test_other_files_are_not_read(writer: Writer) -> None:
    writer.write(b"a\n")
    for name in ("log.x", "log.", "logs", "lock", "log.1.old"):
        (writer.directory / name).write_bytes(b"x" * 100)
    assert data_of(Logs(writer.directory)) == [b"a\n"]
    (writer.directory / "log.1").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic"):
        Logs(writer.directory)


# ---- the last lines


@pytest.mark.parametrize("count", [0, 1, 2, 5, 100, 4999, 5000, 6000])
def test_the_last_lines_over_several_files(writer: Writer, count: int) -> None:
    lines = [b"line %d of some length\n" % number for number in range(5000)]
    for at in range(0, 5000, 20):
        if at in (2000, 4000):
            writer.rotate()
        writer.write(b"".join(lines[at : at + 20]))
    wanted = lines[-count:] if count else []
    assert data_of(Logs(writer.directory, tail=count)) == wanted


def test_the_last_lines_are_whole(writer: Writer) -> None:
    """A line of one stream may have begun long before the other's last ones."""
    writer.write(b"begun ", stream=2)
    for number in range(3000):
        writer.write(b"%d\n" % number)
    writer.write(b"and ended\n", stream=2)
    assert data_of(Logs(writer.directory, tail=2)) == [b"2999\n", b"begun and ended\n"]


def test_the_last_lines_do_not_read_all(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        writer.write(b"%099d\n" % number * 600)
    read = 0
    pread = os.pread

    def counted(fd: int, size: int, at: int) -> bytes:
        nonlocal read
        data = pread(fd, size, at)
        read += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    assert data_of(Logs(writer.directory, tail=3)) == [b"%099d\n" % 99] * 3
    assert read < 1 << 20 < (writer.directory / "log").stat().st_size


def test_the_last_lines_of_one_stream(writer: Writer) -> None:
    writer.write(b"first\n", stream=2)
    for number in range(5000):
        writer.write(b"%d\n" % number)
    assert data_of(Logs(writer.directory, tail=1, stdout=False)) == [b"first\n"]


def test_a_long_line_in_pieces(writer: Writer) -> None:
    line = bytes(range(1, 10)) * 20000 + b"\n"
    for at in range(0, len(line), DATA_MAX):
        writer.write(line[at : at + DATA_MAX])
    pieces = data_of(Logs(writer.directory))
    assert b"".join(pieces) == line
    assert data_of(Logs(writer.directory, tail=1)) == pieces[-1:]


# ---- times


def test_files_from_before_are_left_out(writer: Writer) -> None:
    writer.files = 5
    for number in range(5):
        writer.rotate()
        writer.write(b"%d\n" % number)
        os.utime(writer.directory / "log", ns=(writer.time, writer.time))
    last = time_of(writer.time)
    assert data_of(Logs(writer.directory, since=last)) == [b"4\n"]
    with LogFiles(writer.directory, since_ns=writer.time) as files:
        assert everything(files, grow=False) == b"3\n4\n"
    assert data_of(Logs(writer.directory, until=last - timedelta(seconds=3))) == [b"0\n", b"1\n"]


def test_text_is_replaced_where_it_is_none(writer: Writer) -> None:
    writer.write(b"caf\xc3")
    writer.write(b"\xa9 \xff\n")
    assert log_text(writer.directory) == "caf\xe9 \ufffd\n"


# ---- following


def test_following_ends_when_it_is_over(writer: Writer) -> None:
    writer.write(b"a\nb")
    writer.ended = True
    logs = Logs(writer.directory, follow=writer)
    assert [entry.data for entry in logs] == [b"a\n", b"b"]
    assert writer.closed
    assert next(logs, None) is None


def test_what_is_written_until_the_end_is_read(writer: Writer) -> None:
    """It may come between the last look at the files and the question whether it is over."""

    class Last(Writer):
        def over(self) -> bool:
            if not self.ended:
                self.write(b"last\n")
                self.ended = True
            return True

    last = Last(writer.directory)
    assert data_of(Logs(writer.directory, follow=last)) == [b"last\n"]


def test_following_waits_for_the_directory(writer: Writer) -> None:
    """Whatever happens there is looked at, however many events it makes."""
    from containerkit.stdio.waiting import Wait

    with Logs(writer.directory, follow=writer) as logs:
        waiting = logs._take()
        wait = next(waiting)
        assert isinstance(wait, Wait)
        assert wait.deadline is None
        for _ in range(100):
            (writer.directory / "lock").write_bytes(b"x")
        assert isinstance(waiting.send([]), Wait)
        writer.write(b"a\n")
        with pytest.raises(StopIteration) as stop:
            waiting.send([])
        assert stop.value.value.data == b"a\n"


def test_without_inotify_it_looks_again(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from containerkit import _native
    from containerkit.errors import HostError

    def refuse(path: object) -> int:
        raise HostError("cannot wait for changes", errno=errno.EMFILE)

    monkeypatch.setattr(_native, "watch_directory", refuse)
    with Logs(writer.directory, follow=writer) as logs:
        waiting = logs._take()
        assert next(waiting).deadline is not None
        writer.write(b"a\n")
        with pytest.raises(StopIteration):
            waiting.send([])
