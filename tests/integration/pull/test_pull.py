"""A pull brings an image here, whole, once, and says what it does."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest

from containerkit.errors import ImageNotFound, InUse, TransportError, Unauthorized
from containerkit.model.progress import Progress
from containerkit.state.lock import FileLock
from tests.integration.pull.images import blob_path, check_layered, layered
from tests.support import ocibuild
from tests.support.faultproxy import FOREVER, Fault, FaultProxy
from tests.support.registry import PASSWORD, USERNAME, RegistryServer
from tests.support.store import Store, opened


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("schema", ["oci", "docker"])
def test_every_kind_of_image(
    store: Store,
    registry: RegistryServer,
    compression: ocibuild.Compression,
    schema: ocibuild.Schema,
) -> None:
    files: Mapping[str, ocibuild.Content] = {
        "etc/name": "it",
        "bin/run": ocibuild.program("#!/bin/sh"),
    }
    made = ocibuild.image([files], compression=compression, schema=schema)
    image = store.images.pull(registry.push(f"kinds/{schema}-{compression}", made))
    (chain_id,) = image._chain_ids
    assert (store.snapshots.path(chain_id) / "etc/name").read_text() == "it"
    assert os.access(store.snapshots.path(chain_id) / "bin/run", os.X_OK)
    assert image.digest == made.digest
    assert image.id == made.document["config"]["digest"]
    assert image.size == len(made.data) + sum(map(len, made.blobs.values()))
    assert store.debris() == []


def test_a_pulled_image_is_found_by_every_name_it_has(
    store: Store, registry: RegistryServer
) -> None:
    reference = registry.push("names/a:1", layered())
    image = store.images.pull(reference)
    check_layered(store, reference)
    names = (reference, image.id, image.digest, image.id[7:19], image.pinned)
    assert {store.images.get(name) for name in names} == {image}
    assert (image.references, image.pinned) == ((reference,), store.images.resolve(reference))
    assert store.images.list() == (image,)
    for missing in ("other", "sha256:" + "0" * 64, "deadbeef", "Not A Reference"):
        with pytest.raises(ImageNotFound):
            store.images.get(missing)


def test_an_index_is_followed_by_platform(store: Store, registry: RegistryServer) -> None:
    platforms = ("linux/amd64", "linux/arm64", "linux/s390x")
    images = [ocibuild.image([{"p": name}], platform=name) for name in platforms]
    reference = registry.push("index/a", ocibuild.index(images))
    pulled = [store.images.pull(reference, platform=name) for name in platforms]
    assert [str(image.platform) for image in pulled] == list(platforms)
    assert str(store.images.get(reference).platform) == ocibuild.host_platform()
    assert {image.digest for image in store.images.list()} == {image.digest for image in pulled}
    assert all(len(store.images.get(image.digest).references) == 1 for image in pulled)
    assert str(store.images.pull(reference).platform) == ocibuild.host_platform()
    with pytest.raises(ImageNotFound, match="it has linux/amd64, linux/arm64, linux/s390x"):
        store.images.pull(reference, platform="linux/riscv64")


_FOREIGN = "linux/s390x"


def _both(registry: RegistryServer, name: str, content: str) -> str:
    """Push an image for this host and for another platform; return its name."""
    platforms = (ocibuild.host_platform(), _FOREIGN)
    images = [ocibuild.image([{"p": content + one}], platform=one) for one in platforms]
    return registry.push(name, ocibuild.index(images))


@pytest.mark.parametrize("order", ["host first", "foreign first"])
def test_platforms_of_a_name_are_held_beside_each_other(
    store: Store, registry: RegistryServer, order: str
) -> None:
    """The one of this host has the name; neither is pulled, or loses its name, for the other."""
    ensure = store.images._ensure
    reference = _both(registry, f"beside/{order[0]}", "")
    asked = (None, _FOREIGN) if order == "host first" else (_FOREIGN, None)
    for platform in asked:
        ensure(reference, platform=platform)
    host, foreign = (
        ensure(reference, pull="never"),
        ensure(reference, pull="never", platform=_FOREIGN),
    )
    assert (str(host.platform), str(foreign.platform)) == (ocibuild.host_platform(), _FOREIGN)
    assert store.images.get(reference) == host
    assert store.images.prune() == ()
    assert store.images._ensure(foreign.references[0], pull="never") == foreign
    store.images.remove(foreign)
    assert store.images.list() == (host,)


def test_a_name_that_is_here_for_another_platform_is_not_taken_for_this_host(
    store: Store, registry: RegistryServer
) -> None:
    reference = _both(registry, "foreign/a", "")
    store.images.pull(reference, platform=_FOREIGN)
    with pytest.raises(ImageNotFound, match=f"it is in this root for {_FOREIGN}"):
        store.images._ensure(reference, pull="never")
    assert str(store.images._ensure(reference).platform) == ocibuild.host_platform()
    with pytest.raises(ImageNotFound, match="for linux/riscv64: it is in this root"):
        store.images._ensure(reference, pull="never", platform="linux/riscv64")


def test_a_newer_foreign_image_leaves_the_name_to_the_one_of_this_host(
    store: Store, registry: RegistryServer
) -> None:
    host = store.images.pull(_both(registry, "newer/a", "old"))
    reference = _both(registry, "newer/a", "new")
    foreign = store.images.pull(reference, platform=_FOREIGN)
    assert store.images.get(reference) == host
    assert store.images._ensure(reference, platform=_FOREIGN) == foreign
    newer = store.images.pull(reference)
    assert store.images.get(reference) == newer != host
    assert store.images._ensure(reference, pull="never", platform=_FOREIGN) == foreign


def test_an_image_of_one_platform_is_taken_as_it_is(store: Store, registry: RegistryServer) -> None:
    reference = registry.push("single/a", ocibuild.image([{"p": "x"}], platform=_FOREIGN))
    image = store.images.pull(reference)
    assert store.images._ensure(reference, pull="never") == image


def test_an_image_for_another_platform_than_asked_for_is_refused(
    store: Store, registry: RegistryServer
) -> None:
    reference = registry.push("platform/a", ocibuild.image([{"p": "x"}], platform="linux/arm64"))
    with pytest.raises(ImageNotFound, match="is for linux/arm64, not for linux/s390x"):
        store.images.pull(reference, platform="linux/s390x")


@pytest.mark.parametrize("system", ["windows", "freebsd"])
def test_an_image_that_is_not_for_linux_is_refused(
    store: Store, registry: RegistryServer, system: str
) -> None:
    platform = f"{system}/amd64"
    reference = registry.push("os/a", ocibuild.image([{"p": "x"}], platform=platform))
    for asked in (None, platform):
        with pytest.raises(ImageNotFound, match="only images for Linux") as refused:
            store.images.pull(reference, platform=asked)
        assert "platform=" in (refused.value.hint or "")


def test_an_image_of_zeros_is_one(store: Store, registry: RegistryServer) -> None:
    """Its layer is a thousand times its blob: what it holds counts first, how it is packed later."""
    zeros = ocibuild.layer({"zeros": b"\0" * (300 << 20)})
    assert 250 * len(zeros.data) < 300 << 20
    image = store.images.pull(registry.push("zeros/a", ocibuild.image([zeros])))
    assert image.size < 300 << 20


def test_an_image_without_layers(store: Store, registry: RegistryServer) -> None:
    image = store.images.pull(registry.push("empty/a", ocibuild.image([])))
    assert image.layers == ()
    with store.images._lease(image):
        assert image._rootfs.mounts[0].target == "/"


def test_the_same_layer_twice_is_fetched_once(store: Store, registry: RegistryServer) -> None:
    layer = ocibuild.layer({"f": "same"})
    name = registry.push("twice/a", ocibuild.image([layer, layer])).partition("/")[2]
    with FaultProxy(registry.host) as proxy:
        image = store.images.pull(f"{proxy.host}/{name}")
        assert len(proxy.requests(blob_path(image.layers[0].digest))) == 1
    assert len(store.trees()) == 2


def test_what_is_here_is_not_fetched_again(store: Store, registry: RegistryServer) -> None:
    base = ocibuild.layer({"base": "x"})
    one = registry.push("shared/one", ocibuild.image([base, {"one": "1"}])).partition("/")[2]
    two = registry.push("shared/two", ocibuild.image([base, {"two": "2"}])).partition("/")[2]
    with FaultProxy(registry.host) as proxy:
        first = store.images.pull(f"{proxy.host}/{one}")
        store.images.pull(f"{proxy.host}/{two}")
        assert len(proxy.requests(blob_path(first.layers[0].digest))) == 1
        del proxy.seen[:]
        events: list[Progress] = []
        assert store.images.pull(f"{proxy.host}/{one}", progress=events.append) == first
        assert [str(seen).partition(" ")[0] for seen in proxy.seen if seen.path != "/v2/"] == [
            "HEAD"
        ]
        assert [event.action for event in events] == ["resolve", "exists", "exists", "done"]
        del proxy.seen[:]
        store.images.pull(first.pinned)
        del proxy.seen[:]
        store.images.pull(first.pinned)
        assert proxy.seen == [], "a pinned image that is here needs no network"


def test_a_tag_that_moved_takes_its_name_along(store: Store, registry: RegistryServer) -> None:
    reference = registry.push("moved/a:1", ocibuild.image([{"f": "old"}]))
    old = store.images.pull(reference)
    registry.push("moved/a:1", ocibuild.image([{"f": "new"}]))
    new = store.images.pull(reference)
    assert new != old
    assert store.images.get(reference) == new
    assert store.images.get(old.digest).references == ()
    assert store.images.prune() == (old.digest,)
    assert store.images.list() == (new,)
    assert len(store.trees()) == 1


def test_progress_tells_every_layer_to_the_end_in_the_callers_thread(
    store: Store, registry: RegistryServer
) -> None:
    events: list[Progress] = []
    threads: set[int] = set()

    def note(event: Progress) -> None:
        events.append(event)
        threads.add(threading.get_ident())

    image = store.images.pull(registry.push("progress/a", layered()), progress=note)
    assert threads == {threading.get_ident()}
    assert (events[0].action, events[-1].action) == ("resolve", "done")
    for layer in image.layers:
        mine = [event for event in events if str(event.digest) == layer.digest]
        for action in ("download", "extract"):
            counts = [event.current for event in mine if event.action == action]
            assert counts == sorted(counts)
            assert counts[-1] == layer.size
        assert [event.action for event in mine][-2:] == ["verify", "done"]
    largest = [str(event.digest) for event in events if event.action == "download"][4:]
    assert largest[0] in {
        layer.digest for layer in sorted(image.layers, key=lambda one: -one.size)[:2]
    }


def test_a_progress_function_that_raises_ends_the_pull(
    store: Store, registry: RegistryServer
) -> None:
    reference = registry.push("raises/a", layered())

    def refuse(event: Progress) -> None:
        if event.action == "extract":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.images.pull(reference, progress=refuse)
    assert store.images.list() == ()
    store.images.pull(reference)
    check_layered(store, reference)


def test_a_broken_download_goes_on_where_it_broke(store: Store, registry: RegistryServer) -> None:
    made = layered()
    name = registry.push("broken/a", made).partition("/")[2]
    digest = made.document["layers"][1]["digest"]
    with FaultProxy(
        registry.host, Fault(blob_path(digest), after=1_000_000, then="reset")
    ) as proxy:
        store.images.pull(f"{proxy.host}/{name}")
        check_layered(store, f"{proxy.host}/{name}")
        ranges = [seen.headers.get("Range") for seen in proxy.requests(blob_path(digest))]
        assert ranges[0] is None
        assert ranges[1] is not None
        assert len(ranges) == 2


@pytest.mark.parametrize("no_range", [False, True])
def test_the_next_pull_goes_on_where_a_failed_one_stopped(
    store: Store, registry: RegistryServer, no_range: bool
) -> None:
    made = layered()
    name = registry.push("failed/a", made).partition("/")[2]
    digest = made.document["layers"][1]["digest"]
    always = Fault(blob_path(digest), after=700_000, then="close", times=FOREVER, no_range=True)
    with FaultProxy(registry.host, always) as proxy, pytest.raises(TransportError):
        store.images.pull(f"{proxy.host}/{name}")
    left = store.root.ingest / digest.replace(":", "-")
    there = left.stat().st_size
    assert 0 < there < made.document["layers"][1]["size"]
    faults = [Fault(blob_path(digest), times=FOREVER, no_range=True)] if no_range else []
    with FaultProxy(registry.host, *faults) as proxy:
        store.images.pull(f"{proxy.host}/{name}")
        check_layered(store, f"{proxy.host}/{name}")
        (seen,) = proxy.requests(blob_path(digest))
        assert seen.headers["Range"] == f"bytes={there}-"
    assert store.debris() == []


def test_rotten_partial_bytes_are_thrown_away_and_fetched_anew(
    store: Store, registry: RegistryServer
) -> None:
    """A power cut may leave holes in a file that was being written."""
    made = layered()
    reference = registry.push("rotten/a", made)
    digest = made.document["layers"][1]["digest"]
    (store.root.ingest / digest.replace(":", "-")).write_bytes(bytes(500_000))
    store.images.pull(reference)
    check_layered(store, reference)
    assert store.debris() == []


def test_a_rotten_blob_is_fetched_anew(store: Store, registry: RegistryServer) -> None:
    made = layered()
    reference = registry.push("rotten/b", made)
    image = store.images.pull(reference)
    for digest in (image.layers[1].digest, image.id, image.digest):
        path = store.root.path / "blobs/sha256" / digest.partition(":")[2]
        path.write_bytes(path.read_bytes()[:-10] + bytes(10))
    with store.catalog.transaction() as db:
        db.execute("DELETE FROM layers")
    store.images.pull(reference)
    check_layered(store, reference)


def test_a_layer_that_a_reboot_may_have_damaged_is_unpacked_from_its_blob(
    store: Store, registry: RegistryServer
) -> None:
    reference = registry.push("reboot/a", layered())
    image = store.images.pull(reference)
    store.snapshots.close()
    with store.catalog.transaction() as db:
        db.execute("UPDATE layers SET boot = 'another', durable = 0")
    (store.snapshots.path(image._chain_ids[1]) / "dir1/file").write_bytes(b"")
    with store.images._lease(image):
        check_layered(store, reference)
    assert store.debris() == []


def test_mirrors_are_asked_first_and_the_registry_stands_in(
    store: Store, registry: RegistryServer
) -> None:
    reference = registry.push("mirror/a", layered())
    name = reference.partition("/")[2]
    dead = Fault("GET .*/blobs/", status=503, times=FOREVER)
    with (
        FaultProxy(registry.host, dead) as half,
        FaultProxy(None, Fault("", status=404, times=FOREVER)) as none,
    ):
        store.images.pull(reference, mirrors=[none.host, half.host])
        assert half.requests(f"GET .*{name.partition(':')[0]}/manifests/")
        assert half.requests("/blobs/")
    check_layered(store, reference)


def test_names_come_and_go(store: Store, registry: RegistryServer) -> None:
    reference = registry.push("tags/a:1", layered())
    image = store.images.pull(reference)
    tagged = image.tag("my/name:2")
    assert tagged.references == (reference, "docker.io/my/name:2")
    assert store.images.get("my/name:2") == image
    with pytest.raises(InUse, match="it has the names"):
        store.images.remove(image.id)
    store.images.remove("my/name:2")
    with pytest.raises(ImageNotFound):
        store.images.get("my/name:2")
    store.images.remove(reference)
    assert store.is_empty()
    with pytest.raises(ImageNotFound, match="removed meanwhile"):
        image.tag("again")


def test_force_removes_an_image_with_several_names(store: Store, registry: RegistryServer) -> None:
    image = store.images.pull(registry.push("force/a", layered()))
    image.tag("other")
    store.images.get(image.id).remove(force=True)
    assert store.is_empty()


def test_a_handle_removes_its_image_with_the_names_that_it_was_given_since(
    store: Store, registry: RegistryServer
) -> None:
    image = store.images.pull(registry.push("since/a", layered()))
    image.tag("other")
    with pytest.raises(InUse, match=r"other.*force=True"):
        image.remove()
    image.remove(force=True)
    assert store.is_empty()
    with pytest.raises(ImageNotFound, match="removed meanwhile"):
        image.remove(force=True)


def test_untagging_the_last_name_keeps_the_image(store: Store, registry: RegistryServer) -> None:
    reference = registry.push("untag/a", layered())
    image = store.images.pull(reference)
    image.untag(reference)
    assert store.images.get(image.id) == image
    with pytest.raises(ImageNotFound):
        image.untag(reference)


def test_removing_an_image_in_use_leaves_its_layers_until_it_is_not(
    store: Store, registry: RegistryServer
) -> None:
    image = store.images.pull(registry.push("used/a", layered()))
    lease = store.images._lease(image)
    store.images.remove(image)
    assert len(store.trees()) == 4
    lease.release()
    store.images.gc()
    assert store.is_empty()


def test_ensure_pulls_what_is_missing_only(store: Store, registry: RegistryServer) -> None:
    reference = registry.push("ensure/a", ocibuild.image([{"f": "1"}]))
    with pytest.raises(ImageNotFound):
        store.images._ensure(reference, pull="never")
    first = store.images._ensure(reference)
    registry.push("ensure/a", ocibuild.image([{"f": "2"}]))
    assert store.images._ensure(reference) == first
    assert store.images._ensure(reference, pull="always") != first


def test_a_collection_waits_for_no_pull_and_takes_nothing_from_it(
    store: Store, registry: RegistryServer
) -> None:
    """Collect at every event of a pull, as another process would."""
    reference = registry.push("race/a", layered())
    with opened(store.root.path) as other:
        store.images.pull(reference, progress=lambda _: other.images.gc())
    check_layered(store, reference)
    assert store.debris() == []


def test_a_second_engine_sees_what_the_first_pulled(
    store: Store, registry: RegistryServer, engine_root: Path
) -> None:
    reference = registry.push("second/a", layered())
    with opened(engine_root) as other:
        with pytest.raises(ImageNotFound):
            other.images.get(reference)
        store.images.pull(reference)
        check_layered(other, reference)


def test_the_sweep_lock_is_held_for_moments_only(store: Store, registry: RegistryServer) -> None:
    reference = registry.push("sweep/a", layered())
    free: list[bool] = []

    def probe(_: Progress) -> None:
        lock = FileLock(store.root.path / ".sweep")
        free.append(lock.try_acquire())
        lock.release()

    store.images.pull(reference, progress=probe)
    assert all(free)


@pytest.mark.parametrize(("auth", "tls"), [("basic", True), ("token", False)])
def test_a_private_image(store: Store, auth: Literal["basic", "token"], tls: bool) -> None:
    with RegistryServer(auth=auth, tls=tls) as private:
        reference = private.push("private/a", layered())
        with pytest.raises(Unauthorized):
            store.images.pull(reference, ca=private.ca)
        assert store.is_empty()
        image = store.images.pull(reference, ca=private.ca, auth=(USERNAME, PASSWORD))
        assert store.images.resolve(reference, ca=private.ca, auth=(USERNAME, PASSWORD)) == (
            image.pinned
        )
    check_layered(store, reference)
