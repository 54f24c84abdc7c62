"""One request to one registry, with who we are there.

Owns: which place speaks for a registry, the answer to its challenges, and every HTTP status that
becomes an error.  Must not: know what is asked for.  Flow: `client` sends everything through it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

import attrs

from containerkit.errors import (
    BlobNotFound,
    ConfigError,
    ContainerKitError,
    ImageNotFound,
    RegistryError,
    TransportError,
)
from containerkit.model.reference import Reference
from containerkit.registry import protocol
from containerkit.registry.auth import (
    MAX_TOKEN_ANSWER,
    Challenge,
    Key,
    Login,
    Token,
    TokenAnswer,
    Tokens,
    exchange,
    parse_challenges,
)
from containerkit.registry.connections import Tls, readable
from containerkit.registry.credentials import Credentials, Found
from containerkit.registry.failures import speaks_tls
from containerkit.registry.transport import ANSWER_TIMEOUT, PROBE_TIMEOUT, Answer, Transport

_LATELY = 60.0

Auth = Login | tuple[str, str] | None
Certificates = str | os.PathLike[str] | None


@attrs.frozen
class Access:
    """How one registry is reached and who we are there.

    Args:
        insecure: True allows plain HTTP and any certificate; None plain HTTP on loopback only.
        ca: PEM text of more certificate authorities.
        login: given with the call; wins over all that `Credentials` knows.
    """

    reference: Reference
    insecure: bool | None
    ca: str | None
    login: Login | None

    @classmethod
    def of(
        cls, reference: Reference, *, insecure: bool | None, ca: Certificates, auth: Auth
    ) -> Access:
        """Return the access that the arguments of a public call mean."""
        if isinstance(auth, tuple):
            auth = Login(*auth)
        if ca is not None and not (isinstance(ca, str) and ca.lstrip().startswith("-----BEGIN")):
            ca = readable(ca)
        return cls(reference, insecure, ca, auth)


class Session:
    """Sends requests as whoever we are; safe to use from several threads.

    A registry says where its tokens come from, and the login goes only to its own domain or to
    *realms*; elsewhere a token is asked for as nobody.

    It keeps tokens and which scheme a registry speaks; both are found again when lost.
    """

    def __init__(
        self, credentials: Credentials, transport: Transport, *, realms: Sequence[str] = ()
    ) -> None:
        self.credentials = credentials
        self._realms = frozenset(realm.lower() for realm in realms)
        self._transport = transport
        self._tokens = Tokens()
        self._origins: dict[tuple[str, bool | None, bool], protocol.Origin] = {}
        self._answers: dict[str, float] = {}  # by registry, when the last one came
        # By registry and generation: who we were when it last asked.  A helper that takes half a
        # minute is not asked again to say what went wrong.
        self._said: dict[tuple[str, int], str] = {}

    def has_answered(self, registry: str) -> bool:
        """Return whether it did so within the last minute: then it is worth waiting for."""
        return time.monotonic() - self._answers.get(registry, -_LATELY) < _LATELY

    def note_answer(self, registry: str) -> None:
        """Remember that it answers just now."""
        self._answers[registry] = time.monotonic()

    def send(
        self,
        access: Access,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        patience: float = ANSWER_TIMEOUT,
    ) -> Answer:
        """Send a request to the registry; answer its challenge once.

        Args:
            access: where, and as whom.
            method: of HTTP.
            path: at the registry.
            headers: of the request.
            patience: seconds until an answer begins.

        Raises:
            TransportError, RegistryError: as `Transport.send`; a realm that refuses.
        """
        origin = self._origin(access)
        tls = Tls(origin.verify, access.ca)
        url = origin.base + path
        generation = self.credentials.generation
        key: Key = (origin.base, access.reference.repository, access.login, generation)
        header = self._tokens.get(key)
        answer = self._transport.send(
            method, url, headers=headers, tls=tls, authorization=header, patience=patience
        )
        self.note_answer(access.reference.registry)
        if answer.status == 400:
            self._origins.pop(self._key(access), None)  # it may speak TLS by now
        asked_by = protocol.origin_of(answer.url)
        if answer.status != 401 or asked_by != protocol.origin_of(url):
            # A place that we were redirected to has no say in who we are.
            return answer
        challenges = parse_challenges(answer.all_headers("WWW-Authenticate"))
        try:
            new = self._authorize(access, origin, key, challenges, stale=header)
        except BaseException:
            answer.finish()
            raise
        if new is None or new == header:
            return answer
        answer.discard()
        return self._transport.send(
            method, url, headers=headers, tls=tls, authorization=new, patience=patience
        )

    def _authorize(
        self,
        access: Access,
        origin: protocol.Origin,
        key: Key,
        challenges: tuple[Challenge, ...],
        *,
        stale: str | None,
    ) -> str | None:
        """Return a header that answers one of *challenges*, None when we can not."""
        schemes = {challenge.scheme: challenge for challenge in reversed(challenges)}
        with self._tokens.gate(key):
            if stale is not None:
                self._tokens.drop(key, stale)
            present = self._tokens.get(key)
            if present is not None:
                return present  # another thread asked while we waited
            login = access.login or self._look_up(access).login
            if "bearer" in schemes:
                token = self._exchange(access, origin, schemes["bearer"], login)
            elif "basic" in schemes and login is not None and login.identity_token is None:
                token = Token(login.basic(), time.monotonic() + 300)
            else:
                return None
            self._tokens.put(key, token)
            return token.header

    def _exchange(
        self, access: Access, origin: protocol.Origin, challenge: Challenge, login: Login | None
    ) -> Token:
        realm = challenge.parameters.get("realm", "")
        kept_back = login is not None and not self._may_know(origin, realm)
        steps = exchange(
            challenge,
            origin=origin.base,
            scope=f"repository:{access.reference.repository}:pull",
            login=None if kept_back else login,
            now=time.monotonic(),
        )
        request = next(steps)
        headers = {
            name: value for name, value in request.headers.items() if name != "Authorization"
        }
        with self._transport.send(
            request.method,
            request.url,
            headers=headers,
            tls=Tls(origin.verify, access.ca),
            authorization=request.headers.get("Authorization"),
            body=request.body,
            chosen_by=origin.base,
        ) as answer:
            received = TokenAnswer(answer.status, answer.read(MAX_TOKEN_ANSWER))
            try:
                steps.send(received)
            except StopIteration as end:
                if isinstance(end.value, Token):
                    return end.value
            host = protocol.redacted(realm).partition("//")[2].partition("/")[0]
            hint = (
                f"the login was not sent to {host}, which is not of the registry's domain:"
                f" EngineConfig(token_realms=({host!r},)) would"
            )
            raise self.refusal(
                access, answer, RegistryError, received.body, hint=hint if kept_back else None
            )

    def _may_know(self, origin: protocol.Origin, realm: str) -> bool:
        """Whether the login at a registry may be sent to the realm that it names."""
        try:
            return (
                protocol.same_site(origin.base, realm)
                or protocol.origin_of(realm)[1] in self._realms
            )
        except ValueError:  # no URL: it is refused when it comes to be used
            return False

    def _look_up(self, access: Access) -> Found:
        registry, generation = access.reference.registry, self.credentials.generation
        found = self.credentials.find(registry)
        self._said[registry, generation] = _who(registry, found)
        return found

    def _origin(self, access: Access) -> protocol.Origin:
        """Return the place that speaks for the registry; asked once where there are several."""
        key = self._key(access)
        candidates = protocol.origins(
            access.reference.registry, insecure=access.insecure, private_ca=access.ca is not None
        )
        known = self._origins.get(key)
        if known is not None:
            return known
        if len(candidates) == 1:
            return candidates[0]
        doubtful: protocol.Origin | None = None
        errors: list[TransportError] = []
        for origin in candidates:
            try:
                with self._transport.send(
                    "GET",
                    f"{origin.base}/v2/",
                    headers={},
                    tls=Tls(origin.verify, access.ca),
                    patience=PROBE_TIMEOUT,
                ) as answer:
                    self.note_answer(access.reference.registry)
                    if answer.status != 400 or origin.base.startswith("https:"):
                        return self._origins.setdefault(key, origin)
                    doubtful = origin  # so answers who speaks TLS, or has another objection
            except TransportError as error:
                errors.append(error)
        of_tls = [one for one in errors if speaks_tls(one)]
        if doubtful is not None and not of_tls:
            return doubtful
        raise (of_tls or errors)[0]

    @staticmethod
    def _key(access: Access) -> tuple[str, bool | None, bool]:
        return access.reference.registry, access.insecure, access.ca is not None

    def refusal(
        self,
        access: Access,
        answer: Answer,
        missing: type[ImageNotFound | BlobNotFound | RegistryError],
        body: bytes | None = None,
        *,
        hint: str | None = None,
    ) -> ContainerKitError:
        """Return the error that an answer's status means.

        Args:
            access: that the request was made with.
            answer: whose status is no success.
            missing: the class for 404.
            body: of the answer; read here when None.
            hint: of a refusal, when there is more to say than who we are.
        """
        if body is None:
            try:
                body = answer.read(protocol.MAX_ERROR_BODY)
            except TransportError:
                body = b""  # the status says enough
        return protocol.status_error(
            f"cannot pull {access.reference}",
            answer.request,
            answer.status,
            answer.headers,
            body,
            now=time.time(),
            hint=(hint or self._hint(access)) if answer.status in (401, 403) else None,
            missing=missing,
        )

    def _hint(self, access: Access) -> str:
        registry = access.reference.registry
        if access.login is not None:
            return _who(registry, Found(access.login))
        said = self._said.get((registry, self.credentials.generation))
        if said is not None:
            return said
        try:
            return _who(registry, self._look_up(access))
        except ConfigError as error:
            return str(error)


def _who(registry: str, found: Found) -> str:
    """Say what a registry that refuses us was told; nothing of it is secret."""
    if found.problem is not None:
        return found.problem
    if found.login is None:
        return (
            f"no login is known for {registry}: engine.login({registry!r}, username=…,"
            " password=…), if the image exists at all"
        )
    return f"the login of {found.login.username!a} does not allow it, or the image does not exist"
