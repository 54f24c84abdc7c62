"""How a registry asks who we are, and the exchange that answers it, without any I/O.

Owns: the parser of WWW-Authenticate, what may become of a challenge, the token exchange as a
generator (it yields requests, is sent answers, returns a token), the cache of tokens.
Must not: send anything, look credentials up.  Flow: `client` drives it after a 401.

Spec: RFC 9110, 11.6.1; distribution project, Token Authentication and OAuth2 Token Authentication.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit

import attrs

from containerkit.errors import ConfigError, RegistryError
from containerkit.registry.protocol import redacted, redirect_target

MAX_CHALLENGE: Final = 16 << 10
MAX_TOKEN_ANSWER: Final = 1 << 20
MAX_TOKENS: Final = 1024

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# One of: a parameter with a quoted or a bare value, or a word (the next scheme, or a token68).
_PARAMETER = re.compile(
    rf'\s*(?P<name>{_WORD})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<bare>{_WORD}))\s*(?:,|$)',
    re.DOTALL,
)
_SCHEME = re.compile(rf"[\s,]*(?P<scheme>{_WORD})(?P<more>\s+)?(?:,|$|(?<=\s))")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]++=*+\s*(?:,|$)")
_HEADER_VALUE = re.compile(r"[!-~]{1,65536}")


@attrs.frozen
class Login:
    """Who we are at one registry.

    Args:
        username: empty when only an identity token is known.
        password: or a personal access token.
        identity_token: given by the registry's own login; exchanged for access tokens.

    Raises:
        ConfigError: one of them is no text that can be sent.
    """

    username: str
    password: str = attrs.field(repr=False)
    identity_token: str | None = attrs.field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        for text in (self.username, self.password, self.identity_token or ""):
            try:
                text.encode()
            except UnicodeEncodeError:
                # Not from it: that would carry the text.
                raise ConfigError("cannot use a login: a part of it is no Unicode text") from None

    def basic(self) -> str:
        """Return the value of an Authorization header.

        Spec: RFC 7617.
        """
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"


@attrs.frozen
class Challenge:
    """One way a registry offers to be convinced; names are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = attrs.field(factory=dict, hash=False)


def parse_challenges(headers: Sequence[str]) -> tuple[Challenge, ...]:
    """Read WWW-Authenticate headers; what can not be read is left out, never raised.

    Spec: RFC 9110, 11.3 and 11.6.1.
    """
    found: list[Challenge] = []
    for header in headers:
        text, position = header[:MAX_CHALLENGE], 0
        while scheme := _SCHEME.match(text, position):
            position = scheme.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(text, position):
                position = parameter.end()
                value = parameter["bare"]
                if value is None:
                    value = re.sub(r"\\(.)", r"\1", parameter["quoted"], flags=re.DOTALL)
                # The first of two wins: a proxy that appends can not redirect us.
                parameters.setdefault(parameter["name"].lower(), value)
            if not parameters and scheme["more"] and (token68 := _TOKEN68.match(text, position)):
                position = token68.end()
            found.append(Challenge(scheme["scheme"].lower(), parameters))
            if len(found) == 16:
                return tuple(found)
    return tuple(found)


# ---- the token exchange ------------------------------------------------------------------------


@attrs.frozen
class TokenRequest:
    """What to send to the realm; its headers hold secrets, so it has no repr."""

    method: str
    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes | None = attrs.field(default=None, repr=False)


@attrs.frozen
class TokenAnswer:
    """What came back."""

    status: int
    body: bytes = attrs.field(repr=False)


@attrs.frozen
class Token:
    """The value of an Authorization header and until when it holds (monotonic seconds)."""

    header: str = attrs.field(repr=False)
    expires: float


