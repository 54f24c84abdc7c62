"""What lies on this host's disks and was edited, or was never ours: a value or a typed error.

Records of containers, events and logs are in files of their own.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st

from containerkit.errors import ConfigError, ContainerKitError, HostError
from containerkit.launch.identity import resolve_user
from containerkit.model.idmap import IdMap
from containerkit.model.limits import Limits
from containerkit.model.security import Security
from containerkit.registry.auth import Login
from containerkit.registry.credentials import Credentials, _answered
from containerkit.runtime import alive, codec, idclaims, idranges, marks, top
from containerkit.state import record, subids, userns
from tests.property.test_model import mutations

LAST = (1 << 32) - 2

NAMES = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=60
)
NUMBERS = st.sampled_from(
    [
        "0",
        "1",
        "65536",
        "100000",
        "1073741824",
        "4294901760",
        "4294967295",
        "4294967296",
        "-1",
        "+5",
    ]
    + ["", "x", "1_0", "\u0663", "\u00b2", "0x10", " 7", "9" * 5000, "1e3", "1.0"]
) | st.integers(-2, 1 << 33).map(str)


@contextmanager
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def lines(*words: st.SearchStrategy[str], between: str) -> st.SearchStrategy[bytes]:
    """Files of lines of such words, some with too many or too few, and of anything."""
    line = st.tuples(*words) | st.lists(st.one_of(*words), max_size=5)
    return st.binary(max_size=200) | st.lists(line.map(between.join), max_size=5).map(
        lambda found: "".join(f"{one}\n" for one in found).encode()
    )


# ---- ids


@given(NUMBERS.filter(bool) | NAMES)
def test_any_note_of_ids_is_a_range_or_refused(text: str) -> None:
    with directory() as place:
        os.symlink(text[:1000], place / idranges.NOTE)
        try:
            ids = idranges.ids_of(place, Security(userns="auto"))
        except ConfigError:
            return
    assert isinstance(ids, IdMap)
    uid, gid = ids.outside(0, 0)
    assert uid == gid > 0
    assert ids.outside(65535, 65535)[0] <= LAST


CLAIMS = st.binary(max_size=100) | st.tuples(
    st.sampled_from(["ROOT", "/", "", "/x\0y", "relative", "/" + "x" * 300]),
    st.sampled_from(["launcher a", "launcher ", "launcher ..", "container c", "container ", "x"])
    | NAMES.map("launcher {}".format)
    | NAMES.map("container {}".format),
    st.sampled_from(["\n", "", "\n\n", "\0\n"]),
).map(lambda parts: f"{parts[0]}\n{parts[1]}{parts[2]}".encode())


@example(b"ROOT\nlauncher a\0b\n")
@given(CLAIMS)
def test_any_claim_is_held_or_stale(data: bytes) -> None:
    with directory() as place:
        root = place / "root"
        (root / "owners").mkdir(parents=True)
        (root / "containers" / "c").mkdir(parents=True)
        ids = place / "ids"
        ids.mkdir()
        claim = ids / str(3 * idclaims.SIZE)
        claim.write_bytes(data.replace(b"ROOT", str(root).encode()))
        for odd in ("x", "0", "\u00b2", "\u0663", "9" * 200):
            (ids / odd).write_bytes(claim.read_bytes())
        only = (claim.name, idclaims.SIZE)
        pool = int(only[0]), int(only[0]) + only[1]
        with mock.patch.object(idclaims, "PLACE", ids):
            idclaims.sweep(root)
            with mock.patch.object(idclaims, "_pool", return_value=pool):
                try:
                    assert idranges.Ranges(root, "b").take().uids[0][1] == pool[0]
                except HostError:
                    assert claim.exists()


@given(lines(st.sampled_from(["containerkit", "me", "4321", ""]), NUMBERS, NUMBERS, between=":"))
def test_any_file_of_subordinate_ids_grants_ids_or_none(data: bytes) -> None:
    with directory() as place:
        path = place / "subuid"
        path.write_bytes(data)
        granted = idclaims._granted(str(path))
        with (
            mock.patch.object(os, "getuid", return_value=4321),
            mock.patch.object(pwd, "getpwuid", return_value=mock.Mock(pw_name="me")),
        ):
            found = subids._range(path)
    for first, count in granted | ({found} if found else set()):
        assert 0 <= first < first + count <= LAST + 1
    with mock.patch.object(idclaims, "_granted", return_value=granted):
        start, end = idclaims._pool()
    assert start % idclaims.SIZE == 0
    assert end - start >= idclaims.SIZE


@given(lines(st.sampled_from(["uid", "gid", "x"]), NUMBERS, NUMBERS, NUMBERS, between=" "))
def test_any_record_of_a_roots_ids_is_one_or_refused(data: bytes) -> None:
    with directory() as place:
        (place / "ids").write_bytes(data)
        try:
            ids = userns.ids_of(place)
        except ConfigError:
            return
    assert ids.uids[0][0] == ids.gids[0][0] == 0
    assert userns._read(userns._written(ids).decode()) == ids


@example("app", b"app:x:" + b"9" * 5000 + b":0::/:\n")
@given(
    NAMES | st.tuples(NUMBERS, NUMBERS).map(":".join),
    lines(st.sampled_from(["app", "root", ""]), st.just("x"), NUMBERS, NUMBERS, between=":"),
)
def test_any_files_of_accounts_have_a_user_or_not(user: str, data: bytes) -> None:
    names = top.parse_passwd(data)
    assert all(number >= 0 and name for number, name in names.items())
    for wanted in (user, "app"):
        try:
            found = resolve_user(wanted, data, data)
        except ConfigError:
            continue
        assert all(0 <= number <= LAST for number in (found.uid, *found.groups))


# ---- what containers are kept by


@given(NAMES | NAMES.map("owner:{}".format) | st.binary(min_size=1, max_size=20).map(bytes.hex))
def test_any_mark_hangs_on_something_or_nothing(mark: str) -> None:
    with directory() as place:
        (place / "owners").mkdir()
        box = place / "containers" / "c"
        box.mkdir(parents=True)
        marks.write(box, mark)
        assert marks.read(box) == mark
        marks.may_lack_row(mark)
        for state in (None, record.State(record.RUNNING, "a")):
            marks.is_orphaned(box, mark, state, lambda owner: alive.has_owner(place, owner))
        assert marks.drop(box)


@example(b"owner 4294967296 1 NS\n")
@given(
    lines(
        st.sampled_from(["owner", "alone"]), NUMBERS, NUMBERS, NUMBERS | st.just("NS"), between=" "
    )
)
def test_any_record_of_a_launcher_has_an_owner_or_none(data: bytes) -> None:
    here = str(os.stat("/proc/self/ns/pid").st_ino).encode()
    with directory() as place:
        (place / "owners").mkdir()
        path = place / "owners" / "a"
        path.write_bytes(data.replace(b"NS", here))
        with path.open() as held:
            fcntl.flock(held, fcntl.LOCK_SH)
            alive.has_owner(place, "a")


KEPT = codec.dump(
    {
        "command": ["sh"],
        "options": {"limits": Limits(memory="1g", ulimits={"nofile": 1}), "security": Security()},
        "image": b"\1\2",
        "rootfs": (Path("/x"), None, frozenset("a")),
        "chain_ids": (),
    }
)


@given(st.text(max_size=80) | mutations(json.loads(KEPT)).map(json.dumps))
def test_any_config_of_a_row_is_a_value_or_refused(text: str) -> None:
    for load in (codec.load, codec.load_config):
        try:
            load(text)
        except ContainerKitError:
            continue


# ---- docker's config

DOCKER = {
    "auths": {
        "r.example": {"auth": "dTpw", "identitytoken": "t"},
        "https://index.docker.io/v1/": {"username": "u", "password": "p"},
    },
    "credHelpers": {"other.example": "x"},
}


def find(config: Path, registry: str) -> Login | None:
    return Credentials(config).find(registry).login


@example(json.dumps({"auths": {"r.example": {"username": "\ud800", "password": ""}}}).encode())
@example(json.dumps({"auths": {"r.example": {"identitytoken": "\udfff"}}}).encode())
@example(b'{"auths":' + b"[" * 100_000)
@given(st.binary(max_size=100) | mutations(DOCKER).map(lambda one: json.dumps(one).encode()))
def test_any_docker_config_has_a_login_or_none_or_is_refused(data: bytes) -> None:
    with directory() as place:
        config = place / "config.json"
        config.write_bytes(data)
        for registry in ("r.example", "docker.io"):
            try:
                login = find(config, registry)
            except ConfigError:
                continue
            if login is not None:
                assert login.basic().isascii()
                assert (login.identity_token or "x").encode()


@example(json.dumps({"Username": "u", "Secret": "\ud800"}).encode())
@given(
    st.binary(max_size=60)
    | mutations({"Username": "u", "Secret": "s"}).map(lambda one: json.dumps(one).encode())
)
def test_any_answer_of_a_helper_is_a_login_or_a_problem(data: bytes) -> None:
    login, problem = _answered(data, "helper")
    assert login is None or problem is None
    if login is not None:
        assert login.basic().isascii()


@given(st.text(st.characters(), min_size=1, max_size=20), st.text(st.characters(), max_size=20))
def test_any_login_can_be_sent_or_is_refused(username: str, password: str) -> None:
    logins = Credentials(use_docker=False)
    try:
        logins.login("r.example", username=username, password=password)
    except ConfigError:
        return
    found = logins.find("r.example").login
    assert found is not None
    assert found.basic().isascii()
