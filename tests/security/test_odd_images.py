"""Images that are in order, and odd: what they name must not be in the way of anything else.

The control is the same image in the usual form.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import containerkit as ck
from containerkit.errors import HostError, InvalidSpec
from containerkit.model.digest import Digest, chain_ids
from containerkit.model.image_config import MAX_LAYERS
from tests.security.stranger import Stranger
from tests.support import ocibuild
from tests.support.patience import until


@pytest.fixture
def engine(engine_root: Path) -> Iterator[ck.Engine]:
    """An engine on a root of its own: what a collection leaves is asked, so no other test's may be there."""
    with ck.Engine.open(engine_root) as opened:
        yield opened


def sha512(data: bytes) -> str:
    return f"sha512:{hashlib.sha512(data).hexdigest()}"


def in_sha512(image: ocibuild.Image) -> ocibuild.Image:
    """The image with all that it names named by sha512."""
    document = image.document
    config = json.loads(image.blobs[document["config"]["digest"]])
    blobs: dict[str, bytes] = {}
    layers: list[dict[str, Any]] = []
    for layer in document["layers"]:
        data = image.blobs[layer["digest"]]
        blobs[sha512(data)] = data
        layers.append(layer | {"digest": sha512(data)})
    config["rootfs"]["diff_ids"] = [layer["digest"] for layer in layers]  # not compressed
    data = json.dumps(config).encode()
    blobs[sha512(data)] = data
    described = document["config"] | {"digest": sha512(data), "size": len(data)}
    changed = image.changed(config=described, layers=layers)
    return attrs.evolve(changed, blobs=blobs)


@pytest.mark.parametrize("odd", [False, True], ids=["sha256", "sha512"])
def test_an_image_by_another_hash(odd: bool, engine: ck.Engine) -> None:
    """It runs, is checked and collected as others are; its trees have names of one length."""
    image = ocibuild.busybox({"f": "x"}, compression="none")
    with Stranger() as registry:
        reference = registry.has(in_sha512(image) if odd else image)
        engine.images.pull(reference)
    trees = [path.name for path in Path(engine.root, "layers").iterdir() if path.name[0] != "."]
    assert {len(name) for name in trees} == {64}
    assert engine.run(reference, ["cat", "/f"], text=True).stdout == "x"
    assert engine.check().problems == ()
    assert engine.gc().layers == 0  # all of it is in use
    assert engine.run(reference, ["cat", "/f"], text=True).stdout == "x"
    engine.images.remove(reference)
    # What a run used is let go of a moment after it.
    until(lambda: not left(engine), "something is left")


@pytest.mark.parametrize("owner", [0, 5])
def test_directories_that_nobody_may_open_are_checked_and_collected(
    owner: int, engine: ck.Engine
) -> None:
    """An ordinary user is kept out by such modes of its own files, and by other owners."""
    shut = ocibuild.Entry(tarfile.DIRTYPE, mode=0, uid=owner, gid=owner)
    file = ocibuild.Entry(data=b"x", mode=0, uid=owner)
    odd = ocibuild.image([{".": shut, "shut": shut, "shut/file": file}])
    usual = ocibuild.busybox({"f": "y"}, compression="none")
    references = []
    for one in (odd, usual):
        with Stranger() as registry:
            references.append(registry.has(one))
            engine.images.pull(references[-1])
    assert engine.check().problems == ()
    assert engine.run(references[1], ["cat", "/f"], text=True).stdout == "y"
    for reference in references:
        engine.images.remove(reference)
    until(lambda: not left(engine), "something is left")


def left(engine: ck.Engine) -> list[str]:
    """Return what a collection leaves of content."""
    engine.gc()
    parts = [engine.root / part for part in ("layers", "blobs/sha256", "blobs/sha512", "ingest")]
    there = [path for part in parts if part.exists() for path in part.iterdir()]
    return [str(path) for path in there if path.name[0] != "."]


def test_names_of_trees_are_of_one_hash() -> None:
    long, short = Digest.parse(sha512(b"x")), Digest.of(b"x")
    assert {one.algorithm for one in chain_ids([long, long, short])} == {"sha256"}
    assert chain_ids([short]) == (short,)
    assert chain_ids([long])[0] != chain_ids([short])[0]


def test_layers_are_as_many_as_can_be_stacked(engine: ck.Engine) -> None:
    """One more could be pulled, and never started."""
    empty = ocibuild.layer(b"", "none")
    base = ocibuild.busybox(compression="none")
    [bottom] = base.document["layers"]
    config = json.loads(base.blobs[base.document["config"]["digest"]])
    with Stranger() as registry:
        for count in (MAX_LAYERS + 1, MAX_LAYERS):
            diff_ids = [bottom["digest"], *[empty.diff_id] * (count - 1)]
            data = json.dumps(config | {"rootfs": {"type": "layers", "diff_ids": diff_ids}})
            made = ocibuild.image_of(data.encode(), [empty] * (count - 1))
            made = attrs.evolve(made, blobs={**base.blobs, **made.blobs})
            made = made.changed(layers=[bottom, *made.document["layers"]])
            reference = registry.has(made, tag=str(count))
            if count > MAX_LAYERS:
                with pytest.raises(InvalidSpec, match="more than 500"):
                    engine.images.pull(reference)
            else:
                engine.images.pull(reference)
                assert engine.run(reference, ["true"]).exit.ok


NEST = "i=0; while [ $i -lt 500 ]; do mkdir d; cd d; i=$((i + 1)); done"


def test_directories_too_deep_to_compare(engine: ck.Engine, busybox: str) -> None:
    """Made by whoever runs there, or by a working directory that is missing."""
    with engine.start(busybox, ["sh", "-c", NEST]) as box:
        assert box.wait(timeout=120).ok
        with pytest.raises(HostError, match="too deep"):
            box.diff()
    with Stranger() as registry:
        reference = registry.has(ocibuild.busybox(config={"WorkingDir": "/d" * 20}))
        with engine.start(reference, ["true"]) as box:
            box.wait(timeout=120)
            assert len(box.diff()) >= 20
