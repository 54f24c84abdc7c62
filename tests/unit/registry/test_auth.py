"""Challenges and the token exchange, without any connection."""

from __future__ import annotations

import json
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from containerkit.errors import RegistryError
from containerkit.registry.auth import (
    Challenge,
    Login,
    Token,
    TokenAnswer,
    TokenRequest,
    Tokens,
    exchange,
    parse_challenges,
)

ORIGIN = "https://reg.example"
REALM = "https://auth.example/token"


def parsed(*headers: str) -> list[tuple[str, dict[str, str]]]:
    return [(one.scheme, dict(one.parameters)) for one in parse_challenges(headers)]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Basic", [("basic", {})]),
        ('Basic realm="a, \\"b\\" c"', [("basic", {"realm": 'a, "b" c'})]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"',
            [
                (
                    "bearer",
                    {"realm": "https://a/t", "service": "s", "scope": "repository:x:pull,push"},
                )
            ],
        ),
        (
            'BEARER Realm = "r" , Service=s , Basic realm="b"',
            [("bearer", {"realm": "r", "service": "s"}), ("basic", {"realm": "b"})],
        ),
        ("Negotiate YWJj==, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Bearer realm="good",realm="evil"', [("bearer", {"realm": "good"})]),
        ("", []),
        (" , ,", []),
        ("=;;", []),
        ('Bearer realm="unterminated', [("bearer", {})]),
        ("Bearer realm=", [("bearer", {})]),
    ],
)
def test_challenges(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parsed(header) == expected


def test_several_headers() -> None:
    assert parsed("Basic realm=a", "Bearer realm=b") == [
        ("basic", {"realm": "a"}),
        ("bearer", {"realm": "b"}),
    ]


def test_a_flood_of_challenges_is_bounded() -> None:
    assert len(parse_challenges(["a,b," * 10_000] * 10)) <= 16


def step(
    login: Login | None = None, *, origin: str = ORIGIN, **parameters: str
) -> tuple[TokenRequest, Token | TokenAnswer | None]:
    """Run an exchange that is answered with a token; return the request and the result."""
    challenge = Challenge("bearer", {"realm": REALM, "service": "s", **parameters})
    steps = exchange(challenge, origin=origin, scope="repository:x:pull", login=login, now=100.0)
    request = next(steps)
    try:
        steps.send(TokenAnswer(200, b'{"token": "abc", "expires_in": 300}'))
    except StopIteration as end:
        return request, end.value
    return request, None


def fields(request: TokenRequest) -> dict[str, list[str]]:
    return parse_qs(urlsplit(request.url).query or (request.body or b"").decode())


def test_an_anonymous_token() -> None:
    request, token = step()
    assert request.url.startswith(f"{REALM}?")
    assert fields(request) == {"service": ["s"], "scope": ["repository:x:pull"]}
    assert (request.method, dict(request.headers)) == ("GET", {})
    assert token == Token("Bearer abc", 370.0)


def test_a_token_for_a_login() -> None:
    request, _ = step(Login("me", "pässword"), scope="repository:x:pull repository:y:pull")
    assert fields(request)["scope"] == ["repository:x:pull", "repository:y:pull"]
    assert fields(request)["account"] == ["me"]
    assert request.headers["Authorization"].startswith("Basic ")


def test_an_identity_token_is_exchanged_by_post() -> None:
    request, _ = step(Login("", "", "identity"))
    assert (request.method, urlsplit(request.url).query) == ("POST", "")
    assert fields(request)["grant_type"] == ["refresh_token"]
    assert fields(request)["refresh_token"] == ["identity"]


def test_a_realm_with_a_query_keeps_it() -> None:
    request, _ = step(realm="https://auth.example/token?tenant=7")
    assert fields(request)["tenant"] == ["7"]


@pytest.mark.parametrize(
    "realm",
    [
        "",
        "tests",
        "/token",
        "http://auth.example/token",
        "https://u:p@auth.example/",
        "file:///x",
        "https://[x",
    ],
)
def test_a_realm_that_may_not_be_asked(realm: str) -> None:
    with pytest.raises(RegistryError):
        step(Login("me", "hunter2"), realm=realm)


def test_plain_http_may_name_a_plain_realm() -> None:
    request, _ = step(origin="http://127.0.0.1:5000", realm="http://127.0.0.1:6000/token")
    assert request.url.startswith("http://127.0.0.1:6000/token?")


def answered(status: int, body: bytes) -> Token | TokenAnswer:
    challenge = Challenge("bearer", {"realm": REALM})
    steps = exchange(challenge, origin=ORIGIN, scope="s", login=None, now=0.0)
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send(TokenAnswer(status, body))
    result: Token | TokenAnswer = end.value.value
    return result


@pytest.mark.parametrize(
    ("document", "lifetime"),
    [
        ({"token": "t"}, 54.0),
        ({"access_token": "t", "expires_in": 10}, 9.0),
        ({"token": "t", "expires_in": 3600}, 3570.0),
        ({"token": "t", "expires_in": -1}, 54.0),
        ({"token": "t", "expires_in": 1e300}, 86_370.0),
        ({"token": "t", "expires_in": "soon"}, 54.0),
        ({"token": "t", "expires_in": True}, 54.0),
    ],
)
def test_how_long_a_token_holds(document: dict[str, object], lifetime: float) -> None:
    token = answered(200, json.dumps(document).encode())
    assert isinstance(token, Token)
    assert token.expires == pytest.approx(lifetime)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"7",
        b"{}",
        b'{"token": ""}',
        b'{"token": 7}',
        b'{"token": "a\\r\\nX: y"}',
        b'{"token": "a b"}',
        b'{"token": "\\u00e9"}',
        b"[" * 99_999,
    ],
)
def test_an_answer_without_a_token(body: bytes) -> None:
    challenge = Challenge("bearer", {"realm": REALM})
    steps = exchange(challenge, origin=ORIGIN, scope="s", login=None, now=0.0)
    next(steps)
    with pytest.raises(RegistryError, match="without a usable token"):
        steps.send(TokenAnswer(200, body))


