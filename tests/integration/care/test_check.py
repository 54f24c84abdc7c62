"""`check` finds what is not as the catalog says, and repairs what can be without a registry."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from containerkit.care.check import Parts, check
from containerkit.images.image import Image
from containerkit.model.check import CheckReport
from tests.support import ocibuild
from tests.support.registry import RegistryServer
from tests.support.store import Store

LOWER: dict[str, bytes | str | ocibuild.Entry | None] = {
    "etc/a": "a",
    "bin/b": "b" * 5000,
    "link": ocibuild.symlink("etc/a"),
    "hard": ocibuild.hardlink("bin/b"),
}
UPPER = {"etc/.wh.a": "", "c": "c"}


@pytest.fixture
def reference(registry: RegistryServer) -> str:
    return registry.push("check/a", ocibuild.image([LOWER, UPPER]))


def checked(store: Store, *, repair: bool = False) -> CheckReport:
    return check(Parts.of(store.images), repair=repair)


def tree_of(store: Store, image: Image, number: int) -> Path:
    return store.snapshots.path(image._chain_ids[number])


def blob_of(store: Store, digest: str) -> Path:
    return store.root.path / "blobs" / digest.replace(":", "/")


def test_a_whole_root_has_no_problem(store: Store, reference: str) -> None:
    image = store.images.pull(reference)
    report = checked(store)
    assert report.ok
    assert report.problems == ()
    assert (report.blobs, report.trees, report.images) == (4, 2, 1)
    assert str(report) == "4 blobs, 2 trees, 1 images, 0 containers: no problem"
    assert store.debris() == []
    assert len(image.layers) == 2


def change_bytes(path: Path) -> None:
    status = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("damage", "detail"),
    [
        (lambda tree: change_bytes(tree / "etc/a"), "/etc/a: other bytes"),
        (lambda tree: (tree / "bin/b").unlink(), "/bin/b is missing"),
        (lambda tree: (tree / "etc/new").touch(), "/etc/new was added"),
        (lambda tree: (tree / "etc/a").chmod(0o4755), "/etc/a: mode 104755 instead of 100644"),
        pytest.param(
            lambda tree: os.chown(tree / "etc/a", 7, 8),
            "/etc/a: owner 7:8 instead of 0:0",
            marks=pytest.mark.needs("owners"),
        ),
        (lambda tree: os.utime(tree / "etc/a", (1, 1)), "/etc/a: another time of change"),
        (
            lambda tree: os.setxattr(tree / "etc/a", "user.x", b"y"),
            "/etc/a: other extended attributes",
        ),
        (
            lambda tree: ((tree / "link").unlink(), (tree / "link").symlink_to("/etc/shadow")),
            "/link: a link to '/etc/shadow' instead of 'etc/a'",
        ),
    ],
    ids=["bytes", "missing", "added", "mode", "owner", "time", "xattr", "link"],
)
def test_a_changed_tree_is_unpacked_again(
    store: Store, reference: str, damage: object, detail: str
) -> None:
    image = store.images.pull(reference)
    tree = tree_of(store, image, 0)
    assert callable(damage)
    damage(tree)
    problem = checked(store).problems[0]
    assert problem[:2] == ("changed tree", str(image._chain_ids[0]))
    assert problem.detail == detail
    assert not problem.repaired
    repaired = checked(store, repair=True)
    assert repaired.ok
    assert [one.kind for one in repaired.problems] == ["changed tree"]
    assert checked(store).problems == ()
    assert store.debris() == []


def test_a_changed_tree_in_use_stays(store: Store, reference: str) -> None:
    image = store.images.pull(reference)
    with store.images._lease(image):
        (tree_of(store, image, 1) / "c").write_text("other")
        report = checked(store, repair=True)
        assert not report.ok
        assert report.problems[0].detail.endswith("; it is in use")
    assert checked(store, repair=True).ok


def test_a_changed_blob_is_dropped_and_the_next_pull_brings_it(
    store: Store, reference: str
) -> None:
    image = store.images.pull(reference)
    blob = blob_of(store, image.layers[0].digest)
    change_bytes(blob)
    kinds = [(one.kind, one.repaired) for one in checked(store, repair=True).problems]
    assert kinds == [("changed blob", True), ("missing blob", False)]
    assert not blob.exists()
    assert [one.kind for one in checked(store).problems] == ["missing blob"]
    assert store.images.get(reference) == image, "its trees are whole: it runs"
    store.images.pull(reference)
    assert checked(store).problems == ()


def test_an_image_without_its_config_is_dropped(store: Store, reference: str) -> None:
    image = store.images.pull(reference)
    blob_of(store, image.id).unlink()
    (problem,) = checked(store).problems
    assert problem[:2] == ("broken image", image.digest)
    assert "lacks its config" in problem.detail
    assert checked(store, repair=True).ok
    assert store.images.list() == ()
    store.images.pull(reference)
    assert checked(store).problems == ()


def test_an_image_whose_layer_is_nowhere_is_dropped(store: Store, reference: str) -> None:
    image = store.images.pull(reference)
    blob_of(store, image.layers[1].digest).unlink()
    shutil.rmtree(tree_of(store, image, 1))
    (problem,) = checked(store, repair=True).problems
    assert problem.kind == "broken image"
    assert f"layer {image.layers[1].digest}" in problem.detail
    assert store.images.list() == ()


def test_a_tree_that_nobody_knows_is_removed(store: Store, reference: str) -> None:
    store.images.pull(reference)
    stranger = store.root.layers / ("ab" * 32)
    stranger.mkdir()
    (problem,) = checked(store).problems
    assert problem[:2] == ("unknown tree", f"sha256:{'ab' * 32}")
    assert checked(store, repair=True).ok
    assert not stranger.exists()


def test_a_tree_that_is_gone_is_unpacked_when_it_is_needed(store: Store, reference: str) -> None:
    """A lost tree is no problem: its blob is here."""
    image = store.images.pull(reference)
    shutil.rmtree(tree_of(store, image, 0))
    assert checked(store).problems == ()
    with store.images._lease(store.images.get(reference)):
        assert (tree_of(store, image, 0) / "etc/a").exists()
