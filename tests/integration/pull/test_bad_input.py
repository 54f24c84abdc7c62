"""Whatever a registry sends: a typed error that says what, and a store as if nothing had happened."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from containerkit.errors import (
    ArchiveError,
    BlobNotFound,
    ConfigError,
    ContainerKitError,
    CorruptContent,
    DigestMismatch,
    ImageNotFound,
    InvalidReference,
    InvalidSpec,
    RateLimited,
    RegistryError,
    SizeMismatch,
    TransportError,
    Unauthorized,
    UnsafePath,
    UnsupportedMediaType,
)
from tests.integration.pull.images import check_layered, layered
from tests.support import ocibuild
from tests.support.faultproxy import FOREVER, Fault, FaultProxy
from tests.support.registry import RegistryServer
from tests.support.store import Store

Kind = type[ContainerKitError]
ALWAYS = FOREVER


def flipped(data: bytes) -> bytes:
    """Return *data* with one bit changed, where gzip keeps its checksum."""
    return data[:-6] + bytes([data[-6] ^ 1]) + data[-5:]


def refuse(store: Store, reference: str, kind: Kind, *, text: str = "cannot pull") -> None:
    """Pull, expect an error of exactly *kind*, and nothing left."""
    with pytest.raises(kind) as caught:
        store.images.pull(reference)
    assert caught.type is kind, repr(caught.value)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert store.is_empty(), store.debris()


# ---- on the way --------------------------------------------------------------------------------

WIRE: Sequence[tuple[str, Fault, Kind]] = [
    ("401", Fault("/manifests/", status=401, times=ALWAYS), Unauthorized),
    ("403", Fault("/manifests/", status=403, times=ALWAYS), Unauthorized),
    ("404", Fault("/manifests/", status=404, times=ALWAYS), ImageNotFound),
    (
        "429",
        Fault("/manifests/", status=429, headers={"Retry-After": "7200"}, times=ALWAYS),
        RateLimited,
    ),
    ("500", Fault("/manifests/", status=500, times=ALWAYS), RegistryError),
    ("503", Fault("/manifests/", status=503, times=ALWAYS), RegistryError),
    ("100 MB", Fault("/manifests/", length=100 << 20, times=ALWAYS), InvalidSpec),
    ("no JSON", Fault("GET .*/manifests/", edit=lambda _: b"<html>", times=ALWAYS), DigestMismatch),
    ("blob 404", Fault("/blobs/", status=404, times=ALWAYS), BlobNotFound),
    ("blob 401", Fault("/blobs/", status=401, times=ALWAYS), Unauthorized),
    ("blob 500", Fault("/blobs/", status=500, times=ALWAYS), RegistryError),
    ("blob reset", Fault("/blobs/", after=0, then="reset", times=ALWAYS), TransportError),
    ("blob longer", Fault("/blobs/", edit=lambda data: data + b"!", times=ALWAYS), SizeMismatch),
    (
        "blob longer, chunked",
        Fault("/blobs/", edit=lambda data: data + b"!", chunked=True, times=ALWAYS),
        SizeMismatch,
    ),
    ("config changed", Fault("/blobs/", edit=flipped, times=ALWAYS), DigestMismatch),
]


@pytest.mark.parametrize(("fault", "kind"), [row[1:] for row in WIRE], ids=[row[0] for row in WIRE])
def test_what_goes_wrong_on_the_way(
    store: Store, registry: RegistryServer, fault: Fault, kind: Kind
) -> None:
    name = registry.push("wire/a", layered()).partition("/")[2]
    with FaultProxy(registry.host, fault) as proxy:
        refuse(store, f"{proxy.host}/{name}", kind)
    store.images.pull(f"{registry.host}/{name}")
    check_layered(store, f"{registry.host}/{name}")


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_a_layer_that_was_changed_on_the_way(
    store: Store, registry: RegistryServer, compression: ocibuild.Compression
) -> None:
    made = layered(compression=compression)
    name = registry.push("wire/b", made).partition("/")[2]
    digest = made.document["layers"][0]["digest"]
    fault = Fault(f"/blobs/{digest}", edit=flipped, times=ALWAYS)
    with FaultProxy(registry.host, fault) as proxy, pytest.raises(CorruptContent):
        store.images.pull(f"{proxy.host}/{name}")
    assert store.images.list() == ()
    assert digest.partition(":")[2] not in store.blobs()
    store.check_blobs()
    store.images.gc()
    assert store.is_empty()


@pytest.mark.parametrize("what", ["config", "layer", "manifest"])
def test_what_is_changed_once_on_the_way_is_fetched_again(
    store: Store, registry: RegistryServer, what: str
) -> None:
    made = layered()
    name = registry.push("wire/once", made).partition("/")[2]
    paths = {
        "config": f"/blobs/{made.document['config']['digest']}",
        "layer": f"/blobs/{made.document['layers'][1]['digest']}",
        "manifest": "GET .*/manifests/",
    }
    path = paths.pop(what)
    with FaultProxy(registry.host, Fault(path, edit=flipped)) as proxy:
        store.images.pull(f"{proxy.host}/{name}")
        check_layered(store, f"{proxy.host}/{name}")
        assert len(proxy.requests(path)) == 2
        assert [len(proxy.requests(other)) for other in paths.values()] == [1, 1]


def test_what_is_changed_twice_is_not_fetched_a_third_time(
    store: Store, registry: RegistryServer
) -> None:
    made = layered(compression="none")
    name = registry.push("wire/twice", made).partition("/")[2]
    for part in ("config", "layers"):
        found = made.document[part]
        path = f"/blobs/{(found if part == 'config' else found[1])['digest']}"
        with FaultProxy(registry.host, Fault(path, edit=flipped, times=ALWAYS)) as proxy:
            with pytest.raises(CorruptContent) as caught:
                store.images.pull(f"{proxy.host}/{name}")
            assert len(proxy.requests(path)) == 2
        assert "fetched twice" in (caught.value.hint or "")


def test_an_image_that_is_wrong_itself_is_not_fetched_again(
    store: Store, registry: RegistryServer
) -> None:
    for number, kind in enumerate(
        ("other diff id", "a bomb", "climbs out", "gzip that ends early")
    ):
        made = IMAGES[kind][0]()
        name = registry.push(f"wire/wrong{number}:1", made).partition("/")[2]
        path = f"/blobs/{made.document['layers'][0]['digest']}"
        with FaultProxy(registry.host) as proxy:
            with pytest.raises(CorruptContent):
                store.images.pull(f"{proxy.host}/{name}")
            assert len(proxy.requests(path)) == 1, kind


def test_what_a_mirror_changes_is_fetched_from_the_registry(
    store: Store, registry: RegistryServer
) -> None:
    made = layered()
    name = registry.push("wire/mirrored", made).partition("/")[2]
    with (
        FaultProxy(registry.host, Fault("/blobs/", edit=flipped, times=ALWAYS)) as mirror,
        FaultProxy(registry.host) as proxy,
    ):
        store.images.pull(f"{proxy.host}/{name}", mirrors=[mirror.host])
        check_layered(store, f"{proxy.host}/{name}")
        assert len(mirror.requests("/blobs/")) == len(proxy.requests("/blobs/")) == 5


def test_a_mirror_that_breaks_is_asked_once(store: Store, registry: RegistryServer) -> None:
    name = registry.push("wire/dead", layered()).partition("/")[2]
    reset = Fault("/manifests/", after=0, then="reset", times=ALWAYS)
    with FaultProxy(registry.host, reset) as mirror:
        store.images.pull(f"{registry.host}/{name}", mirrors=[mirror.host])
        assert mirror.requests("/manifests/")
        assert mirror.requests("/blobs/") == []
    check_layered(store, f"{registry.host}/{name}")


@pytest.mark.parametrize("then", ["close", "reset"])
def test_a_download_that_always_breaks_keeps_what_came(
    store: Store, registry: RegistryServer, then: Any
) -> None:
    made = layered()
    name = registry.push("wire/c", made).partition("/")[2]
    digest = made.document["layers"][1]["digest"]
    fault = Fault(f"/blobs/{digest}", after=300_000, then=then, times=ALWAYS, no_range=True)
    with FaultProxy(registry.host, fault) as proxy, pytest.raises(TransportError) as caught:
        store.images.pull(f"{proxy.host}/{name}")
    assert name in str(caught.value)
    assert digest in str(caught.value)
    assert store.images.list() == ()
    left = [name for name in store.debris() if digest.partition(":")[2] in name]
    assert left == [f"ingest/{digest.replace(':', '-')}"]
    store.images.gc()
    assert store.is_empty()


# ---- in the image ------------------------------------------------------------------------------


def with_config(**members: Any) -> ocibuild.Image:
    """Return an image whose config has other members."""
    layer = ocibuild.layer({"f": "x"})
    document = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
    }
    return ocibuild.image_of(json.dumps(document | members).encode(), [layer])


def with_layer(**members: Any) -> ocibuild.Image:
    """Return an image whose manifest describes its layer otherwise."""
    made = ocibuild.image([{"f": "x"}])
    return made.changed(layers=[made.document["layers"][0] | members])


def of_tar(*entries: tuple[str, ocibuild.Content]) -> ocibuild.Image:
    return ocibuild.image([ocibuild.layer(ocibuild.tar(entries, parents=False))])


def of_layer(data: bytes, diff: bytes) -> ocibuild.Image:
    """Return an image of one gzip layer with exactly these stored bytes."""
    return ocibuild.image([ocibuild.Layer(data, ocibuild.sha256(diff))])


def cut() -> ocibuild.Image:
    data = ocibuild.tar([("f", b"x" * 100_000)])
    return of_layer(gzip.compress(data, mtime=0)[:-50], data)


def big(size: int) -> ocibuild.Image:
    """Return an image whose layer says it has a file of *size* bytes."""
    buffer = io.BytesIO()
    info = tarfile.TarInfo("huge")
    info.size = size
    buffer.write(info.tobuf(tarfile.GNU_FORMAT))
    return ocibuild.image([ocibuild.layer(buffer.getvalue() + bytes(10240))])


def artifact() -> ocibuild.Image:
    made = ocibuild.image([{"f": "x"}])
    config = made.document["config"] | {"mediaType": "application/vnd.cncf.helm.config.v1+json"}
    return made.changed(config=config)


IMAGES: Mapping[str, tuple[Callable[[], ocibuild.Image], Kind]] = {
    "an artifact": (artifact, UnsupportedMediaType),
    "unknown layer": (
        lambda: with_layer(mediaType="application/vnd.oci.image.layer.v1.tar+xz"),
        UnsupportedMediaType,
    ),
    "layer size too small": (lambda: with_layer(size=3), SizeMismatch),
    "layer size too large": (lambda: with_layer(size=1 << 20), SizeMismatch),
    "other diff id": (
        lambda: with_config(
            rootfs={"type": "layers", "diff_ids": [ocibuild.sha256(b"something else")]}
        ),
        DigestMismatch,
    ),
    "too few diff ids": (
        lambda: with_config(rootfs={"type": "layers", "diff_ids": []}),
        InvalidSpec,
    ),
    "gzip that ends early": (cut, ArchiveError),
    "no gzip": (lambda: of_layer(b"something else entirely", b""), ArchiveError),
    "no tar": (lambda: of_layer(gzip.compress(b"x" * 5000, mtime=0), b"x" * 5000), ArchiveError),
    "a bomb": (lambda: big(1 << 40), ArchiveError),
    "too deep": (lambda: of_tar(("d/" * 300 + "f", b"")), ArchiveError),
    "climbs out": (lambda: of_tar(("../../escaped", b"x")), UnsafePath),
    "climbs out through a link": (
        lambda: of_tar(("up", ocibuild.symlink("../../../..")), ("up/../../../escaped", b"x")),
        UnsafePath,
    ),
    "links out": (
        lambda: of_tar(("link", ocibuild.hardlink("../../catalog.sqlite"))),
        UnsafePath,
    ),
}


@pytest.mark.parametrize(("make", "kind"), IMAGES.values(), ids=IMAGES.keys())
def test_what_is_wrong_in_an_image(
    store: Store,
    registry: RegistryServer,
    make: Callable[[], ocibuild.Image],
    kind: Kind,
    engine_root: Path,
) -> None:
    made = make()
    document = made.document
    reference = registry.push("image/a", made)
    with pytest.raises(kind) as caught:
        store.images.pull(reference)
    assert caught.type is kind, repr(caught.value)
    assert reference in str(caught.value)
    assert store.images.list() == ()
    store.images.gc()
    assert store.is_empty(), (store.debris(), document)
    assert sorted(engine_root.parent.rglob("escaped")) == []


@pytest.mark.parametrize("name", ["", "docker.io/UPPER", "a b", "x@sha256:12", "../x", "a:b:c"])
def test_what_is_no_reference(store: Store, name: str) -> None:
    with pytest.raises(InvalidReference):
        store.images.pull(name)


def test_a_platform_that_is_none(store: Store) -> None:
    with pytest.raises(ConfigError):
        store.images.pull("alpine", platform="no platform")


def test_nobody_listens(store: Store) -> None:
    with FaultProxy(None) as proxy:
        host = proxy.host
    refuse(store, f"{host}/gone/a:1", TransportError)
