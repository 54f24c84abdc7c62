"""The catalog's rows of kept containers, as values.

Owns: every query on those tables.  Must not: look at directories, or decide what an input means.
Neighbours: `birth` inserts, `handle` and `containers` read, `verbs` change.

A row alone is not a container (see ``runtime.marks``): whoever meets one without a mark drops it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from containerkit.errors import AlreadyExists, ContainerNotFound

if TYPE_CHECKING:
    from containerkit.state.catalog import Catalog

_COLUMNS: Final = "id, name, image, reference, created, lifetime, owner, shared, labels, config"
_SHORT: Final = _COLUMNS.replace("config", "''")


class Row(NamedTuple):
    """One kept container; ``config`` is empty where it was not asked for.

    Attributes:
        id: 64 hexadecimal digits.
        name: unique in the root.
        image: digest of the image's manifest, or the host image's id.
        reference: what the image was called.
        created_ns: since the epoch.
        lifetime: "owner" or "detached".
        owner: the launcher it ends with; empty for a detached one.
        shared: the key of one that several processes share.
        labels: JSON of `codec`.
        config: JSON of `codec`.
    """

    id: str
    name: str
    image: str
    reference: str
    created_ns: int
    lifetime: str
    owner: str
    shared: str | None
    labels: str
    config: str


class Records:
    """The rows of one root; usable from every thread.

    Args:
        catalog: of the root.
    """

    __slots__ = ("_catalog",)

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    # ---- read

    def get(self, container_id: str) -> Row | None:
        """Return a row, remembered until anything in the catalog changes."""
        memo = self._catalog.memo()
        key = ("container", container_id)
        if key not in memo:
            row = self._catalog.row(
                f"SELECT {_COLUMNS} FROM containers WHERE id = ?",  # noqa: S608 -- constants
                (container_id,),
            )
            memo[key] = None if row is None else Row(*row)
        found: Row | None = memo[key]
        return found

    def named(self, name: str) -> str | None:
        """Return the id of the container with a name."""
        row = self._catalog.row("SELECT id FROM containers WHERE name = ?", (name,))
        return None if row is None else str(row[0])

    def sharing(self, key: str) -> str | None:
        """Return the id of the container that is shared under a key."""
        row = self._catalog.row("SELECT id FROM containers WHERE shared = ?", (key,))
        return None if row is None else str(row[0])

    def beginning(self, prefix: str) -> list[str]:
        """Return the ids that begin with *prefix*: hexadecimal digits, at least one."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        rows = self._catalog.rows(
            "SELECT id FROM containers WHERE id >= ? AND id < ? ORDER BY id", (prefix, end)
        )
        return [row[0] for row in rows]

    def all(self) -> list[Row]:
        """Return all rows, without their configs, the newest first: one atomic look."""
        rows = self._catalog.rows(
            f"SELECT {_SHORT} FROM containers ORDER BY created DESC, id"  # noqa: S608 -- constants
        )
        return [Row(*row) for row in rows]

    # ---- change

    def insert(self, row: Row, chain_ids: Iterable[str], *, durable: bool) -> None:
        """Add a row, and keep the layers it needs.

        Raises:
            AlreadyExists: the name is taken, or the key of a shared one.
        """
        with self._catalog.transaction(durable=durable) as db:
            for column, value in (("name", row.name), ("shared", row.shared)):
                taken = db.execute(f"SELECT id FROM containers WHERE {column} = ?", (value,))  # noqa: S608
                holder = taken.fetchone()
                if holder is not None:
                    raise AlreadyExists(
                        f"cannot create container {row.name}: container {holder[0][:12]} has"
                        f" this {'name' if column == 'name' else 'key'}",
                        hint="choose another, or remove that one first",
                        holder=holder[0],
                    )
            db.execute("INSERT INTO containers VALUES (?,?,?,?,?,?,?,?,?,?)", row)
            db.executemany(
                "INSERT OR IGNORE INTO container_layers VALUES (?, ?)",
                [(row.id, chain_id) for chain_id in chain_ids],
            )

    def rename(self, container_id: str, name: str) -> None:
        """Give a container another name.

        Raises:
            AlreadyExists: another one has it.
            ContainerNotFound: it was removed.
        """
        with self._catalog.transaction() as db:
            taken = db.execute("SELECT id FROM containers WHERE name = ?", (name,)).fetchone()
            if taken is not None and taken[0] != container_id:
                raise AlreadyExists(
                    f"cannot rename container {container_id[:12]} {name}: container"
                    f" {taken[0][:12]} has this name",
                    holder=taken[0],
                )
            self._change(db.execute, "name", name, container_id)

    def own(self, container_id: str, launcher_id: str) -> None:
        """Write down which launcher a container ends with; empty: with none."""
        with self._catalog.transaction(durable=False) as db:
            self._change(db.execute, "owner", launcher_id, container_id)

    def configure(self, container_id: str, config: str) -> None:
        """Replace the config of a container.

        Raises:
            ContainerNotFound: it was removed.
        """
        with self._catalog.transaction() as db:
            self._change(db.execute, "config", config, container_id)

    def _change(self, execute: Any, column: str, value: str, container_id: str) -> None:
        changed = execute(f"UPDATE containers SET {column} = ? WHERE id = ?", (value, container_id))  # noqa: S608
        if changed.rowcount != 1:
            raise ContainerNotFound(f"cannot change container {container_id[:12]}: it was removed")

    def forget(self, container_ids: Sequence[str]) -> None:
        """Remove rows; those that are gone already are no error."""
        with self._catalog.transaction(durable=False, frees=True) as db:
            db.executemany("DELETE FROM containers WHERE id = ?", [(one,) for one in container_ids])
