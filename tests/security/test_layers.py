"""Layers that want out of their directory.

Each attack is first given to an extractor that trusts names, which must be hurt by it: that shows
that the attack works.  Then the same bytes go through ours, on both ways of resolving paths.  Where
the attack is on numbers and attributes, Python's own tarfile, told to trust, is that extractor.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from containerkit.errors import ArchiveError, CorruptContent, UnsafePath
from tests.security import naive
from tests.support.tars import END, Place, entry, header, long_name, pax, unpack

LINK = b"2"
HARD = b"1"
DIRECTORY = b"5"

OUT = b"../../victim"
"""From the destination to the victim."""

Attack = Callable[[Place], list[bytes]]


def victim(place: Place, name: str = "") -> bytes:
    return bytes(place.top / "victim" / name)


ATTACKS: dict[str, tuple[Attack, type[CorruptContent] | None]] = {
    "dotdot": (lambda p: [entry(OUT + b"/file", data=b"x")], UnsafePath),
    "dotdot within": (lambda p: [entry(b"a/../" + OUT + b"/file", data=b"x")], UnsafePath),
    "dotdot in a long name": (
        lambda p: [long_name(b"./" * 80 + OUT + b"/file"), entry(b"cut", data=b"x")],
        UnsafePath,
    ),
    "dotdot in a pax path": (
        lambda p: [pax({"path": OUT + b"/file"}), entry(b"fine", data=b"x")],
        UnsafePath,
    ),
    "absolute": (lambda p: [entry(victim(p, "file"), data=b"x")], None),
    "parent is a link": (
        lambda p: [entry(b"l", LINK, link=OUT), entry(b"l/file", data=b"x")],
        ArchiveError,
    ),
    "parent is an absolute link": (
        lambda p: [entry(b"l", LINK, link=victim(p)), entry(b"l/file", data=b"x")],
        ArchiveError,
    ),
    "parent is a link to a link": (
        lambda p: [
            entry(b"k", LINK, link=OUT),
            entry(b"l", LINK, link=b"k"),
            entry(b"l/file", data=b"x"),
        ],
        ArchiveError,
    ),
    "the file is a link": (
        lambda p: [entry(b"f", LINK, link=OUT + b"/file"), entry(b"f", data=b"x")],
        None,
    ),
    "a directory used before becomes a link": (
        lambda p: [
            entry(b"d", DIRECTORY),
            entry(b"d/before", data=b"x"),
            entry(b"d", LINK, link=OUT),
            entry(b"d/file", data=b"x"),
        ],
        ArchiveError,
    ),
    "a directory used before becomes a hard link to a link": (
        lambda p: [
            entry(b"l", LINK, link=OUT),
            entry(b"d/before", data=b"x"),
            entry(b"d", HARD, link=b"l"),
            entry(b"d/file", data=b"x"),
        ],
        ArchiveError,
    ),
    "the parent of a directory used before becomes a link": (
        lambda p: [
            entry(b"a/directory/before", data=b"x"),
            entry(b"a", LINK, link=OUT),
            entry(b"a/directory/inner", data=b"x"),
        ],
        ArchiveError,
    ),
    "hard link out": (
        lambda p: [entry(b"h", HARD, link=OUT + b"/file"), entry(b"h", data=b"x")],
        UnsafePath,
    ),
    "absolute hard link out": (lambda p: [entry(b"h", HARD, link=victim(p, "file"))], ArchiveError),
    "hard link through a link": (
        lambda p: [entry(b"l", LINK, link=OUT), entry(b"h", HARD, link=b"l/file")],
        ArchiveError,
    ),
    "write through a hard link to a link": (
        lambda p: [
            entry(b"l", LINK, link=OUT + b"/file"),
            entry(b"h", HARD, link=b"l"),
            entry(b"h", data=b"x"),
        ],
        None,
    ),
    "the root is a link": (
        lambda p: [entry(b".", LINK, link=victim(p)), entry(b"file", data=b"x")],
        UnsafePath,
    ),
    "mode of a directory through a link": (
        lambda p: [
            entry(b"l", LINK, link=OUT + b"/directory"),
            entry(b"l", DIRECTORY, mode=0o777),
        ],
        None,
    ),
    "time of a directory that became a link": (
        lambda p: [
            entry(b"d", DIRECTORY, mtime=99),
            entry(b"d", LINK, link=OUT + b"/directory"),
        ],
        None,
    ),
    "whiteout of the parent": (lambda p: [entry(b".wh...")], UnsafePath),
    "whiteout of the parent from below": (
        lambda p: [entry(b"d", DIRECTORY), entry(b"d/../.wh...")],
        UnsafePath,
    ),
    "whiteout through a link": (
        lambda p: [entry(b"l", LINK, link=OUT), entry(b"l/.wh.file")],
        ArchiveError,
    ),
    "opaque through a link": (
        lambda p: [entry(b"l", LINK, link=OUT), entry(b"l/.wh..wh..opq")],
        ArchiveError,
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_attack_works_on_a_trusting_extractor(attack: str, tmp_path: Path) -> None:
    """The control: without this, the next test could not fail."""
    place = Place(tmp_path)
    naive.extract(b"".join(ATTACKS[attack][0](place)) + END, place.destination)
    assert place.touched


@pytest.mark.parametrize("openat2", [True, False], ids=["openat2", "walk"])
@pytest.mark.parametrize("chunk", [1 << 20, 100])
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_outside_is_touched(attack: str, chunk: int, openat2: bool, tmp_path: Path) -> None:
    place = Place(tmp_path)
    make, error = ATTACKS[attack]
    data = b"".join(make(place)) + END
    if error is None:
        unpack(data, place.destination, openat2=openat2, chunk=chunk)
    else:
        with pytest.raises(error) as raised:
            unpack(data, place.destination, openat2=openat2, chunk=chunk)
        assert type(raised.value) is error
    assert not place.touched


@pytest.mark.parametrize("name", [b".wh.", b".wh..", b".wh...", b"d/.wh.", b"d/.wh..", b"d/.wh..."])
def test_a_whiteout_needs_a_name(name: bytes, tmp_path: Path) -> None:
    place = Place(tmp_path)
    with pytest.raises(UnsafePath) as raised:
        unpack(entry(b"d", DIRECTORY) + entry(name) + END, place.destination)
    assert raised.value.entry == name.decode()
    assert not place.touched


@pytest.mark.parametrize("kind", [b"0", HARD, LINK, b"3", b"6"])
@pytest.mark.parametrize("name", [b".", b"./", b"/", b"././/."])
def test_the_root_is_a_directory(name: bytes, kind: bytes, tmp_path: Path) -> None:
    data = entry(b"f") + entry(name, kind, link=b"f") + END
    if kind == b"0" and name.endswith(b"/"):
        unpack(data, tmp_path)  # v7 says directory by a slash
    else:
        with pytest.raises(UnsafePath):
            unpack(data, tmp_path)


@pytest.mark.needs("all rights")
def test_a_link_within_the_layer_is_followed(tmp_path: Path) -> None:
    """The other side: links as parents are resolved, with the layer as their root."""
    place = Place(tmp_path)
    data = [
        entry(b"usr/lib", DIRECTORY),
        entry(b"lib", LINK, link=b"/usr/lib"),
        entry(b"up", LINK, link=b"../../../../usr"),
        entry(b"lib/a", data=b"a"),
        entry(b"up/lib/b", data=b"b"),
        END,
    ]
    for openat2 in (True, False):
        unpack(b"".join(data), place.destination, openat2=openat2)
        assert (place.destination / "usr/lib/a").read_bytes() == b"a"
        assert (place.destination / "usr/lib/b").read_bytes() == b"b"
    assert not place.touched


@pytest.mark.needs("all rights")
@pytest.mark.parametrize("between", [(b"0", b""), (LINK, b"elsewhere"), (HARD, b"f"), (b"6", b"")])
def test_a_directory_may_be_replaced_and_made_again(
    between: tuple[bytes, bytes], tmp_path: Path
) -> None:
    """What was known of the old directory must not be used for the new one."""
    kind, link = between
    data = [entry(b"f"), entry(b"d/sub/old"), entry(b"d", kind, link=link)]
    data += [entry(b"d", DIRECTORY), entry(b"d/sub/new")]
    unpack(b"".join(data) + END, tmp_path)
    assert [path.name for path in (tmp_path / "d").rglob("*")] == ["sub", "new"]


def test_links_upon_links_do_not_lead_deeper_than_the_limit(tmp_path: Path) -> None:
    """A directory tree deeper than any path could not be removed again."""
    data = [entry(b"d" + b"/d" * 9, DIRECTORY)]
    for number in range(10):
        before = b"l%d/" % (number - 1) if number else b""
        data.append(entry(b"l%d" % number, LINK, link=before + b"d" + b"/d" * 9))
        data.append(entry(b"l%d" % number + b"/d" * 10, DIRECTORY))
    with pytest.raises(ArchiveError):
        unpack(b"".join(data) + END, tmp_path, limits={"max_depth": 64})
    deepest = max(len(path.relative_to(tmp_path).parts) for path in tmp_path.rglob("*"))
    assert 60 <= deepest <= 66


# ---- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["uid", "gid"])
@pytest.mark.parametrize("value", [2**32 - 1, 2**32, 4294967296000, 2**63, -1])
def test_an_id_that_would_wrap_is_refused(field: str, value: int, tmp_path: Path) -> None:
    """Cut to 32 bits, 2^32 is root and 2^32-1 is "leave it as it is"."""
    raw = bytearray((value % (1 << 128)).to_bytes(16, "big")[-8:])
    if value < 2**62:
        raw[0] |= 0x80
        with pytest.raises(ArchiveError):
            unpack(entry(b"f", **{field: bytes(raw)}) + END, tmp_path)
    if value >= 0:
        with pytest.raises(ArchiveError):
            unpack(pax({field: b"%d" % value}) + entry(b"f") + END, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.needs("owners")
def test_the_largest_id_is_kept(tmp_path: Path) -> None:
    unpack(pax({"uid": b"4294967294", "gid": b"70000"}) + entry(b"f") + END, tmp_path)
    status = (tmp_path / "f").stat()
    assert (status.st_uid, status.st_gid) == (2**32 - 2, 70000)


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(header(b"f", size=b"\xff" * 12), id="negative size"),
        pytest.param(header(b"f", size=b"\x80" + b"\xff" * 11), id="size beyond 63 bits"),
        pytest.param(header(b"f", size=b"12345x"), id="size with letters"),
        pytest.param(pax({"size": b"99999999999999999999"}) + header(b"f"), id="huge pax size"),
        pytest.param(pax({"size": b"-1"}) + header(b"f"), id="negative pax size"),
        pytest.param(entry(b"x", b"x", b"99 path=a\n") + header(b"f"), id="record too long"),
        pytest.param(entry(b"x", b"x", b"9 path=ab\n") + header(b"f"), id="record too short"),
        pytest.param(entry(b"x", b"x", b"999999999999 a=b\n") + header(b"f"), id="record huge"),
        pytest.param(entry(b"x", b"x", b"5 a=\n5 b") + header(b"f"), id="record cut"),
        pytest.param(pax({"path": b"a\0b"}) + header(b"f"), id="NUL in a path"),
        pytest.param(pax({"path\0x": b"a"}) + header(b"f"), id="NUL in a key"),
        pytest.param(entry(b"f/", data=header(b"g").ljust(512)), id="directory with data"),
        pytest.param(
            pax({"path": b"f/"}) + entry(b"f", data=header(b"g").ljust(512)),
            id="directory with data by pax",
        ),
        pytest.param(pax({"path": b"a" * 4096}) + header(b"f"), id="path too long"),
        pytest.param(pax({"path": b"a" * 256}) + header(b"f"), id="name too long"),
        pytest.param(pax({"mtime": b"yesterday"}) + header(b"f"), id="no time"),
        pytest.param(pax({"a": b"b"}) + pax({"c": b"d"}) + header(b"f"), id="two headers"),
        pytest.param(pax({"a": b"b"}), id="a header and nothing"),
        pytest.param(header(b"f", b"Z"), id="unknown type"),
        pytest.param(header(b"f", LINK), id="link to nothing"),
        pytest.param(header(b"f", b"3", device=(4096, 0)), id="device number"),
        pytest.param(header(b"f")[:-1] + b"!", id="checksum"),
        pytest.param(bytes(512) + header(b"f"), id="lone zeros"),
        pytest.param(header(b".wh.d/f"), id="below a whiteout"),
        pytest.param(header(b"f") + header(b"f/g"), id="below a file"),
        pytest.param(
            header(b"d", DIRECTORY) + header(b"h", HARD, link=b"d"), id="link to directory"
        ),
        pytest.param(
            header(b"d", DIRECTORY) + header(b"d", HARD, link=b"d"), id="directory to itself"
        ),
        pytest.param(header(b"h", HARD, link=b"nothing"), id="link to what is not there"),
        pytest.param(header(b"h", HARD, link=b"h"), id="link to itself"),
    ],
)
def test_malformed(archive: bytes, tmp_path: Path) -> None:
    for chunk in (1 << 20, 1):
        with pytest.raises(ArchiveError) as raised:
            unpack(archive + END, tmp_path, chunk=chunk)
        assert "cannot unpack layer: " in str(raised.value)


# ---- ends --------------------------------------------------------------------------------------


def test_cut_anywhere_but_between_entries_is_an_error(tmp_path: Path) -> None:
    """Between entries it may be an archive without its end marker; the diff id tells."""
    parts = [
        entry(b"d", DIRECTORY),
        entry(b"small", data=b"x" * 700),
        pax({"path": b"p" * 120}) + entry(b"cut", data=b"y" * 1025),
        long_name(b"q" * 150) + entry(b"cut", data=b"z"),
        END,
    ]
    whole = b"".join(parts)
    ends = {0, len(whole) - 512}
    for part in parts:
        ends.add(max(ends - {len(whole) - 512}) + len(part))
    for length in range(0, len(whole), 128):
        top = tmp_path / str(length)
        top.mkdir()
        if length in ends:
            unpack(whole[:length], top)
        else:
            with pytest.raises(ArchiveError):
                unpack(whole[:length], top)


def test_a_message_is_one_printable_line(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError) as raised:
        unpack(entry(b"a\x1b[2J\nb\xff/f", b"Z") + END, tmp_path)
    assert str(raised.value) == (
        r"cannot unpack layer: entry 1 (a\x1b[2J\nb\xff/f): an unknown type of entry; "
        "hint: the archive is hostile or broken"
    )


def test_an_applier_that_failed_stays_failed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    bad = header(b"f", b"Z")
    good = entry(b"later", data=b"x")
    with suppress(ArchiveError):
        unpack(bad + good + END, place.destination, chunk=512)
    assert not (place.destination / "later").exists()


# ---- what may not be forged --------------------------------------------------------------------


def test_overlay_state_can_not_be_forged(tmp_path: Path) -> None:
    fields = {
        "SCHILY.xattr.trusted.overlay.opaque": b"y",
        "SCHILY.xattr.trusted.overlay.redirect": b"/etc",
        "SCHILY.xattr.user.overlay.opaque": b"y",
        "SCHILY.xattr.user.overlay.metacopy": b"",
        "SCHILY.xattr.security.selinux": b"x",
        "SCHILY.xattr.system.posix_acl_access": b"x",
        "SCHILY.xattr.user.mine": b"kept\0as it is",
    }
    unpack(pax(fields) + entry(b"d", DIRECTORY) + pax(fields) + entry(b"f") + END, tmp_path)
    for name in ("d", "f"):
        assert os.listxattr(tmp_path / name) == ["user.mine"]
        assert os.getxattr(tmp_path / name, "user.mine") == b"kept\0as it is"


# ---- against an extractor that is told to trust --------------------------------------------------


def trusting(data: bytes, destination: Path) -> None:
    """Unpack with Python's own tarfile, without any of its filters."""
    with tarfile.open(fileobj=io.BytesIO(data), format=tarfile.PAX_FORMAT) as archive:
        archive.extractall(destination, filter="fully_trusted")


