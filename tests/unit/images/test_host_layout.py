"""Layouts: which directories of a host are given, and where a mount or a link cuts them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from containerkit.errors import ConfigError
from containerkit.images.host_layout import Layout, LayoutBuilder, Mounts, Source, within
from containerkit.images.host_python import PythonFacts

LINE = "28 27 0:25 / {} ro,nosuid shared:3 - {} device rw\n"


def builder(root: Path | str = "/engine", *mounts: tuple[str, str]) -> LayoutBuilder:
    text = "".join(LINE.format(point, kind) for point, kind in [("/", "ext4"), *mounts])
    return LayoutBuilder(str(root), Mounts(text))


def give(*paths: Path, root: Path | str = "/engine", mounts: tuple[tuple[str, str], ...] = (),
         empty: tuple[str, ...] = ()) -> Layout:  # fmt: skip
    built = builder(root, *mounts)
    for path in paths:
        built.add_path(str(path))
    return built.layout(empty)


def python(prefix: Path, base: Path | None = None) -> PythonFacts:
    base = base or prefix
    (base / "lib" / "python3.11" / "site-packages").mkdir(parents=True, exist_ok=True)
    (prefix / "bin").mkdir(parents=True, exist_ok=True)
    return PythonFacts(
        str(prefix), str(base), str(prefix), str(base), str(base / "lib/python3.11"), ()
    )


def test_a_directory_is_given_once_with_what_is_below_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    layout = give(tmp_path / "a" / "b", tmp_path / "a", tmp_path / "a")
    assert layout.sources == (Source(f"{tmp_path}/a", True),)


def test_a_prefix_inside_usr_is_not_given_twice() -> None:
    built = builder()
    built.add_system()
    facts = PythonFacts("/usr/local", "/usr", "/usr", "/usr", "/usr/lib", ("/usr/bin/env",))
    built.add_python(facts, site_packages=True)
    usr = [source for source in built.layout().sources if within(source.path, "/usr")]
    assert usr == [Source("/usr", True)]


def test_a_directory_behind_a_mount_is_given_apart(tmp_path: Path) -> None:
    """An overlay's lower layer ends where another mount begins."""
    (tmp_path / "a" / "mounted" / "deep").mkdir(parents=True)
    deep = tmp_path / "a" / "mounted" / "deep"
    layout = give(tmp_path / "a", deep, mounts=((f"{tmp_path}/a/mounted", "tmpfs"),))
    assert layout.sources == (Source(f"{tmp_path}/a", True), Source(str(deep), True))


def test_a_mount_that_is_not_given_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a" / "mounted").mkdir(parents=True)
    mounts = ((f"{tmp_path}/a/mounted", "tmpfs"), (f"{tmp_path}/a/mounted/again", "tmpfs"))
    layout = give(tmp_path / "a", mounts=mounts)
    (note,) = layout.notes
    assert note.startswith(f"{tmp_path}/a/mounted: not given")
    assert give(tmp_path / "a", tmp_path / "a" / "mounted", mounts=mounts[:1]).notes == ()


def test_links_on_the_way_are_kept_and_their_ends_given(tmp_path: Path) -> None:
    (tmp_path / "real" / "dir").mkdir(parents=True)
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to(tmp_path / "real")
    layout = give(tmp_path / "one" / "dir")
    assert layout.sources == (Source(f"{tmp_path}/real/dir", True),)
    assert layout.links == ((f"{tmp_path}/one", "two"), (f"{tmp_path}/two", f"{tmp_path}/real"))


def test_a_link_inside_a_source_is_already_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "link").symlink_to("../b")
    layout = give(tmp_path / "a", tmp_path / "a" / "link")
    assert layout.links == ()
    assert {source.path for source in layout.sources} == {f"{tmp_path}/a", f"{tmp_path}/b"}


