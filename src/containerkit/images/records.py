"""The catalog's rows of images, names and layers, as values.

Owns: every query on those tables.  Must not: read blobs, or decide what an input means.
Neighbours: `images.images` looks up and removes, `images.pull` records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from containerkit.errors import ImageNotFound
from containerkit.model.digest import Digest

if TYPE_CHECKING:
    import sqlite3

    from containerkit.model.descriptor import Descriptor
    from containerkit.model.platform import Platform
    from containerkit.model.reference import Reference
    from containerkit.state.catalog import Catalog


class LayerRecord(NamedTuple):
    """One layer of an image; digests are of the stored bytes, the tar, the stack up to here."""

    digest: Digest
    media_type: str
    size: int
    diff_id: Digest
    chain_id: Digest

    @property
    def descriptor(self) -> Descriptor:
        """The stored bytes."""
        from containerkit.model.descriptor import Descriptor

        return Descriptor(self.media_type, self.digest, self.size)


class ImageRecord(NamedTuple):
    """One image: a manifest that is here with all it names.

    ``references`` are canonical texts, sorted; ``size`` is of all blobs as stored.
    """

    digest: Digest
    id: Digest
    media_type: str
    platform: str
    size: int
    layers: tuple[LayerRecord, ...]
    references: tuple[str, ...] = ()


class Name(NamedTuple):
    """What a reference stands for: the image, and what the registry answered when asked for it."""

    image: Digest
    source: Digest


def record(db: sqlite3.Connection, image: ImageRecord, created: float) -> None:
    """Write an image, replacing what was known of it; inside the caller's transaction."""
    digest = str(image.digest)
    db.execute(
        "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (digest, str(image.id), image.media_type, image.platform, image.size, created),
    )
    db.executemany(
        "INSERT INTO image_layers VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [
            (
                digest,
                position,
                str(layer.digest),
                layer.media_type,
                layer.size,
                str(layer.diff_id),
                str(layer.chain_id),
            )
            for position, layer in enumerate(image.layers)
        ],
    )


def name(db: sqlite3.Connection, reference: Reference, image: Digest, source: Digest) -> None:
    """Let a reference stand for an image, whatever it stood for; inside a transaction.

    Raises:
        ImageNotFound: the image was removed meanwhile.
    """
    if not db.execute("SELECT 1 FROM images WHERE digest = ?", (str(image),)).fetchone():
        raise ImageNotFound(f"cannot name {image} {reference}: it was removed meanwhile")
    db.execute(
        "INSERT OR REPLACE INTO names VALUES (?, ?, ?)", (str(reference), str(image), str(source))
    )


def find_name(catalog: Catalog, reference: str) -> Name | None:
    """Return what a canonical reference stands for."""
    row = catalog.row("SELECT image, source FROM names WHERE reference = ?", (reference,))
    return None if row is None else Name(Digest.parse(row[0]), Digest.parse(row[1]))


def find_in_repository(catalog: Catalog, repository: str, digest: Digest) -> Digest | None:
    """Return the image *digest* if one of its names is in *repository* ("host/path")."""
    row = catalog.row(
        "SELECT image FROM names WHERE image = ? AND (substr(reference, 1, ?) IN (?, ?))",
        (str(digest), len(repository) + 1, f"{repository}:", f"{repository}@"),
    )
    return None if row is None else Digest.parse(row[0])


def find_variants(
    catalog: Catalog, repository: str, source: Digest
) -> tuple[tuple[Digest, Platform], ...]:
    """Return the images of an index that are held under their own digests, with their platforms.

    Args:
        catalog: where.
        repository: "host/path".
        source: the digest of the index.
    """
    from containerkit.model.platform import Platform

    rows = catalog.rows(
        "SELECT digest, platform FROM names JOIN images ON digest = image"
        " WHERE source = ? AND reference = ? || '@' || digest AND source != digest",
        (str(source), repository),
    )
    return tuple((Digest.parse(row[0]), Platform.parse(row[1])) for row in rows)