@pytest.mark.parametrize("value", [2**32, 4294967296000, 2**64])
def test_a_wrapped_id_is_nobodys(value: int, tmp_path: Path) -> None:
    """The control makes a file that is not the id's: root's, or refuses with no error of ours."""
    data = pax({"uid": b"%d" % value}) + entry(b"f", mode=0o4755) + END
    control, ours = tmp_path / "control", tmp_path / "ours"
    control.mkdir()
    ours.mkdir()
    with suppress(OverflowError, tarfile.TarError):
        trusting(data, control)
        assert (control / "f").stat().st_uid != value
    with pytest.raises(ArchiveError):
        unpack(data, ours)
    assert not list(ours.iterdir())


LINKED: dict[str, Attack] = {
    "mode through a hard link to outside": lambda p: [
        entry(b"h", HARD, link=OUT + b"/file", mode=0o4777),
        pax({"path": b"h"}) + entry(b"h", data=b"x", mode=0o4777),
    ],
    "a device in place of a file, through a link": lambda p: [
        entry(b"l", LINK, link=victim(p)),
        entry(b"l/null", b"3", device=(1, 3), mode=0o666),
    ],
    "a fifo through a link": lambda p: [
        entry(b"l", LINK, link=victim(p)),
        entry(b"l/fifo", b"6", mode=0o666),
    ],
    "a directory through a link": lambda p: [
        entry(b"l", LINK, link=victim(p)),
        entry(b"l/new", DIRECTORY, mode=0o777),
    ],
    "a link through a link": lambda p: [
        entry(b"l", LINK, link=victim(p)),
        entry(b"l/new", LINK, link=b"/etc/shadow"),
    ],
    "a GNU long link": lambda p: [
        long_name(victim(p), b"K"),
        entry(b"l", LINK, link=b"cut"),
        entry(b"l/new", data=b"x"),
    ],
    "a pax linkpath": lambda p: [
        pax({"linkpath": victim(p)}),
        entry(b"l", LINK, link=b"fine"),
        entry(b"l/new", data=b"x"),
    ],
}


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(name, marks=[pytest.mark.needs("device nodes")] if "device" in name else [])
        for name in LINKED
    ],
)
def test_nothing_is_made_through_a_link(attack: str, tmp_path: Path) -> None:
    control, ours = Place(tmp_path / "control"), Place(tmp_path / "ours")
    trusting(b"".join(LINKED[attack](control)) + END, control.destination)
    assert control.touched
    for openat2 in (True, False):
        with pytest.raises((ArchiveError, UnsafePath)):
            unpack(b"".join(LINKED[attack](ours)) + END, ours.destination, openat2=openat2)
        assert not ours.touched