def test_links_in_a_circle_are_noted(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to("python")
    facts = python(tmp_path / "p")._replace(executables=(str(tmp_path / "python"),))
    built = builder()
    built.add_python(facts, site_packages=True)
    assert built.layout().notes == (f"{tmp_path}/python: not given, too many links",)


def test_a_file_is_bound_read_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    layout = give(tmp_path / "file")
    assert layout.sources == (Source(f"{tmp_path}/file", False),)
    assert layout.notes == (f"{tmp_path}/file: read-only, a single file",)


def test_a_file_system_that_overlayfs_refuses_is_bound_read_only(tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    layout = give(tmp_path / "stick", mounts=((f"{tmp_path}/stick", "vfat"),))
    assert layout.sources == (Source(f"{tmp_path}/stick", False),)
    assert layout.notes == (f"{tmp_path}/stick: read-only, overlayfs takes no vfat",)


def test_the_engine_root_is_shown_empty(tmp_path: Path) -> None:
    (tmp_path / "project" / "store").mkdir(parents=True)
    layout = give(tmp_path / "project", root=tmp_path / "project" / "store")
    assert layout.sources == (Source(f"{tmp_path}/project", False),)
    assert layout.empty == (f"{tmp_path}/project/store",)


def test_site_packages_are_shown_empty_where_they_exist(tmp_path: Path) -> None:
    facts = python(tmp_path / "venv", tmp_path / "base")
    built = builder()
    built.add_python(facts, site_packages=False)
    layout = built.layout(tuple(facts.site_packages()))
    assert layout.empty == (f"{tmp_path}/base/lib/python3.11/site-packages",)
    assert {source.path for source in layout.sources} == {f"{tmp_path}/venv", f"{tmp_path}/base"}


def test_what_is_asked_for_inside_of_a_hidden_directory_is_given(tmp_path: Path) -> None:
    facts = python(tmp_path / "base")
    site = tmp_path / "base" / "lib" / "python3.11" / "site-packages"
    (site / "wanted").mkdir()
    built = builder()
    built.add_python(facts, site_packages=False)
    built.add_path(str(site / "wanted"))
    layout = built.layout((str(site),))
    assert [source.path for source in layout.sources] == [f"{tmp_path}/base", f"{site}/wanted"]
    assert layout.empty == (str(site),)


def test_parents_come_before_what_lies_below(tmp_path: Path) -> None:
    paths = [tmp_path / "z", tmp_path / "z" / "m" / "a", tmp_path / "b"]
    for path in paths:
        path.mkdir(parents=True)
    layout = give(*reversed(paths), mounts=((f"{tmp_path}/z/m", "tmpfs"),))
    given = [source.path for source in layout.sources]
    assert given.index(f"{tmp_path}/z") < given.index(f"{tmp_path}/z/m/a")


@pytest.mark.parametrize("path", ["/", "/etc", "/proc", "/proc/self", "/sys", "/dev/shm", "/tmp"])
def test_what_the_image_has_of_its_own_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="of its own"):
        give(Path(path))


def test_a_link_to_a_refused_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(ConfigError, match="of its own"):
        give(tmp_path / "link")


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        give(tmp_path / "missing")


def test_the_engine_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    with pytest.raises(ConfigError, match="engine's own root"):
        give(tmp_path / "blobs", root=tmp_path)


def test_mount_points_with_odd_names() -> None:
    mounts = Mounts(LINE.format(r"/a\040b", "tmpfs") + LINE.format("/ü", "xfs"))
    assert mounts.type("/a b/c") == "tmpfs"
    assert mounts.type("/ü/c") == "xfs"
    assert mounts.point("/other") == "/"


@pytest.mark.parametrize(
    ("path", "directory", "expected"),
    [("/a", "/a", True), ("/a/b", "/a", True), ("/ab", "/a", False), ("/x", "/", True)],
)
def test_within(path: str, directory: str, *, expected: bool) -> None:
    assert within(path, directory) is expected


def test_the_running_python_has_its_facts() -> None:
    facts = PythonFacts.running()
    assert os.path.isfile(os.path.join(facts.stdlib, "os.py"))
    assert facts.executables
    assert os.path.dirname(facts.executables[0]) in facts.programs
