"""What strangers write, and what the kernel does: any text is a value or a typed error.

The parsers of references, manifests, challenges, plans, logs and events are in files of their own.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from containerkit.errors import ConfigError, ContainerKitError, InvalidSpec, RegistryError
from containerkit.images.host_layout import Mounts
from containerkit.launch.identity import resolve_user
from containerkit.launch.seccomp import program_of
from containerkit.model.healthcheck import Healthcheck
from containerkit.model.image_config import ImageConfig
from containerkit.model.limits import parse_size
from containerkit.model.manifest import parse_manifest
from containerkit.model.platform import Platform
from containerkit.model.ready import parse_http, parse_port
from containerkit.model.reference import Reference
from containerkit.model.seccomp import SeccompProfile
from containerkit.registry import protocol
from containerkit.registry.auth import Challenge, TokenAnswer, exchange, parse_challenges
from containerkit.runtime import cgroups, groups, packets, stats, top
from containerkit.runtime.listening import listeners
from containerkit.state import events, record
from containerkit.state.root import file_system_type
from containerkit.stdio import records
from tests.property.test_model import CONFIG, changed, mutations, paths

# ---- seccomp profiles

PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [
        {
            "names": ["read", "personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 8, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}],
            "includes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["amd64"], "minKernel": "4.8"},
            "excludes": {"caps": ["CAP_CHOWN"]},
        },
        {"name": "open", "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    ],
}


@example("[" * 100_000)
@example('{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1e3}')
@given(st.text(max_size=80) | mutations(PROFILE).map(json.dumps))
def test_any_text_is_a_seccomp_profile_or_refused(text: str) -> None:
    try:
        profile = SeccompProfile.parse(text)
        program = program_of(profile, machine="x86_64", capabilities=["CHOWN"], own_userns=False)
    except ConfigError:
        return
    assert program is None or len(program) % 8 == 0


@given(st.binary(max_size=80))
def test_any_bytes_are_a_seccomp_profile_or_refused(data: bytes) -> None:
    with pytest.raises(ConfigError):
        SeccompProfile.parse(data)


@given(st.binary(max_size=80))
def test_any_program_is_refused_unless_it_is_one(data: bytes) -> None:
    try:
        done = program_of(data, machine="x86_64", capabilities=(), own_userns=False)
    except ConfigError:
        return
    assert done == data


# ---- /proc

FIELD = st.text(max_size=12) | st.sampled_from(
    ["1", "pids", "cpu,cpuacct", "", "name=systemd", "/", "/a", "/a/b", "0", "\x0c", "\u2028", "\r"]
)
CGROUP = st.text() | st.lists(st.lists(FIELD, max_size=4).map(":".join)).map("\n".join)
MOUNT = st.sampled_from(
    [
        "36 35 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids",
        "36 35 0:31 /a /c2 rw - cgroup2 cgroup2 rw",
        "36 35 0:31 / /with\\040blank\\134 rw - ext4 /dev/x rw",
        "36 35 0:31 / /x\x0cy rw - ext4 /dev/x rw",
    ]
)
MOUNTINFO = st.text() | st.lists(MOUNT | st.lists(FIELD | st.just("-")).map(" ".join)).map(
    "\n".join
)


@example("0::/a\x0cb\n", "36 35 0:31 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
@given(CGROUP, MOUNTINFO)
def test_any_tables_of_the_kernel_are_read(cgroup: str, mountinfo: str) -> None:
    cgroups.parse(cgroup, mountinfo)
    groups.parse(cgroup, cgroups._mounts(mountinfo))
    mounts = Mounts(mountinfo)
    assert mounts.type(mounts.point("/somewhere/below"))
    file_system_type("36", mountinfo)


@given(st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), min_size=1))
def test_a_group_may_be_called_anything(name: str) -> None:
    path = f"/{cgroups.PREFIX}x/{name}"
    found = groups.parse(f"1:pids:{path}\n0::/\n", {"pids": ("/", "/sys/fs/cgroup/pids")})
    assert found == {"pids": f"/sys/fs/cgroup/pids{path}"}


# ---- our own files and packets


@given(st.binary(max_size=140) | st.binary(min_size=120, max_size=120))
def test_any_bytes_are_a_record_or_none(data: bytes) -> None:
    assert record.parse(data) is None
    head = b"CKPW\1\0\1\0"
    whole = (head + data)[:124].ljust(124, b"\0")
    state = record.parse(whole + zlib.adler32(whole).to_bytes(4, "little"))
    assert state is None or record.parse(record.encode(state)) == state


@given(st.binary(max_size=130) | st.binary(min_size=120, max_size=120))
def test_any_bytes_are_a_packet_or_none(data: bytes) -> None:
    packets.parse_event(data)


@given(st.binary(max_size=100), st.integers(-5, 200))
def test_no_record_of_a_log_begins_outside(data: bytes, end: int) -> None:
    try:
        at = records.step_back(data, min(end, len(data)))
    except records.BrokenLog:
        return
    assert at is None or 0 <= at < end


# ---- health checks, ports


@given(mutations({**CONFIG, "rootfs": {"type": "layers", "diff_ids": []}}))
def test_any_check_of_an_image_has_a_meaning_or_none(document: Any) -> None:
    try:
        config = ImageConfig.parse(json.dumps(document).encode())
    except InvalidSpec:
        return
    check = Healthcheck.of_image(config.healthcheck)
    assert check is None or (check.command and check.interval > 0)


ANYTHING = st.none() | st.text() | st.integers() | st.floats() | st.timedeltas() | st.booleans()


@given(
    st.dictionaries(
        st.sampled_from(["interval", "timeout", "start_period", "start_interval", "retries"]),
        ANYTHING,
    ),
    st.text() | st.lists(st.text()) | st.none(),
)
def test_any_check_is_one_or_refused(values: dict[str, Any], command: Any) -> None:
    try:
        check = Healthcheck(command, **values)
    except ConfigError:
        return
    assert 0 < check.interval * 1000 < 1 << 32


@given(st.text(max_size=30) | st.from_regex(r"[0-9]{0,6}(/[a-z]{3})?", fullmatch=True))
def test_any_text_is_a_port_or_refused(text: str) -> None:
    try:
        port = parse_port(text)
    except ConfigError:
        return
    assert 1 <= port.number <= 65535


@given(st.text(max_size=40) | st.text(max_size=30).map("http://{}".format))
def test_any_text_is_something_to_ask_for_or_refused(text: str) -> None:
    try:
        request = parse_http(text, None)
    except ConfigError:
        return
    assert 1 <= request.port <= 65535
    assert "\n" not in str(request)


# ---- what is too deep, too large, or too long


@example({"token": "t", "expires_in": 10**400})
@example({"token": "t", "expires_in": float("nan")})
@given(mutations({"token": "t", "expires_in": 60, "access_token": "u"}))
def test_any_answer_is_a_token_or_an_error(document: Any) -> None:
    steps = exchange(
        Challenge("bearer", {"realm": "https://r.example/"}),
        origin="https://r.example",
        scope="s",
        login=None,
        now=5.0,
    )
    next(steps)
    with pytest.raises((StopIteration, RegistryError)) as ended:
        steps.send(TokenAnswer(200, json.dumps(document).encode()))
    if isinstance(ended.value, StopIteration):
        assert 5.0 <= ended.value.value.expires <= 5.0 + 86_400


def test_nothing_nests_too_deep() -> None:
    for path in paths(CONFIG):
        deep = json.dumps(changed(CONFIG, path, 0)).replace("0", "[" * 50_000, 1).encode()
        with pytest.raises(InvalidSpec):
            ImageConfig.parse(deep)


SIZE = 1 << 18
PIECES = [
    *("a", "A=", "/", ":", "a:", "a/", "[", '{"a":', '"', "\\", ",", " ", "=", '="', 'a="\\'),
    *("\n", "::\n", "a:x:0:0::/:\n", "1:a:/\n", " - ", "a.", "-", "_", "__", "@", "\\0", "\x0c"),
    *('Basic a="', "Basic ", "a b ", "9", "9.", "0a", "1 1 1 / / - cgroup a b\n", "\u2028", "%41"),
]
READERS: dict[str, Callable[[str], object]] = {
    "reference": Reference.parse,
    "platform": Platform.parse,
    "size": parse_size,
    "port": parse_port,
    "http": lambda text: parse_http(text, None),
    "challenges": lambda text: parse_challenges([text]),
    "redacted": protocol.redacted,
    "location": lambda text: protocol.redirect_target("https://r.example/v2/x", text),
    "codes": lambda text: protocol.error_codes(text.encode()),
    "manifest": lambda text: parse_manifest(text.encode(), None),
    "config": lambda text: ImageConfig.parse(text.encode()),
    "seccomp": SeccompProfile.parse,
    "user": lambda text: resolve_user(text, b"", b""),
    "passwd": lambda text: resolve_user("app", text.encode(), text.encode()),
    "names": lambda text: top.parse_passwd(text.encode()),
    "cgroups": lambda text: cgroups.parse(text, text),
    "groups": lambda text: groups.parse(text, {}),
    "mounts": lambda text: Mounts(text).below("/"),
    "sockets": lambda text: listeners(text, 80, "0A"),
    "flat": stats.parse_flat,
    "event": lambda text: events.decode(text.encode()),
    "log": lambda text: records.parse(text.encode()),
}


@pytest.mark.parametrize("name", READERS)
def test_time_is_bounded(name: str) -> None:
    """A reader whose time grew with the square of the text would not come back from these."""
    for piece in PIECES:
        text = (piece * (SIZE // len(piece) + 1))[:SIZE]
        try:
            READERS[name](text)
            READERS[name](f"x{text}\0")
        except (ContainerKitError, records.BrokenLog):
            continue
