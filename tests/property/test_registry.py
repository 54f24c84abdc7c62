"""What a registry says, arbitrary: parsers end in a value or a typed error."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerkit.errors import RegistryError, SizeMismatch, TransportError
from containerkit.model.descriptor import Descriptor
from containerkit.model.digest import Digest
from containerkit.registry import protocol
from containerkit.registry.auth import Challenge, Login, TokenAnswer, exchange, parse_challenges

BLOB = Descriptor("x/y", Digest.of(b""), 50)
words = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,8}", fullmatch=True)
values = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=12)
texts = st.text(max_size=40) | st.builds("https://{}".format, st.text(max_size=20))


@given(
    st.lists(st.text(max_size=60) | st.text(alphabet='Basicer =",\\\t', max_size=60), max_size=3)
)
def test_any_header_is_some_challenges(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower()


@given(
    st.lists(
        st.tuples(words, st.dictionaries(words.map(str.lower), values, min_size=1, max_size=3)),
        max_size=3,
    )
)
def test_challenges_are_read_as_they_were_written(wanted: list[tuple[str, dict[str, str]]]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        f"{scheme} " + ", ".join(f"{name}={quoted(value)}" for name, value in parameters.items())
        for scheme, parameters in wanted
    )
    found = [(one.scheme, dict(one.parameters)) for one in parse_challenges([header])]
    assert found == [(scheme.lower(), parameters) for scheme, parameters in wanted]


@given(
    st.dictionaries(st.sampled_from(["realm", "service", "scope"]), texts),
    st.binary(max_size=80),
    st.none() | st.just(Login("me", "hunter2")),
)
def test_any_challenge_ends_in_a_token_or_a_typed_error(
    parameters: dict[str, str], body: bytes, login: Login | None
) -> None:
    challenge = Challenge("bearer", parameters)
    steps = exchange(challenge, origin="https://reg.example", scope="s", login=login, now=0)
    try:
        request = next(steps)
        assert request.url.startswith("https://")
        steps.send(TokenAnswer(200, body))
    except (RegistryError, StopIteration) as ended:
        said = str(ended)
    else:
        said = ""
    assert "hunter2" not in said


@given(
    st.sampled_from([200, 206]),
    st.text(max_size=30)
    | st.from_regex(r"bytes [0-9]{1,3}-[0-9]{1,3}/([0-9]{1,3}|\*)", fullmatch=True),
    st.text(max_size=10) | st.integers(0, 200).map(str),
    st.integers(0, 49),
)
def test_a_granted_offset_is_asked_for_or_zero(
    status: int, content_range: str, length: str, asked: int
) -> None:
    headers = {"Content-Range": content_range, "Content-Length": length}
    try:
        offset = protocol.granted_offset(status, headers, asked, BLOB)
    except (TransportError, SizeMismatch):
        return
    assert offset in (0, asked)


@given(st.text(max_size=60), st.floats(0, 1e10))
def test_any_retry_after_is_a_wait_or_nothing(text: str, now: float) -> None:
    wait = protocol.retry_after(text, now=now)
    assert wait is None or wait >= 0


@given(texts)
def test_any_location_is_followed_to_http_or_refused(location: str) -> None:
    try:
        target = protocol.redirect_target("https://reg.example/v2/x", location)
    except RegistryError:
        return
    assert target.startswith("https://")
    protocol.origin_of(target)


@given(texts)
def test_any_address_can_be_shown(url: str) -> None:
    assert protocol.redacted(url).isascii()


@given(st.binary(max_size=200))
def test_any_body_has_some_error_codes(body: bytes) -> None:
    codes, message = protocol.error_codes(body)
    assert all(code.isprintable() for code in (*codes, message))


@given(st.ip_addresses())
def test_every_address_is_some_way_off(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert protocol.reach(str(address)) in range(4)


def test_the_metadata_service_is_the_farthest() -> None:
    assert protocol.reach("169.254.169.254") == 3
    with pytest.raises(ValueError, match="does not appear"):
        protocol.reach("metadata.example")
