"""Races: a directory is swapped for a link while mounts are made on it, and files copied through it.

CVE-2018-15664, 2019-10152, 2021-30465, 2024-45310, 2026-42306.  `make bars T=races` runs a thousand
rounds of each.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import containerkit as ck
from tests.support import races
from tests.support.patience import DEADLINE

MOUNTS = 20
CALLS = 15


@pytest.fixture
def place(tmp_path: Path) -> races.Place:
    return races.Place(tmp_path)


@pytest.mark.parametrize("who", ["sibling", "host"])
def test_mounts(
    engine: ck.Engine, hostile: str, attacks: Path, place: races.Place, who: races.Swapper
) -> None:
    rounds = races.Mounts(engine, hostile, place)
    try:
        with place.swapped(who, engine, hostile, attacks):
            for number in range(MOUNTS):
                rounds.run(number)
    finally:
        rounds.close()
    assert not rounds.escapes
    assert rounds.started + rounds.refused == MOUNTS


@pytest.mark.parametrize("who", ["sibling", "host"])
def test_files(
    engine: ck.Engine, hostile: str, attacks: Path, place: races.Place, who: races.Swapper
) -> None:
    with (
        engine.start(
            hostile, ["sleep", "100000"], mounts=[ck.Mount.bind(place.volume, "/vol")]
        ) as box,
        place.swapped(who, engine, hostile, attacks),
    ):
        box.files.mkdir(str(place.canary), parents=True)
        rounds = races.Calls(box.files, place.scratch, "/vol/x")
        for number in range(CALLS):
            rounds.run(number)
        assert box.status == "running"
    assert rounds.done
    assert not place.escaped()


@pytest.mark.parametrize("who", ["sibling", "host"])
def test_the_control(
    engine: ck.Engine, hostile: str, attacks: Path, tmp_path: Path, who: races.Swapper
) -> None:
    """Whoever looks, and then trusts the path, is led out."""
    place = races.Place(tmp_path, control=True)
    deadline = time.monotonic() + DEADLINE
    with (
        engine.start(
            hostile, ["sleep", "100000"], mounts=[ck.Mount.bind(place.volume, "/vol")]
        ) as box,
        place.swapped(who, engine, hostile, attacks),
    ):
        path, number = Path(f"/proc/{box.pid}/root/vol/x"), 0
        while not races.trusting(path, place.canary, number):
            number += 1
            assert time.monotonic() < deadline, number
