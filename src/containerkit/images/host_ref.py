"""Refs of host images: the file that a start reads to know the mounts of a host image.

Owns: the format.  Records are separated by two NULs, their fields by one: no path holds a NUL, no
field is empty, and reading it takes no import.
Must not: build what it names (`host_build` does).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from containerkit.model.rootfs import HostBind, Overlay

_FORMAT = "containerkit-host-1"


class HostRef(NamedTuple):
    """What is known of one host image; the trees are under ROOT/host/``key``."""

    boot: str
    key: str
    content: str
    architecture: str
    search_path: str
    notes: tuple[str, ...]
    mounts: tuple[Overlay | HostBind, ...]


def encode(ref: HostRef) -> bytes:
    """Return the bytes of a ref's file."""
    records = [
        (_FORMAT, ref.boot, ref.key, ref.content, ref.architecture, ref.search_path),
        *(("note", note) for note in ref.notes),
    ]
    for mount in ref.mounts:
        if isinstance(mount, Overlay):
            kind = "overlay" if mount.writable else "overlay-ro"
            records.append((kind, mount.target, *mount.lowers))
        else:
            kind = "bind-ro" if mount.read_only else "bind"
            records.append((kind, mount.target, mount.source))
    return os.fsencode("\0\0".join("\0".join(record) for record in records))


def read(root: Path | str, stamp: str) -> HostRef | None:
    """Return the ref named ``stamp`` of the engine at ``root``; None when there is no sound one."""
    try:
        with open(f"{root}/host/refs/{stamp}", "rb", buffering=0) as file:
            data = file.read()
        return _decode(os.fsdecode(data))
    except (FileNotFoundError, ValueError):
        return None  # not there, or damaged by a power cut: it is made again


def _decode(text: str) -> HostRef:
    head, *records = (record.split("\0") for record in text.split("\0\0"))
    name, boot, key, content, architecture, search_path = head
    if name != _FORMAT:
        raise ValueError(name)
    notes: list[str] = []
    mounts: list[Overlay | HostBind] = []
    for kind, *fields in records:
        if kind == "note":
            notes += fields
        elif kind in ("overlay", "overlay-ro"):
            target, *lowers = fields
            mounts.append(Overlay(target, tuple(lowers), kind == "overlay"))
        elif kind in ("bind", "bind-ro"):
            target, source = fields
            mounts.append(HostBind(source, target, kind == "bind-ro"))
        else:
            raise ValueError(kind)
    return HostRef(boot, key, content, architecture, search_path, tuple(notes), tuple(mounts))