def test_a_name_is_bytes(tmp_path: Path) -> None:
    """What looks like a step up in another encoding is a name like any other."""
    names = [b"..\\victim", b"%2e%2e", b"\xc0\xae\xc0\xae", b"\xe2\x80\xa5", b"...", b".. ", b" .."]
    place = Place(tmp_path)
    unpack(b"".join(entry(name, data=b"x") for name in names) + END, place.destination)
    assert {os.fsencode(path.name) for path in place.destination.iterdir()} == set(names)
    assert not place.touched


# ---- attributes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        # An ordinary user's layers get none.
        pytest.param(
            {"SCHILY.xattr.security.capability": b"not one"}, marks=pytest.mark.needs("host root")
        ),
        {"SCHILY.xattr.user.": b"no name"},
        {"SCHILY.xattr.user." + "n" * 300: b"a name too long"},
    ],
)
def test_an_attribute_that_is_none(fields: dict[str, bytes], tmp_path: Path) -> None:
    """The archive's fault, not that of the host."""
    with pytest.raises(ArchiveError):
        unpack(pax(fields) + entry(b"f") + END, tmp_path)


CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""Version 2: cap_net_bind_service, permitted and effective."""


@pytest.mark.needs("host root")
def test_capabilities_of_a_file_stay_in_the_store(tmp_path: Path) -> None:
    """They are the image's to give; nobody but root reaches the directory that holds the trees."""
    data = pax({"SCHILY.xattr.security.capability": CAPABILITY}) + entry(b"f", mode=0o4755) + END
    unpack(data, tmp_path)
    assert os.getxattr(tmp_path / "f", "security.capability") == CAPABILITY
    assert (tmp_path / "f").stat().st_mode & 0o7777 == 0o4755
