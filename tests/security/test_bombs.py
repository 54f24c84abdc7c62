"""Images that are small until they are read: memory, disk and time that they may take.

Each bomb is one: without the limit that stops it, it goes off (the control).  Limits are set low, so
that little is enough; the settings are those of `ImageLimits`.
"""

from __future__ import annotations

import gzip
import os
import stat
import threading
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import containerkit as ck
from containerkit.errors import ArchiveError, ConfigError, ContainerKitError, InvalidSpec
from containerkit.layers.apply import Allowance, apply_layer
from containerkit.model.digest import Digest
from containerkit.model.image_config import ImageConfig
from containerkit.model.image_limits import ImageLimits, widest
from containerkit.runtime.rootfiles import read_etc
from tests.security.stranger import Stranger
from tests.support import ocibuild
from tests.support.store import opened
from tests.support.tars import END, as_this_user, entry, header, pax, unpack

OCI = "application/vnd.oci.image.layer.v1.tar"
NOBODY = Digest("sha256", "0" * 64)


def apply(
    chunks: Iterable[bytes], destination: Path, kind: str = "+gzip", **limits: Any
) -> ContainerKitError:
    """Apply what must not become a layer; return why it did not."""
    with pytest.raises(ContainerKitError) as caught:
        apply_layer(
            chunks,
            media_type=OCI + kind,
            diff_id=NOBODY,
            destination=destination,
            limits=ImageLimits(**limits),
            **as_this_user(destination.parent / "root"),
        )
    return caught.value


# ---- one layer, by its archive -------------------------------------------------------------------


def both_sides(data: bytes, top: Path, limit: str, value: int) -> None:
    """At the limit it passes; one below it is refused."""
    (top / "within").mkdir()
    (top / "beyond").mkdir()
    unpack(data, top / "within", limits={limit: value})
    with pytest.raises(ArchiveError):
        unpack(data, top / "beyond", limits={limit: value - 1})


def test_entries_are_counted(tmp_path: Path) -> None:
    both_sides(b"".join(entry(b"f%d" % n) for n in range(50)) + END, tmp_path, "max_entries", 50)


def test_directories_that_no_entry_names_count_as_entries(tmp_path: Path) -> None:
    both_sides(entry(b"a/b/c/d/f") + entry(b"a/b/e/f") + END, tmp_path, "max_entries", 7)


def test_bytes_are_counted_together(tmp_path: Path) -> None:
    both_sides(
        entry(b"a", data=b"x" * 600) + entry(b"b", data=b"x" * 400) + END,
        tmp_path,
        "max_bytes",
        1000,
    )


def test_holes_count_as_bytes(tmp_path: Path) -> None:
    fields = {"GNU.sparse.size": b"50000000", "GNU.sparse.map": b"0,0"}
    both_sides(pax(fields) + entry(b"hole") + END, tmp_path, "max_bytes", 50_000_000)


def test_depth_is_counted(tmp_path: Path) -> None:
    both_sides(entry(b"d/" * 19 + b"f") + END, tmp_path, "max_depth", 20)


def test_extended_headers_are_bounded(tmp_path: Path) -> None:
    fields = b"x" * 1000
    both_sides(pax({"comment": fields}) + entry(b"f") + END, tmp_path, "max_meta_bytes", 1014)


def test_attributes_are_bounded(tmp_path: Path) -> None:
    fields = {"SCHILY.xattr.user.a": b"x" * 94, "SCHILY.xattr.user.b": b"y" * 94}
    both_sides(pax(fields) + entry(b"f") + END, tmp_path, "max_xattr_bytes", 200)


def test_what_follows_the_end_is_bounded(tmp_path: Path) -> None:
    unpack(entry(b"f") + END + bytes(1 << 20), tmp_path)
    with pytest.raises(ArchiveError, match="what follows the end"):
        unpack(entry(b"f") + END + bytes(17 << 20), tmp_path, limits={"max_bytes": 1 << 20})


def test_attributes_beyond_the_limit_are_not_even_tried(tmp_path: Path) -> None:
    """The file system would say that it is full, which is not the host's fault."""
    fields = [(f"SCHILY.xattr.user.a{number}", b"x" * 65_000) for number in range(200)]
    data = pax(fields) + entry(b"f") + END
    limits = {"max_meta_bytes": 16 << 20, "max_xattr_bytes": 1 << 20}
    with pytest.raises(ArchiveError):
        unpack(data, tmp_path, limits=limits)
    assert os.listxattr(tmp_path / "f") == []
    with pytest.raises(ArchiveError, match="extended header is too large"):
        unpack(data, tmp_path, limits={"max_meta_bytes": 1 << 20})


def million() -> Iterator[bytes]:
    """A million empty files, as the archive goes along."""
    compressor = zlib.compressobj(1, wbits=31)
    for start in range(0, 1_000_000, 2_000):
        block = b"".join(header(b"%d" % number) for number in range(start, start + 2_000))
        yield compressor.compress(block)
    yield compressor.compress(END) + compressor.flush()