def find_by_id(catalog: Catalog, prefix: str) -> tuple[Digest, ...]:
    """Return the images whose config or manifest digest begins with *prefix*, newest first.

    Args:
        catalog: where.
        prefix: "sha256:" and some hex digits, which are checked.
    """
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    rows = catalog.rows(
        "SELECT digest FROM images WHERE (id >= ? AND id < ?) OR (digest >= ? AND digest < ?)"
        " ORDER BY created DESC",
        (prefix, end, prefix, end),
    )
    return tuple(Digest.parse(row[0]) for row in rows)


def load(catalog: Catalog, digests: Sequence[Digest] | None = None) -> tuple[ImageRecord, ...]:
    """Return images from one state of the catalog; those that are gone are left out.

    Args:
        catalog: where.
        digests: of manifests, in the order wanted; None: all, newest first.
    """
    with catalog.snapshot() as db:
        if digests is None:
            rows = db.execute("SELECT digest FROM images ORDER BY created DESC, digest").fetchall()
            digests = [Digest.parse(row[0]) for row in rows]
        found = [_load(db, digest) for digest in digests]
    return tuple(image for image in found if image is not None)


def _load(db: sqlite3.Connection, digest: Digest) -> ImageRecord | None:
    key = (str(digest),)
    row = db.execute(
        "SELECT id, media_type, platform, size FROM images WHERE digest = ?", key
    ).fetchone()
    if row is None:
        return None
    layers = db.execute(
        "SELECT digest, media_type, size, diff_id, chain_id FROM image_layers WHERE image = ?"
        " ORDER BY position",
        key,
    ).fetchall()
    names = db.execute("SELECT reference FROM names WHERE image = ? ORDER BY reference", key)
    return ImageRecord(
        digest,
        Digest.parse(row[0]),
        row[1],
        row[2],
        row[3],
        layers=tuple(
            LayerRecord(
                Digest.parse(layer[0]),
                layer[1],
                layer[2],
                Digest.parse(layer[3]),
                Digest.parse(layer[4]),
            )
            for layer in layers
        ),
        references=tuple(one[0] for one in names),
    )


def of_trees(catalog: Catalog, chain_ids: Sequence[Digest]) -> tuple[LayerRecord, ...]:
    """Return the layers that trees were unpacked from, whether an image has them or not.

    Raises:
        ImageNotFound: one of them is not here.
    """
    found = []
    for chain_id in chain_ids:
        row = catalog.row(
            "SELECT blob, media_type, blob_size, diff_id FROM layers WHERE chain_id = ?",
            (str(chain_id),),
        )
        if row is None:
            raise ImageNotFound(f"layer {chain_id} is not in this root")
        found.append(
            LayerRecord(Digest.parse(row[0]), row[1], row[2], Digest.parse(row[3]), chain_id)
        )
    return tuple(found)


def unpacked(catalog: Catalog, chain_ids: Sequence[Digest]) -> tuple[int, int]:
    """Return the entries, and the bytes of the files, of those layers that are here, together."""
    marks = ",".join("?" * len(chain_ids))
    found = catalog.row(
        f"SELECT total(entries), total(size) FROM layers WHERE chain_id IN ({marks})",  # noqa: S608 -- marks only
        tuple(map(str, chain_ids)),
    )
    return (0, 0) if found is None else (int(found[0]), int(found[1]))


def forget_name(catalog: Catalog, reference: str, image: Digest) -> bool:
    """Remove a name of *image*; return whether it was one."""
    with catalog.transaction(frees=True) as db:
        gone = db.execute(
            "DELETE FROM names WHERE reference = ? AND image = ?", (reference, str(image))
        )
        return gone.rowcount == 1


def forget(catalog: Catalog, image: Digest, names: Sequence[str] | None) -> bool:
    """Remove an image and its names, provided that it has no other names than these, if given."""
    with catalog.transaction(frees=True) as db:
        rows = db.execute("SELECT reference FROM names WHERE image = ?", (str(image),)).fetchall()
        if names is not None and not {row[0] for row in rows} <= set(names):
            return False
        db.execute("DELETE FROM images WHERE digest = ?", (str(image),))
    return True


def forget_nameless(catalog: Catalog) -> tuple[Digest, ...]:
    """Remove the images that have no name; return them."""
    with catalog.transaction(frees=True) as db:
        rows = db.execute(
            "DELETE FROM images WHERE digest NOT IN (SELECT image FROM names) RETURNING digest"
        ).fetchall()
    return tuple(Digest.parse(row[0]) for row in rows)
