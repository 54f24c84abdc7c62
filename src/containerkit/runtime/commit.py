"""An image made of a container: `Container.commit`.

Owns: which files of it, as whose; what of its options an image says; that nothing changes meanwhile.
Must not: read files (`written` does), or know the store (`images.commit` does).

Secrets are no part of a container's options here, nor of its upper directory: they lie on a file system
of their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from containerkit.errors import ConfigError, InvalidReference
from containerkit.images.commit import committing
from containerkit.images.pull import in_context
from containerkit.launch.process import both_parts
from containerkit.model.digest import Digest
from containerkit.model.healthcheck import of_option
from containerkit.model.instructions import apply_changes
from containerkit.model.reference import Reference
from containerkit.model.rootfs import Overlay
from containerkit.runtime import begin, codec, nested
from containerkit.runtime import status as words
from containerkit.runtime.birth import Kept
from containerkit.runtime.contents import NOT_APART, held_still, ids_within, owners_of
from containerkit.runtime.rootplan import root_plan
from containerkit.runtime.written import Room, Upper, pieces_inside
from containerkit.state import events, userns

if TYPE_CHECKING:
    from containerkit.images.image import Image
    from containerkit.model.image_config import ImageConfig
    from containerkit.runtime.observed import Observed

_SAID: Final = 1024
"""Characters of the command that a history keeps."""


def commit(
    container: Observed,
    reference: str | Reference | None,
    *,
    message: str,
    author: str,
    changes: str | Sequence[str],
) -> Image:
    """Do `Container.commit`."""
    short = container.id[:12]
    attempt = f"cannot commit container {short}"
    nested.refuse(f"commit container {short}", NOT_APART)
    container._require("commit", *words.STATUSES[:-1])
    row = container._read_row()
    kept = Kept.of(row)
    with in_context(attempt):
        name = _name(reference)
        config = config_of(kept, codec.load(row.labels))
        changed = apply_changes(config, changes)
        upper = _upper(container, kept)
    keeper = container._keeper
    images = keeper.stores.images
    chain = [Digest.parse(one) for one in kept.chain_ids]
    with in_context(attempt), committing(images) as made:
        with begin.leased(keeper, kept), held_still(container):
            room = Room(*made.begin(Digest.parse(kept.digest), chain))
            if upper is not None:
                with contextlib.closing(_pieces(container, upper, room)) as pieces:
                    made.add_layer(pieces)
        digest = made.finish(
            changed,
            name,
            created_by=" ".join(config.cmd)[:_SAID],
            comment=message,
            author=author,
        )
    image = images._load(digest, str(name or digest))
    events.append(
        keeper.root, "commit", container.id, name=row.name, image=row.reference,
        comment=message or None, image_id=image.id, reference=None if name is None else str(name),
    )  # fmt: skip
    return image


def _name(reference: str | Reference | None) -> Reference | None:
    if reference is None:
        return None
    name = reference if isinstance(reference, Reference) else Reference.parse(reference)
    if name.digest is not None:
        raise InvalidReference(f"{name} is pinned", hint="name it without @sha256:…")
    return name


# ---- its files


def _upper(container: Observed, kept: Kept) -> Upper | None:
    """Return where a container writes; None: nowhere."""
    mounts = kept.rootfs.mounts
    if len(mounts) != 1 or not (
        isinstance(mounts[0], Overlay)
        and all(lower.startswith("layers/") for lower in mounts[0].lowers)
    ):
        raise ConfigError(
            "its image is the host's own files, which are in no layer",
            hint="start it from an image of a registry; export() gives all its files as a tar",
        )
    keeper = container._keeper
    plan = root_plan(container._planned(copied=False))
    top = next(stack for stack in plan.stacks if stack.target == "/")
    if top.upper is None:
        return None
    return Upper(
        str(container._directory / "upper" / top.upper),
        tuple(str(keeper.root / lower) for lower in top.lowers),
        top.target,
        tuple(sorted(plan.covered(top))),
        userns.marks(),
    )


def _pieces(container: Observed, upper: Upper, room: Room) -> Generator[bytes, None, None]:
    """Yield the layer, with owners as the container sees them."""
    root = container._keeper.root
    if userns.is_needed():  # some files keep out who is not root, or not their owner
        return pieces_inside(root, upper, room, ids_within(container))
    return upper.pieces(room, owners_of(container))


# ---- what it says


def config_of(kept: Kept, labels: Mapping[str, str]) -> ImageConfig:
    """Return what an image of a container says of its process.

    Args:
        kept: the container.
        labels: those of its image and its own.
    """
    options = kept.options
    entrypoint, cmd = both_parts(kept.config, kept.command, options.get("entrypoint"))
    given: dict[str, Any] = {
        "entrypoint": entrypoint,
        "cmd": cmd,
        "env": _env(kept.config.env, options.get("env") or {}),
        "labels": labels,
    }
    for field, option in (("workdir", "workdir"), ("user", "user"), ("stop_signal", "stop_signal")):
        value = options.get(option)
        if value is not None:
            given[field] = str(value)
    check = options.get("healthcheck")
    if check is not None:
        given["healthcheck"] = of_option(check).to_image()
    return attrs.evolve(kept.config, **given)


def _env(image: Sequence[str], own: Mapping[str, str | None]) -> tuple[str, ...]:
    found: dict[str, str | None] = dict(entry.partition("=")[::2] for entry in image)
    found.update(own)
    return tuple(f"{name}={value}" for name, value in found.items() if value is not None)
