"""What a container writes is in its log, whole, with its times, while it runs and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.logs.kept import kept

if TYPE_CHECKING:
    from containerkit.engine import Engine


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
        assert end.started_ns <= entry.time.timestamp() * 1e9 + 1000
        assert entry.time.timestamp() * 1e9 <= end.finished_ns
