"""Ranges of ids: no two holders of one, whatever has died."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerkit.errors import ConfigError, HostError, InUse, MissingFeature
from containerkit.model.idmap import IdMap
from containerkit.runtime import idclaims, idranges, subordinate
from containerkit.runtime.idclaims import SIZE
from containerkit.runtime.idranges import WHOLE, Ranges
from containerkit.runtime.subordinate import Shape
from containerkit.state import atomic, userns


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Claims of this test's own."""
    monkeypatch.setattr(idclaims, "PLACE", tmp_path / "ids")
    return tmp_path / "ids"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("owners", "containers"):
        (tmp_path / "root" / name).mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture
def launcher(root: Path) -> Iterator[int]:
    """The lock that a living launcher, "a", holds."""
    fd = os.open(root / "owners" / "a", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_SH)
    yield fd
    os.close(fd)


def first_of(ids: IdMap) -> int:
    assert ids == IdMap.of_range(ids.uids[0][1], SIZE)
    return ids.uids[0][1]


def claims(place: Path) -> dict[int, str]:
    return {
        int(path.name): path.read_text().splitlines()[1]
        for path in place.iterdir()
        if path.name.isdigit()
    }


@pytest.mark.usefixtures("launcher")
def test_64_at_once(root: Path, place: Path) -> None:
    """Each of its own launcher object, as in processes of their own."""
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(first_of(Ranges(root, "a").take())))
        for _ in range(64)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 64
    assert all(first % SIZE == 0 and 1 << 30 <= first < 1 << 31 for first in found)
    assert set(claims(place)) == set(found)


@pytest.mark.usefixtures("launcher")
def test_what_is_given_back_is_had_again(root: Path, place: Path) -> None:
    ranges = Ranges(root, "a")
    first, second = ranges.take(), ranges.take()
    ranges.give_back(first)
    assert ranges.take() == first
    assert ranges.take() not in (first, second)
    ranges.close()
    assert claims(place) == {}
    ranges.give_back(first)
    assert first_of(ranges.take()) in claims(place)


def test_the_dead_hold_nothing(root: Path, place: Path, launcher: int) -> None:
    first = first_of(Ranges(root, "a").take())
    idclaims.sweep(root)
    assert claims(place) == {first: "launcher a"}
    fcntl.flock(launcher, fcntl.LOCK_UN)
    (place / "1073741824").touch()  # whoever wrote this died at it
    idclaims.sweep(root.parent / "another")
    assert first in {int(path.name) for path in place.iterdir() if path.name.isdigit()}
    idclaims.sweep(root)
    assert not (place / str(first)).exists()


