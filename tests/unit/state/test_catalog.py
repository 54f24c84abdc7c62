"""The catalog: whole transactions, one connection a thread, fork, versions, caches."""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from containerkit.errors import ConfigError, CorruptContent, HostError
from containerkit.state.catalog import Catalog
from containerkit.state.schema import MIGRATIONS, VERSION, statements

LEASE = "INSERT INTO leases VALUES (?, ?)"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog(tmp_path / "catalog.sqlite", formats={"whiteouts": "trusted"})
    yield catalog
    catalog.close()


def leases(catalog: Catalog) -> list[str]:
    return [row[0] for row in catalog.rows("SELECT lease FROM leases ORDER BY lease")]


def test_making_one_opens_no_file(tmp_path: Path) -> None:
    Catalog(tmp_path / "catalog.sqlite")
    assert os.listdir(tmp_path) == []


def test_a_transaction_is_all_or_nothing(catalog: Catalog) -> None:
    with catalog.transaction() as db:
        db.execute(LEASE, ("a", "1"))
    with pytest.raises(ZeroDivisionError), catalog.transaction() as db:
        db.execute(LEASE, ("b", "1"))
        raise ZeroDivisionError
    with pytest.raises(sqlite3.IntegrityError), catalog.transaction() as db:
        db.execute(LEASE, ("c", "1"))
        db.execute(LEASE, ("a", "1"))
    assert leases(catalog) == ["a"]


class Interrupting:
    """A connection on which SIGINT comes right after each BEGIN."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
        cursor = self.raw.execute(statement, *rest)
        if statement.startswith("BEGIN"):
            raise KeyboardInterrupt
        return cursor


@pytest.mark.parametrize("durable", [True, False])
def test_an_interrupt_right_after_a_begin_leaves_no_transaction(
    catalog: Catalog, durable: bool
) -> None:
    connection = catalog._connection()
    raw = connection.raw
    for block in (catalog.transaction, catalog.snapshot):
        connection.raw = cast("sqlite3.Connection", Interrupting(raw))
        with pytest.raises(KeyboardInterrupt), block():
            pass
        connection.raw = raw
        assert not raw.in_transaction
        with catalog.transaction(durable=durable) as db:
            db.execute(LEASE, (block.__name__, "1"))
    assert leases(catalog) == ["snapshot", "transaction"]


def test_another_catalog_on_the_same_file_sees_commits(catalog: Catalog, tmp_path: Path) -> None:
    other = Catalog(tmp_path / "catalog.sqlite", formats={})
    with catalog.transaction(durable=False) as db:
        db.execute(LEASE, ("a", "1"))
    assert leases(other) == ["a"]
    other.close()


def test_threads_have_connections_of_their_own(catalog: Catalog) -> None:
    def write(name: str) -> None:
        for number in range(20):
            with catalog.transaction(durable=False) as db:
                db.execute(LEASE, (name, str(number)))

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(leases(catalog)) == 80


def test_a_threads_connection_is_closed_at_its_end_after_an_error_too(catalog: Catalog) -> None:
    """Nothing waits for the garbage collector: a pull that fails leaves no descriptor."""

    def fail() -> None:
        catalog.rows("SELECT 1")
        with contextlib.suppress(HostError), catalog.transaction() as db:
            db.execute("PRAGMA query_only=ON")
            db.execute(LEASE, ("a", "1"))

    gc.disable()
    try:
        catalog.rows("SELECT 1")
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        assert len(catalog._own) == 1
    finally:
        gc.enable()


def test_the_memo_is_emptied_by_own_and_foreign_commits(catalog: Catalog, tmp_path: Path) -> None:
    other = Catalog(tmp_path / "catalog.sqlite", formats={})
    for number, writer in enumerate((catalog, other)):
        catalog.memo()["key"] = "value"
        assert catalog.memo() == {"key": "value"}
        with writer.transaction() as db:
            db.execute(LEASE, (str(number), ""))
        assert catalog.memo() == {}
    other.close()


def test_a_forked_child_opens_its_own_and_leaves_the_parents_alone(catalog: Catalog) -> None:
    with catalog.transaction() as db:
        db.execute(LEASE, ("parent", "1"))
    with catalog.transaction() as db:
        # The worst moment: the parent is writing, and the child goes through a normal exit.
        db.execute(LEASE, ("parent", "2"))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if leases(catalog) == ["parent"] else 2
                catalog.close()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert leases(catalog) == ["parent", "parent"]


def test_a_child_that_exits_normally_closes_nothing_of_its_parent(tmp_path: Path) -> None:
    program = f"""
