"""Readings of what a container uses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from containerkit.model.stats import CpuStats, MemoryStats, Stats

THEN = datetime(2026, 1, 1, tzinfo=UTC)


def reading(seconds: float, cpu: float) -> Stats:
    return Stats(
        THEN + timedelta(seconds=seconds), CpuStats(cpu, 0.0, cpu), None, None, None, None, None, 0
    )


def test_processors_between_two_readings() -> None:
    first, second = reading(0, 1.0), reading(2, 4.0)
    assert second.since(first).cpus == 1.5
    assert second.since(first).cpu_percent == 150.0
    assert first.cpu_percent is None


def test_readings_of_one_moment_say_nothing() -> None:
    first = reading(0, 1.0)
    assert first.since(first).cpus is None


def test_a_restart_between_them_is_not_negative() -> None:
    assert reading(1, 0.1).since(reading(0, 9.0)).cpus == 0.0


def test_memory_without_the_page_cache() -> None:
    assert MemoryStats(100, 30).working == 70
    assert MemoryStats(100, 130).working == 0
