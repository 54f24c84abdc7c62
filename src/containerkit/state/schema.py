"""The tables of the catalog, and how an older catalog becomes one of today.

Owns: one SQL script per schema version; only ever appended to.  Must not: run anything itself.
Neighbour: `state.catalog`, which runs the scripts a file lacks inside one transaction.
"""

from __future__ import annotations

from typing import Final

_VERSION_1 = """
-- What the files around the catalog look like; see docs/decisions on on-disk formats.
CREATE TABLE format (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- An image is a manifest; two manifests with one config (gzip and zstd layers) are two rows.
CREATE TABLE images (
    digest TEXT PRIMARY KEY,            -- of the manifest
    id TEXT NOT NULL,                   -- of the config
    media_type TEXT NOT NULL,
    platform TEXT NOT NULL,
    size INTEGER NOT NULL,              -- bytes of manifest, config and layers as stored
    created REAL NOT NULL               -- when it came here, seconds since the epoch
) STRICT, WITHOUT ROWID;
CREATE INDEX images_by_id ON images (id);

-- Layers of images, lowest first.
CREATE TABLE image_layers (
    image TEXT NOT NULL REFERENCES images (digest) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    diff_id TEXT NOT NULL,
    chain_id TEXT NOT NULL,
    PRIMARY KEY (image, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE names (
    reference TEXT PRIMARY KEY,         -- canonical
    image TEXT NOT NULL REFERENCES images (digest) ON DELETE CASCADE,
    source TEXT NOT NULL                -- what the registry answered: of the index, or the manifest
) STRICT, WITHOUT ROWID;
CREATE INDEX names_by_image ON names (image);

-- Unpacked trees.  A row is written before the tree gets its name: a tree without a row, or one of
-- another boot that no syncfs covered, may be incomplete on disk and is unpacked again.
CREATE TABLE layers (
    chain_id TEXT PRIMARY KEY,
    diff_id TEXT NOT NULL,
    blob TEXT NOT NULL,                 -- what it was unpacked from, and can be again
    media_type TEXT NOT NULL,
    blob_size INTEGER NOT NULL,
    size INTEGER NOT NULL,              -- bytes unpacked
    entries INTEGER NOT NULL,
    boot TEXT NOT NULL,                 -- boot id it was unpacked in
    token TEXT NOT NULL,                -- of this unpacking, so that a syncfs marks what it covered
    durable INTEGER NOT NULL            -- 1: a later syncfs covered it
) STRICT, WITHOUT ROWID;

-- Content that a running operation needs, whatever else refers to it.  The operation holds the
-- flock of ingest/lease-<lease>; rows whose lock is free are debris.
CREATE TABLE leases (
    lease TEXT NOT NULL,
    digest TEXT NOT NULL,               -- of a blob, or a ChainID
    PRIMARY KEY (lease, digest)
) STRICT, WITHOUT ROWID;
"""

_VERSION_2 = """
-- Containers that are kept: created or started, not those of `run`.  One exists while it has this row
-- and a mark in its directory; whichever is alone is debris of a crash.
CREATE TABLE containers (
    id TEXT PRIMARY KEY,                -- 64 hexadecimal digits
    name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL,                -- digest of the manifest, or the host image's id
    reference TEXT NOT NULL,            -- what the image was called
    created INTEGER NOT NULL,           -- nanoseconds since the epoch
    lifetime TEXT NOT NULL,             -- owner or detached
    owner TEXT NOT NULL,                -- launcher that it ends with, empty for a detached one
    shared TEXT UNIQUE,                 -- key of one that several processes share
    labels TEXT NOT NULL,               -- JSON
    config TEXT NOT NULL                -- JSON, all that a start needs but the contents of secrets
) STRICT, WITHOUT ROWID;

-- Layers that a container needs, whatever became of its image.
CREATE TABLE container_layers (
    container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    chain_id TEXT NOT NULL,
    PRIMARY KEY (container, chain_id)
) STRICT, WITHOUT ROWID;
"""

MIGRATIONS: Final = (_VERSION_1, _VERSION_2)
VERSION: Final = len(MIGRATIONS)


def statements(script: str) -> list[str]:
    """Return the statements of a script, without its comments; no string in it holds a ';'."""
    bare = "\n".join(line.partition("--")[0] for line in script.splitlines())
    return [text for part in bare.split(";") if (text := part.strip())]
