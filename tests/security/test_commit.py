"""What a commit could give away, or be fooled by: secrets, links swapped in, overlayfs's own marks."""

from __future__ import annotations

import contextlib
import gzip
import os
import time
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.runtime.compare import Comparison
from containerkit.runtime.written import Room, layer_pieces
from tests.support.patience import DEADLINE
from tests.support.swap import swapping

SECRET = b"nobody is to know this"
SHARED = "everybody may know that"
ROUNDS = 200


def holds(place: Path, wanted: bytes) -> bool:
    """Whether a file says something, as it is or inflated."""
    for path in place.rglob("*"):
        if path.is_file() and path.stat().st_size < 1 << 24:
            data = path.read_bytes()
            with contextlib.suppress(OSError, EOFError):
                data += gzip.decompress(data)
            if wanted in data:
                return True
    return False


def test_secrets_are_in_no_image(engine_root: Path, hostile: str, tmp_path: Path) -> None:
    """The control is the environment, which is in it as in Docker's."""
    (tmp_path / "file").write_bytes(SECRET)
    secrets: dict[str, bytes | str | Path] = {
        "one": SECRET,
        "two": SECRET.decode(),
        "three": tmp_path / "file",
    }
    command = ["sh", "-c", "cat /run/secrets/* > /dev/shm/all; echo x > /x; exec sleep 100000"]
    with ck.Engine.open(engine_root) as engine:
        with engine.start(hostile, command, secrets=secrets, env={"A": SHARED}) as box:
            box.wait_ready(command="test -e /x", timeout=DEADLINE)
            image = box.commit("told")
            assert SECRET.decode() not in repr(image) + repr(image.config) + str(image.history)
        assert holds(engine_root / "blobs", SHARED.encode())
        assert not holds(engine_root, SECRET)
        assert engine.run("told", ["ls", "/run/secrets"]).returncode != 0


@pytest.fixture
def swapped(tmp_path: Path) -> tuple[Path, Path]:
    """An upper directory in which x is a directory, or a link to one outside; and a lower."""
    for name in ("outside", "upper/x", "lower/x"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "secret").write_bytes(b"inside")
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    (tmp_path / "upper" / "link").symlink_to(tmp_path / "outside")
    return tmp_path / "upper", tmp_path / "lower"


def layer(upper: Path, lower: Path) -> bytes:
    found = Comparison("/", frozenset(), marks="user", whole=True).run(upper, [lower])
    return b"".join(layer_pieces(found, marks="user", room=Room(1000, 1 << 20)))


def test_a_link_swapped_in(swapped: tuple[Path, Path]) -> None:
    """Where nothing can hold a container still, it goes on while it is read."""
    upper, lower = swapped
    assert b"link" in layer(upper, lower)
    with swapping(str(upper / "x"), str(upper / "link")):
        for _ in range(ROUNDS):
            assert SECRET not in layer(upper, lower)


def test_the_control(swapped: tuple[Path, Path]) -> None:
    """Whoever trusts the path reads outside."""
    upper, _ = swapped
    deadline = time.monotonic() + DEADLINE
    with swapping(str(upper / "x"), str(upper / "link")):
        while (upper / "x" / "secret").read_bytes() != SECRET:
            assert time.monotonic() < deadline


@pytest.mark.needs("host root")  # as whom other attributes mean something
def test_marks_that_a_container_set(engine: ck.Engine, hostile: str) -> None:
    """Attributes that are overlayfs's own for ordinary users are a file's like any other here."""
    with engine.containers.create(hostile, ["true"]) as box:
        box.files.mkdir("/attacks/new")
        box.files.write_bytes("/etc/empty", b"")
        upper = engine.root / "containers" / box.id / "upper" / "0"
        if not upper.exists():
            (upper,) = (engine.root / "containers" / box.id / "upper").iterdir()
        os.setxattr(upper / "attacks", "user.overlay.opaque", b"y")
        os.setxattr(upper / "etc" / "empty", "user.overlay.whiteout", b"y")
        lowers = [engine.root / name for name in image_lowers(engine, hostile)]
        fooled = Comparison("/", frozenset(), marks="user").run(upper, lowers)
        with contextlib.closing(fooled):
            assert "deleted" in {one.kind for one in fooled}
        assert "deleted" not in {one.kind for one in box.diff()}
        image = box.commit()
        # And what only the kernel can have set, where it keeps files in parts: no layer can say it.
        os.setxattr(upper / "etc" / "empty", "trusted.overlay.metacopy", b"")
        with pytest.raises(ck.MissingFeature, match="kept by overlayfs"):
            box.commit()
    told = engine.run(image, ["ls", "-d", "/attacks/shocker", "/etc/empty"])
    assert told.check().stdout == b"/attacks/shocker\n/etc/empty\n"
    engine.images.prune()


def image_lowers(engine: ck.Engine, image: str) -> list[str]:
    layers = engine.images.get(image).layers
    return [f"layers/{one.chain_id.partition(':')[2]}" for one in reversed(layers)]