def test_all_taken(root: Path, place: Path, launcher: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idclaims, "_pool", lambda: (SIZE, 4 * SIZE))
    ranges = Ranges(root, "a")
    assert {first_of(ranges.take()) for _ in range(3)} == {SIZE, 2 * SIZE, 3 * SIZE}
    with pytest.raises(HostError, match="all 3 ranges"):
        ranges.take()
    fcntl.flock(launcher, fcntl.LOCK_UN)
    fd = os.open(root / "owners" / "b", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        assert first_of(Ranges(root, "b").take()) in (SIZE, 2 * SIZE, 3 * SIZE)
        assert sorted(claims(place).values()) == ["launcher a", "launcher a", "launcher b"]
    finally:
        os.close(fd)


@pytest.mark.usefixtures("launcher")
def test_a_kept_container(root: Path, place: Path) -> None:
    ranges = Ranges(root, "a")
    directory = root / "containers" / "c"
    with ranges.for_kept("c", WHOLE) as ids:
        assert ids is not None
        directory.mkdir()
        ranges.pass_on(ids, directory)
    assert idranges.noted(directory) == ids
    first = first_of(ids)
    assert ids.outside(0, 0) == (first, first)
    assert claims(place) == {first: "container c"}
    ranges.close()
    idclaims.sweep(root)
    idranges.hold(root, "c")
    (place / str(first)).unlink()
    idranges.hold(root, "c")
    assert claims(place) == {first: "container c"}
    (root / "containers" / "d").mkdir()
    (place / str(first)).write_text(f"{root}\ncontainer d\n")
    with pytest.raises(InUse):
        idranges.hold(root, "c")
    idranges.release(root, "c", ids)
    assert claims(place) == {first: "container d"}
    (root / "containers" / "d").rmdir()
    idranges.hold(root, "c")
    idranges.release(root, "c", ids)
    assert claims(place) == {}


def test_a_range_is_passed_on_by_who_has_it(root: Path, place: Path, launcher: int) -> None:
    """Not by one whose launcher has died, and to whose range another container has come since."""
    ranges = Ranges(root, "a")
    ids, directory = ranges.take(), root / "containers" / "c"
    first = first_of(ids)
    fcntl.flock(launcher, fcntl.LOCK_UN)
    (root / "containers" / "d").mkdir()
    (place / str(first)).write_text(f"{root}\ncontainer d\n")
    directory.mkdir()
    with pytest.raises(InUse, match="died"):
        ranges.pass_on(ids, directory)
    assert claims(place) == {first: "container d"}


@pytest.mark.usefixtures("launcher")
def test_a_claim_that_can_not_be_written_leaves_the_one_before(
    root: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a process would give away a range again that anybody may take."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ranges = Ranges(root, "a")
    (root / "containers" / "c").mkdir()
    with pytest.raises(HostError), ranges.for_kept("c", WHOLE) as ids:
        assert ids is not None
        with monkeypatch.context() as patched:
            patched.setattr(atomic, "write_all_at", full)
            ranges.pass_on(ids, root / "containers" / "c")
    assert ids is not None
    assert claims(place) == {first_of(ids): "launcher a"}
    assert ranges.take() == ids


def test_a_note_that_is_gone_or_not_ours(root: Path, place: Path) -> None:
    """No container starts then with ids that it shares, or with the host's."""
    directory = root / "containers" / "c"
    directory.mkdir()
    with pytest.raises(HostError, match="gone"):
        idranges.hold(root, "c")
    for note in ("0", "65537", "x", "-65536", "4294901760", "\u0661"):
        (directory / idranges.NOTE).unlink(missing_ok=True)
        (directory / idranges.NOTE).symlink_to(note)
        with pytest.raises(ConfigError, match="damaged"):
            idranges.hold(root, "c")
        with pytest.raises(ConfigError, match="damaged"):
            idranges.noted(directory)
    assert not place.exists()


@pytest.mark.usefixtures("launcher")
def test_a_kept_container_that_is_not_made(root: Path, place: Path) -> None:
    ranges = Ranges(root, "a")
    with pytest.raises(ZeroDivisionError), ranges.for_kept("c", WHOLE) as ids:
        raise ZeroDivisionError
    assert ids is not None
    assert claims(place) == {first_of(ids): "launcher a"}
    assert ranges.take() == ids
    with ranges.for_kept("c", None) as none:
        assert none is None


def test_what_the_host_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = idclaims._granted
    (tmp_path / "subuid").write_text("ann:100000:65536\ncontainerkit:500000:200000\nx\n")
    given = real(str(tmp_path / "subuid"))
    assert given == {(500000, 200000)}
    assert real(str(tmp_path / "none")) == set()
    monkeypatch.setattr(idclaims, "_granted", lambda _: given)
    assert idclaims._pool() == (8 * SIZE, 700000)
    monkeypatch.setattr(idclaims, "_granted", lambda _: set())
    assert idclaims._pool() == (1 << 30, 1 << 31)


# ---- of an ordinary user

GRANT = userns.Ids(((0, 500, 1), (1, 200_000, 65536)), ((0, 500, 1), (1, 300_000, 65536)))
ONE, SOME, OTHER = ((65534, 1),), ((0, 1024), (65534, 1)), ((0, 1024), (2000, 1), (65534, 1))


@pytest.fixture
def ordinary(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userns, "is_needed", lambda: True)
    monkeypatch.setattr(userns, "ids_of", lambda _: GRANT)
    monkeypatch.setattr(idclaims, "place_of", lambda _: place)
    monkeypatch.setattr(subordinate, "pool_of", lambda _: (1000, 4000))


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if "+" in path.name)


@pytest.mark.usefixtures("launcher", "ordinary")
def test_ranges_of_any_size(root: Path, place: Path) -> None:
    ranges = Ranges(root, "a")
    one, some, other = (ranges.take(shape) for shape in (ONE, SOME, OTHER))
    assert one == IdMap([(65534, 1000, 1)])
    assert some == IdMap([(0, 2975, 1024), (65534, 3999, 1)])
    assert other == IdMap([(0, 1949, 1024), (2000, 2973, 1), (65534, 2974, 1)])
    assert names(place) == ["200999+1", "201948+1026", "202974+1025"]
    with pytest.raises(HostError, match="of the 65536") as caught:
        ranges.take(SOME)
    assert "have 3000, 2052 of which are taken" in str(caught.value)
    ranges.give_back(other)
    assert ranges.take(SOME) == IdMap([(0, 1950, 1024), (65534, 2974, 1)])
    ranges.close()
    assert names(place) == []


@pytest.mark.usefixtures("ordinary")
def test_what_the_dead_had_is_free(root: Path, place: Path, launcher: int) -> None:
    Ranges(root, "a").take(SOME)
    Ranges(root, "a").take(OTHER)
    with pytest.raises(HostError):
        Ranges(root, "a").take(SOME)
    fcntl.flock(launcher, fcntl.LOCK_UN)
    with pytest.raises(MissingFeature, match="can have 3000, 0 of"):
        Ranges(root, "b").take(((0, 5000),))
    Ranges(root, "b").take(SOME)
    assert names(place) == ["202974+1025"]
    idclaims.sweep(root)
    assert names(place) == []


@pytest.mark.usefixtures("launcher", "ordinary")
def test_a_range_of_which_another_has_a_part(root: Path, place: Path) -> None:
    ranges, directory = Ranges(root, "a"), root / "containers" / "c"
    directory.mkdir()
    with ranges.for_kept("c", OTHER) as ids:
        assert ids is not None
        ranges.pass_on(ids, directory)
    assert os.readlink(directory / idranges.NOTE) == "2974:0+1024,2000+1,65534+1"
    assert idranges.noted(directory) == ids
    (place / "202973+1026").unlink()
    some = ranges.take(SOME)
    with pytest.raises(InUse, match="2974 to 3999"):
        idranges.hold(root, "c")
    ranges.give_back(some)
    ranges.close()
    idranges.hold(root, "c")
    assert names(place) == ["202973+1026"]
    for note in ("0:0+1", "1:", "1:0+0", "1:0", "1:0+1,0+1", "1:0+4294967295", "x:0+1"):
        (directory / idranges.NOTE).unlink()
        (directory / idranges.NOTE).symlink_to(note)
        with pytest.raises(ConfigError, match="damaged"):
            idranges.noted(directory)


@pytest.mark.usefixtures("launcher", "ordinary")
def test_many_of_an_ordinary_user_at_once(
    root: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subordinate, "pool_of", lambda _: (10_000, 65_000))
    found: list[IdMap] = []

    def take(shape: Shape) -> None:
        found.append(Ranges(root, "a").take(shape))

    threads = [threading.Thread(target=take, args=(shape,)) for shape in (ONE, SOME, OTHER) * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [
        one for ids in found for _, first, count in ids.uids for one in range(first, first + count)
    ]
    assert len(found) == 24
    assert len(set(ids)) == len(ids) == 8 * (1 + 1025 + 1026)
    assert len(names(place)) == 24