def exchange(
    challenge: Challenge, *, origin: str, scope: str, login: Login | None, now: float
) -> Generator[TokenRequest, TokenAnswer, Token | TokenAnswer]:
    """Get an access token for *scope* from the realm that a registry named.

    Args:
        challenge: of scheme bearer, sent by the registry itself.
        origin: URL of that registry; its credentials may go to the realm it names, but not from
            TLS to plain HTTP.
        scope: used when the challenge names none.
        login: None asks for an anonymous token.
        now: monotonic seconds.

    Returns:
        The token, or the realm's answer when it refused.

    Raises:
        RegistryError: a realm that may not be asked, or an answer without a token.
    """
    realm = challenge.parameters.get("realm", "")
    if not realm.lower().startswith(("https:", "http:")):
        raise RegistryError(
            f"cannot log in to {redacted(origin)}: its token realm {redacted(realm)!a} is no URL"
        )
    realm = redirect_target(origin, realm)
    fields = {"scope": challenge.parameters.get("scope") or scope}
    if service := challenge.parameters.get("service"):
        fields["service"] = service
    if login is not None and login.identity_token is not None:
        fields |= {
            "grant_type": "refresh_token",
            "refresh_token": login.identity_token,
            "client_id": "containerkit",
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        request = TokenRequest("POST", realm, headers, urlencode(fields).encode("ascii"))
    else:
        if login is not None:
            fields["account"] = login.username
        request = TokenRequest(
            "GET",
            _with_query(realm, fields),
            {} if login is None else {"Authorization": login.basic()},
        )
    answer = yield request
    if answer.status != 200:
        return answer
    return _token(answer.body, realm, now)


def _with_query(url: str, fields: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    pairs = []
    for name, value in fields.items():
        # Several scopes are several parameters.
        values = value.split() if name == "scope" else [value]
        pairs += [(name, one) for one in values]
    query = "&".join(filter(None, (parts.query, urlencode(pairs))))
    return urlunsplit((parts.scheme, parts.netloc, parts.path or "/", query, ""))


def _token(body: bytes, realm: str, now: float) -> Token:
    value: object = None
    seconds: object = None
    try:
        document = json.loads(body)
        value = document.get("token") or document.get("access_token")
        seconds = document.get("expires_in")
    except (ValueError, RecursionError, AttributeError):
        pass
    if not isinstance(value, str) or _HEADER_VALUE.fullmatch(value) is None:
        raise RegistryError(f"cannot log in: {redacted(realm)} answered without a usable token")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        seconds = 60
    # Used up a little early, so that it does not lapse on the way.
    lifetime = float(min(seconds, 86_400))  # of an integer that no float holds, too
    return Token(f"Bearer {value}", now + max(lifetime * 0.9, lifetime - 30))


# ---- the cache ---------------------------------------------------------------------------------

Key = tuple[str, str, Login | None, int]
"""Registry, repository, login of the call, generation of the credentials."""


class Tokens:
    """Authorization headers by registry, repository and login; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[Key, Token] = {}
        self._gates: dict[Key, threading.Lock] = {}

    def get(self, key: Key) -> str | None:
        """Return the header for *key*, None when there is none or it has expired."""
        with self._lock:
            token = self._tokens.get(key)
            return token.header if token is not None and token.expires > time.monotonic() else None

    def put(self, key: Key, token: Token) -> None:
        """Remember a token; the oldest is forgotten when there are very many."""
        with self._lock:
            self._tokens.pop(key, None)
            self._tokens[key] = token
            while len(self._tokens) > MAX_TOKENS:
                oldest = next(iter(self._tokens))
                del self._tokens[oldest]
                self._gates.pop(oldest, None)

    def drop(self, key: Key, header: str) -> None:
        """Forget *header*, unless another thread has replaced it already."""
        with self._lock:
            token = self._tokens.get(key)
            if token is not None and token.header == header:
                del self._tokens[key]

    def gate(self, key: Key) -> threading.Lock:
        """Return the lock under which one thread asks for the token that others wait for."""
        with self._lock:
            return self._gates.setdefault(key, threading.Lock())