import os, sys
from pathlib import Path
from typing import Any, cast
from containerkit.state.catalog import Catalog
catalog = Catalog(Path({str(tmp_path / "c.sqlite")!r}))
catalog.rows("SELECT 1")
with catalog.transaction() as db:
    db.execute("INSERT INTO leases VALUES ('a', 'b')")
    child = os.fork()
    if child == 0:
        sys.exit(0)
    os.waitpid(child, 0)
print(catalog.rows("SELECT count(*) FROM leases")[0][0], catalog.rows("PRAGMA integrity_check"))
"""
    out = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    # -X dev makes the child report the exit inside of the transaction; the parent must be whole.
    assert out.stdout.endswith("1 [('ok',)]\n"), out.stderr


def test_many_first_openers_make_one_catalog(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from containerkit.state.catalog import Catalog;"
        "Catalog(Path(sys.argv[1])).rows('SELECT * FROM leases')"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "catalog.sqlite")]
    running = [subprocess.Popen(command) for _ in range(6)]
    assert [process.wait() for process in running] == [0] * 6


def test_a_newer_catalog_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    catalog.rows("SELECT 1")
    with catalog.transaction() as db:
        db.execute("PRAGMA user_version=99")
    other = Catalog(tmp_path / "catalog.sqlite", formats={})
    with pytest.raises(ConfigError, match="schema 99, this is 2; hint: a newer containerkit"):
        other.rows("SELECT 1")


def test_the_other_kind_of_user_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    catalog.rows("SELECT 1")
    other = Catalog(tmp_path / "catalog.sqlite", formats={"whiteouts": "user"})
    with pytest.raises(
        ConfigError, match="its whiteouts are 'trusted', this process writes 'user'"
    ):
        other.rows("SELECT 1")


def test_a_damaged_file_is_corrupt_content(tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(CorruptContent, match="cannot open"):
        Catalog(tmp_path / "catalog.sqlite").rows("SELECT 1")


def test_a_closed_catalog_says_so(catalog: Catalog) -> None:
    catalog.rows("SELECT 1")
    catalog.close()
    with pytest.raises(ConfigError, match="engine is closed"):
        catalog.rows("SELECT 1")


def test_tidying_folds_a_long_log(catalog: Catalog, tmp_path: Path) -> None:
    for part in range(60):
        with catalog.transaction(durable=False) as db:
            rows = [(f"{part}-{number}", "x" * 1000) for number in range(100)]
            db.executemany(LEASE, rows)
    before = (tmp_path / "catalog.sqlite").stat().st_size
    catalog.tidy()
    assert (tmp_path / "catalog.sqlite").stat().st_size > before


def test_a_catalog_of_an_older_version_becomes_one_of_today(tmp_path: Path) -> None:
    """Version by version, and nothing in it is lost."""
    path = tmp_path / "catalog.sqlite"
    old = sqlite3.connect(path, isolation_level=None)
    for statement in statements(MIGRATIONS[0]):
        old.execute(statement)
    old.execute("INSERT INTO format VALUES ('whiteouts', 'trusted')")
    old.execute(LEASE, ("a", "1"))
    old.execute("PRAGMA user_version=1")
    old.close()
    catalog = Catalog(path, formats={"whiteouts": "trusted"})
    assert leases(catalog) == ["a"]
    assert catalog.row("PRAGMA user_version") == (VERSION,)
    with catalog.transaction() as db:
        row = ("i", "n", "", "", 1, "owner", "", None, "{}", "{}")
        db.execute("INSERT INTO containers VALUES (?,?,?,?,?,?,?,?,?,?)", row)
        db.execute("INSERT INTO container_layers VALUES ('i', 'l')")
    with catalog.transaction() as db:
        db.execute("DELETE FROM containers")
    assert catalog.rows("SELECT * FROM container_layers") == []
    catalog.close()
