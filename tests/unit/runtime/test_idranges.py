"""Ranges of ids: no two holders of one, whatever has died."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerkit.errors import ConfigError, HostError, InUse
from containerkit.model.security import Security
from containerkit.runtime import idranges
from containerkit.runtime.idranges import SIZE, Ranges
from containerkit.state import atomic

OPTIONS = {"security": Security(userns="auto")}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Claims of this test's own."""
    monkeypatch.setattr(idranges, "PLACE", tmp_path / "ids")
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
        threading.Thread(target=lambda: found.append(Ranges(root, "a").take())) for _ in range(64)
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
    assert ranges.take() in claims(place)


def test_the_dead_hold_nothing(root: Path, place: Path, launcher: int) -> None:
    first = Ranges(root, "a").take()
    idranges.sweep(root)
    assert claims(place) == {first: "launcher a"}
    fcntl.flock(launcher, fcntl.LOCK_UN)
    (place / "1073741824").touch()  # whoever wrote this died at it
    idranges.sweep(root.parent / "another")
    assert first in {int(path.name) for path in place.iterdir() if path.name.isdigit()}
    idranges.sweep(root)
    assert not (place / str(first)).exists()


def test_all_taken(root: Path, place: Path, launcher: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idranges, "_pool", lambda: (SIZE, 4 * SIZE))
    ranges = Ranges(root, "a")
    assert {ranges.take() for _ in range(3)} == {SIZE, 2 * SIZE, 3 * SIZE}
    with pytest.raises(HostError, match="all 3 ranges"):
        ranges.take()
    fcntl.flock(launcher, fcntl.LOCK_UN)
    fd = os.open(root / "owners" / "b", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        assert Ranges(root, "b").take() in (SIZE, 2 * SIZE, 3 * SIZE)
        assert sorted(claims(place).values()) == ["launcher a", "launcher a", "launcher b"]
    finally:
        os.close(fd)


@pytest.mark.usefixtures("launcher")
def test_a_kept_container(root: Path, place: Path) -> None:
    ranges = Ranges(root, "a")
    directory = root / "containers" / "c"
    with ranges.for_kept("c", OPTIONS) as first:  # type: ignore[arg-type]
        assert first is not None
        directory.mkdir()
        ranges.pass_on(first, directory)
    ids = idranges.noted(directory)
    assert ids is not None
    assert ids.outside(0, 0) == (first, first)
    assert claims(place) == {first: "container c"}
    ranges.close()
    idranges.sweep(root)
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
    first, directory = ranges.take(), root / "containers" / "c"
    fcntl.flock(launcher, fcntl.LOCK_UN)
    (root / "containers" / "d").mkdir()
    (place / str(first)).write_text(f"{root}\ncontainer d\n")
    directory.mkdir()
    with pytest.raises(InUse, match="died"):
        ranges.pass_on(first, directory)
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
    with pytest.raises(HostError), ranges.for_kept("c", OPTIONS) as first:  # type: ignore[arg-type]
        assert first is not None
        with monkeypatch.context() as patched:
            patched.setattr(atomic, "write_all_at", full)
            ranges.pass_on(first, root / "containers" / "c")
    assert claims(place) == {first: "launcher a"}
    assert ranges.take() == first


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
    with pytest.raises(ZeroDivisionError), ranges.for_kept("c", OPTIONS) as first:  # type: ignore[arg-type]
        raise ZeroDivisionError
    assert claims(place) == {first: "launcher a"}
    assert ranges.take() == first
    with ranges.for_kept("c", {}) as none:
        assert none is None


def test_what_the_host_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = idranges._granted
    (tmp_path / "subuid").write_text("ann:100000:65536\ncontainerkit:500000:200000\nx\n")
    given = real(str(tmp_path / "subuid"))
    assert given == {(500000, 200000)}
    assert real(str(tmp_path / "none")) == set()
    monkeypatch.setattr(idranges, "_granted", lambda _: given)
    assert idranges._pool() == (8 * SIZE, 700000)
    monkeypatch.setattr(idranges, "_granted", lambda _: set())
    assert idranges._pool() == (1 << 30, 1 << 31)