def test_a_million_entries(tmp_path: Path) -> None:
    error = apply(million(), tmp_path, entries=1000)
    assert isinstance(error, ArchiveError)
    assert "too many entries" in str(error)
    assert "ImageLimits" in str(error)
    assert len(list(tmp_path.iterdir())) <= 1001


# ---- one layer, by its compression ---------------------------------------------------------------


def zeros(kind: str, size: int) -> Iterator[bytes]:
    """A compressed archive with one file of so many zeros, made as it is read."""
    if kind == "+zstd":
        import zstandard

        codec: Any = zstandard.ZstdCompressor(level=1).compressobj()
    else:
        codec = zlib.compressobj(9, wbits=31)
    yield codec.compress(header(b"zeros", size=b"%011o" % size))
    piece = bytes(1 << 20)
    for _ in range(size >> 20):
        made = codec.compress(piece)
        if made:
            yield made
    yield codec.compress(END) + codec.flush()


@pytest.mark.parametrize("kind", ["+gzip", "+zstd"])
def test_a_bomb_of_2_gib(kind: str, tmp_path: Path) -> None:
    """It ends long before; and with as much allowed, so much of it is unpacked."""
    error = apply(zeros(kind, 2 << 30), tmp_path, kind, ratio_free="8MiB")
    assert isinstance(error, ArchiveError)
    assert "250 times as many" in str(error)
    assert "ImageLimits" in str(error)
    # Whoever writes may not have begun when whoever inflates has seen enough.
    assert sum(path.stat().st_blocks for path in tmp_path.iterdir()) * 512 <= 32 << 20


@pytest.mark.parametrize("kind", ["+gzip", "+zstd"])
def test_what_is_allowed_to_expand_does(kind: str, tmp_path: Path) -> None:
    """The control: but for the limit it is a layer like any other."""
    data = b"".join(zeros(kind, 9 << 20))
    error = apply([data], tmp_path, kind, ratio_free="8MiB", ratio=100)
    assert "100 times" in str(error)
    (tmp_path / "again").mkdir()
    error = apply([data], tmp_path / "again", kind, ratio_free="10MiB", ratio=100)
    assert isinstance(error, ck.DigestMismatch)  # unpacked to its end
    assert (tmp_path / "again" / "zeros").stat().st_size == 9 << 20


def test_memory_is_bounded(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        apply(zeros("+gzip", 128 << 20), tmp_path, ratio_free="64MiB")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 48 << 20


def test_a_window_beyond_the_limit(tmp_path: Path) -> None:
    import zstandard

    parameters = zstandard.ZstdCompressionParameters(window_log=24)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    made = compressor.compressobj()
    data = made.compress(entry(b"f", data=bytes(100)) + END) + made.flush()
    assert "decompress" in str(apply([data], tmp_path, "+zstd", window="8MiB"))
    assert isinstance(apply([data], tmp_path, "+zstd", window="16MiB"), ck.DigestMismatch)


# ---- a whole image -------------------------------------------------------------------------------


def test_layers_share_one_allowance(tmp_path: Path) -> None:
    data = b"".join(entry(b"f%d" % number, data=b"x" * 1000) for number in range(10)) + END
    limits = ImageLimits(entries=25, size=25_000)
    together = Allowance(limits)

    def one(name: str) -> None:
        (tmp_path / name).mkdir()
        apply_layer(
            [data],
            media_type=OCI,
            diff_id=Digest.of(data),
            destination=tmp_path / name,
            limits=limits,
            allowance=together,
            **as_this_user(tmp_path / "root"),
        )

    one("1")
    one("2")
    with pytest.raises(ArchiveError, match="together"):
        one("3")
    with pytest.raises(ArchiveError, match="together"):
        one("4")
    together.give_back(10, 10_000)  # what failed has given its part back itself
    one("5")


def test_an_allowance_is_for_many_threads() -> None:
    together = Allowance(ImageLimits(entries=1000))
    refused: list[BaseException] = []

    def take() -> None:
        for _ in range(100):
            try:
                together.take(1, 0)
            except ArchiveError as error:
                refused.append(error)
                together.give_back(1, 0)

    threads = [threading.Thread(target=take) for _ in range(11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) >= 100


TIGHT: dict[str, tuple[dict[str, Any], type[ContainerKitError]]] = {
    "manifest": ({"manifest": 1024}, InvalidSpec),
    "config": ({"config": 1024}, InvalidSpec),
    "layers": ({"layers": 2}, InvalidSpec),
    "stored": ({"stored": 300}, InvalidSpec),
    "size": ({"size": 29_999}, ArchiveError),
    "entries": ({"entries": 8}, ArchiveError),
    "depth": ({"depth": 2}, ArchiveError),
    "ratio": ({"ratio": 5, "ratio_free": 0}, ArchiveError),
}


def bloated() -> ocibuild.Image:
    """An image of three layers with a little of everything."""
    layers = [{f"a{number}/b/c": b"x" * 10_000} for number in range(3)]
    made = ocibuild.image(layers, config={"Labels": {"much": "y" * 2000}})
    return made.changed(annotations={"much": "z" * 2000})


@pytest.mark.parametrize("limit", TIGHT)
def test_each_limit_of_an_image(limit: str, engine_root: Path) -> None:
    """Just pulled within the limits, refused beyond; and what is here is used whatever they are."""
    tight, kind = TIGHT[limit]
    with Stranger() as registry:
        reference = registry.has(bloated())
        with opened(engine_root, limits=ImageLimits(**tight)) as store:
            with pytest.raises(kind) as caught:
                store.images.pull(reference)
            assert caught.type is kind
            assert store.images.list() == ()
            store.images.gc()
            assert store.is_empty(), store.debris()
        with opened(engine_root) as store:
            store.images.pull(reference)
    with opened(engine_root, limits=ImageLimits(**tight)) as store:
        image = store.images.get(reference)
        assert len(image.config.labels["much"]) == 2000
        store.catalog.row("SELECT 1")
        with store.images._lease(image):
            assert image._rootfs.mounts


def test_an_engine_has_limits(engine_root: Path) -> None:
    config = ck.EngineConfig(image_limits=ck.ImageLimits(entries=8))
    with Stranger() as registry, ck.Engine.open(engine_root, config=config) as engine:
        reference = registry.has(bloated())
        with pytest.raises(ArchiveError, match="image_limits"):
            engine.images.pull(reference)


def test_layers_that_are_here_count_too(engine_root: Path) -> None:
    """Else an image too large would come in two pulls."""
    first: dict[str, ocibuild.Content] = {f"f{number}": b"x" for number in range(6)}
    second: dict[str, ocibuild.Content] = {f"g{number}": b"x" for number in range(6)}
    limits = ImageLimits(entries=10)
    with Stranger() as registry, opened(engine_root, limits=limits) as store:
        store.images.pull(registry.has(ocibuild.image([first]), tag="1"))
        with pytest.raises(ArchiveError, match="together"):
            store.images.pull(registry.has(ocibuild.image([first, second]), tag="2"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"entries": -1},
        {"entries": 1.5},
        {"entries": True},
        {"entries": "many"},
        {"layers": 5000},
        {"depth": 257},
        {"ratio": 0},
        {"manifest": "65MiB"},
        {"size": "huge"},
        {"window": 0},
    ],
)
def test_limits_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="image limit"):
        ImageLimits(**wrong)


