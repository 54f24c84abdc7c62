"""How much of a disk a root takes, and what pruning it freed.

Owns the values and their texts.  Must not: look or remove; `care.disk_usage` and `care.prune` do.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Space:
    """Some things, and how much they take together.

    Args:
        count: of things.
        size: bytes on the disk, holes and what is shared not counted twice.
    """

    count: int = 0
    size: int = 0


@attrs.frozen
class DiskUsage:
    """Where the bytes of a root are; prints as a table.

    Args:
        images: blobs: manifests, configs and layers as they were stored.
        layers: unpacked trees, shared by images and containers.
        containers: what containers wrote, and their logs.
        cache: what can go at any time: partial downloads, trees being made or removed, the host
            image's skeletons.
    """

    images: Space = Space()
    layers: Space = Space()
    containers: Space = Space()
    cache: Space = Space()

    @property
    def total(self) -> int:
        """Bytes of all of it."""
        return self.images.size + self.layers.size + self.containers.size + self.cache.size

    def _repr_html_(self) -> str:
        from containerkit.model import html

        parts = ("images", "layers", "containers", "cache")
        rows: list[dict[str, object]] = []
        for name in parts:
            space: Space = getattr(self, name)
            rows.append({"": name, "size": size_text(space.size), "count": space.count})
        rows.append({"": "total", "size": size_text(self.total), "count": ""})
        return html.grid(rows)

    def __str__(self) -> str:
        rows = (
            ("images", self.images, "blobs"),
            ("layers", self.layers, "trees"),
            ("containers", self.containers, "directories"),
            ("cache", self.cache, "entries"),
        )
        lines = [
            f"{name:10}  {size_text(space.size):>10}  in {space.count} {what}"
            for name, space, what in rows
        ]
        return "\n".join([*lines, f"{'total':10}  {size_text(self.total):>10}"])


@attrs.frozen
class Pruned:
    """What a pruning removed.

    Args:
        containers: ids.
        images: manifest digests.
        size: bytes freed.
    """

    containers: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    size: int = 0

    def __str__(self) -> str:
        return (
            f"{len(self.containers)} containers and {len(self.images)} images removed,"
            f" {size_text(self.size)} freed"
        )


def size_text(size: float) -> str:
    """Return a number of bytes for people: "12 B", "3.4 MiB"."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    number = 0
    while size >= 1024 and number < len(units) - 1:
        size /= 1024
        number += 1
    return f"{size:.0f} B" if number == 0 else f"{size:.1f} {units[number]}"