def test_a_refusal_is_handed_back() -> None:
    assert answered(401, b"no") == TokenAnswer(401, b"no")


def test_tokens_are_kept_by_who_and_where() -> None:
    tokens = Tokens()
    later = time.monotonic() + 1000
    key = (ORIGIN, "x", None, 0)
    tokens.put(key, Token("Bearer a", later))
    assert tokens.get(key) == "Bearer a"
    assert tokens.get((ORIGIN, "y", None, 0)) is None
    assert tokens.get((ORIGIN, "x", Login("me", "pw"), 0)) is None
    assert tokens.get((ORIGIN, "x", None, 1)) is None
    tokens.drop(key, "Bearer other")
    assert tokens.get(key) == "Bearer a"
    tokens.drop(key, "Bearer a")
    assert tokens.get(key) is None


def test_an_expired_token_is_not_used() -> None:
    tokens = Tokens()
    tokens.put((ORIGIN, "x", None, 0), Token("Bearer a", time.monotonic() - 1))
    assert tokens.get((ORIGIN, "x", None, 0)) is None


def test_the_cache_is_bounded() -> None:
    tokens = Tokens()
    for number in range(1500):
        tokens.put((ORIGIN, str(number), None, 0), Token("Bearer a", time.monotonic() + 1000))
    assert tokens.get((ORIGIN, "0", None, 0)) is None
    assert tokens.get((ORIGIN, "1499", None, 0)) == "Bearer a"


def test_secrets_have_no_repr() -> None:
    login = Login("me", "hunter2", "hunter3")
    request, token = step(login)
    assert "hunter" not in repr(login) + repr(request)
    assert "abc" not in repr(token)