def test_limits_are_sizes_or_counts() -> None:
    limits = ImageLimits(size="1GiB", config="64k", entries=5)
    assert (limits.size, limits.config, limits.entries) == (1 << 30, 64 << 10, 5)
    assert widest().depth == 256


# ---- a config, and the files of accounts ---------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b'{"rootfs":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"history":[' + b"[]," * 500_000 + b"[]]}",
        b'{"a":' + b"9" * 1_000_000 + b"}",
        b"{" + b'"a":1,' * 100_000 + b'"a":1}',
        b'"' + b"\\" * 1_000_000,
        b" " * ((8 << 20) + 1),
    ],
    ids=["deep", "many", "number", "duplicates", "quotes", "long"],
)
def test_a_document_that_takes_too_much(data: bytes) -> None:
    with pytest.raises(InvalidSpec):
        ImageConfig.parse(data)


def passwd(tree: Path, make: Any) -> bytes | None:
    (tree / "etc").mkdir()
    make(tree / "etc" / "passwd")
    return read_etc([str(tree)], "passwd")


def test_a_file_of_accounts_is_read_up_to_1_mib(tmp_path: Path) -> None:
    found = passwd(tmp_path, lambda path: path.write_bytes(b"x" * (5 << 20)))
    assert found is not None
    assert len(found) == 1 << 20


def test_a_hole_for_accounts_is_not_read_to_its_end(tmp_path: Path) -> None:
    def hole(path: Path) -> None:
        path.touch()
        os.truncate(path, 1 << 40)

    assert len(passwd(tmp_path, hole) or b"") == 1 << 20


def test_accounts_that_are_a_fifo_are_not_waited_for(tmp_path: Path) -> None:
    assert passwd(tmp_path, os.mkfifo) is None


def test_accounts_that_are_a_link_are_not_followed(tmp_path: Path) -> None:
    assert passwd(tmp_path, lambda path: path.symlink_to("/etc/passwd")) is None


@pytest.mark.needs("device nodes")
def test_accounts_that_are_a_device_are_not_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To open one may do something: this host's watchdog would have rebooted it.

    The device here is one that there is no driver of, for which open(2) fails: as it does in the
    control.
    """

    def device(path: Path) -> None:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(241, 77))

    opens: list[int] = []
    real = os.open

    def watched(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if str(path).endswith("passwd"):
            opens.append(flags)
        return real(path, flags, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", watched)
        assert passwd(tmp_path, device) is None
    assert opens
    assert all(flags & os.O_PATH for flags in opens)
    with pytest.raises(OSError, match="No such device"):
        os.close(os.open(tmp_path / "etc/passwd", os.O_RDONLY | os.O_NONBLOCK))


def test_a_damaged_bomb_is_an_archive_error(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(entry(b"f", data=bytes(100_000)) + END))
    data[40] ^= 0xFF
    assert isinstance(apply([bytes(data)], tmp_path), ArchiveError)
