"""The registry client: resolve a name, get a manifest, stream a blob.

Owns: what is asked for, the retries of single requests, and the check of what comes against the
digest it was asked by.  Must not: write files, know a store, or who we are (`session` does).
Flow: `images/pull` calls `resolve` or `manifest`, then `fetch` per blob.

Lifecycle: one client an engine, used by all its threads.  It keeps connections and tokens; all of
it can be lost at any time and is found again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from containerkit.errors import (
    LIMIT_HINT,
    BlobNotFound,
    DigestMismatch,
    ImageNotFound,
    InvalidSpec,
    SizeMismatch,
    TransportError,
)
from containerkit.model.descriptor import DOCKER_SCHEMA_1, Descriptor
from containerkit.model.digest import Digest
from containerkit.model.engine_config import Pace
from containerkit.model.image_limits import ImageLimits
from containerkit.model.manifest import parse_manifest
from containerkit.model.reference import Reference
from containerkit.registry import protocol, retry
from containerkit.registry.credentials import Credentials
from containerkit.registry.fetch import BlobStream
from containerkit.registry.session import Access, Auth, Certificates, Session
from containerkit.registry.transport import IDLE_TIMEOUT, Answer, Transport

USER_AGENT: Final = "containerkit"

T = TypeVar("T")


class RegistryClient:
    """Reads images from registries.  Safe to use from several threads.

    The same keywords everywhere: ``insecure`` (True: plain HTTP and any certificate; None: plain
    HTTP on loopback only; False: never), ``ca`` (file or text with certificate authorities in
    PEM), ``auth`` (a `Login` or (user, password), for this call).

    Args:
        credentials: asked once a registry wants to know who we are.
        user_agent: sent with every request.
        policy: how patient to be.
        transport: what sends; made here by default.
        limits: of manifests; None: the usual ones.
        realms: hosts that logins may be sent to, beside those of a registry's own domain.
        pace: that answers have to keep; None: the usual one.
    """

    def __init__(
        self,
        credentials: Credentials | None = None,
        *,
        user_agent: str = USER_AGENT,
        policy: retry.Policy | None = None,
        transport: Transport | None = None,
        limits: ImageLimits | None = None,
        realms: Sequence[str] = (),
        pace: Pace | None = None,
    ) -> None:
        self.credentials = credentials if credentials is not None else Credentials()
        self.policy = policy if policy is not None else retry.Policy()
        self._transport = transport or Transport(user_agent=user_agent, pace=pace)
        self._session = Session(self.credentials, self._transport, realms=realms)
        self._limits = limits or ImageLimits()

    def close(self) -> None:
        """Close idle connections; the client can still be used."""
        self._transport.close()

    def has_answered(self, reference: Reference) -> bool:
        """Return whether the registry of *reference* answered within the last minute."""
        return self._session.has_answered(reference.registry)

    def note_answer(self, reference: Reference) -> None:
        """Remember that the registry of *reference* answered just now."""
        self._session.note_answer(reference.registry)

    def _retrying(
        self, access: Access, call: Callable[[], T], cancelled: threading.Event | None
    ) -> T:
        return retry.retrying(
            call, self.policy, cancelled, answered=lambda: self.has_answered(access.reference)
        )

    # ---- manifests -----------------------------------------------------------------------------

    def resolve(
        self,
        reference: Reference,
        *,
        insecure: bool | None = None,
        ca: Certificates = None,
        auth: Auth = None,
        cancelled: threading.Event | None = None,
    ) -> Descriptor:
        """Return what *reference* names now, without its bytes where the registry can say so.

        Raises:
            ImageNotFound: the registry has nothing under this name.
            RegistryError: refused, limited or unreachable (see its subclasses).
            DigestMismatch: the registry answers a digest with another.

        Spec: distribution-spec, Checking if content exists in the registry.
        """
        access = Access.of(reference, insecure=insecure, ca=ca, auth=auth)
        found = self._retrying(access, lambda: self._head(access), cancelled)
        if found is not None:
            return found
        return self.manifest(
            reference, insecure=insecure, ca=ca, auth=access.login, cancelled=cancelled
        )[1]

    def manifest(
        self,
        reference: Reference,
        *,
        descriptor: Descriptor | None = None,
        insecure: bool | None = None,
        ca: Certificates = None,
        auth: Auth = None,
        cancelled: threading.Event | None = None,
    ) -> tuple[bytes, Descriptor]:
        """Return a manifest or index, verified against the digest it was asked by.

        Args:
            reference: its digest wins over its tag.
            descriptor: what an index said of it; digest, size and media type must agree.
            insecure: see the class.
            ca: see the class.
            auth: see the class.
            cancelled: ends a wait between two tries with TransportError (ECANCELED).

        Raises:
            ImageNotFound, RegistryError, DigestMismatch: as `resolve`.
            InvalidSpec: malformed, or above the limit of its size, and then not read.
            UnsupportedMediaType: neither OCI nor Docker schema 2.

        Spec: distribution-spec, Pulling manifests.
        """
        if descriptor is not None:
            reference = reference.with_digest(descriptor.digest)
        access = Access.of(reference, insecure=insecure, ca=ca, auth=auth)
        data, found = self._retrying(access, lambda: self._get_twice(access), cancelled)
        if descriptor is not None and found.size != descriptor.size:
            raise SizeMismatch(
                f"cannot pull {reference}: the index says {descriptor.size} bytes, it has {found.size}",
                expected=descriptor.size,
                actual=found.size,
            )
        if descriptor is not None and found.media_type != descriptor.media_type:
            raise InvalidSpec(
                f"cannot pull {reference}: the index calls it {descriptor.media_type!a},"
                f" it is {found.media_type!a}"
            )
        return data, found

    def _head(self, access: Access) -> Descriptor | None:
        reference = access.reference
        path = protocol.manifest_path(reference)
        headers = {"Accept": protocol.ACCEPT_MANIFEST}
        with self._session.send(access, "HEAD", path, headers) as answer:
            if answer.status in (400, 404, 405, 501):
                return None  # some registries have no HEAD, and GET says why it refuses
            if answer.status != 200:
                raise self._session.refusal(access, answer, ImageNotFound)
            size = protocol.content_length(answer.headers)
            media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            try:
                digest = Digest.parse(answer.headers.get("Docker-Content-Digest", ""))
            except InvalidSpec:
                return None
        if reference.digest is not None and digest != reference.digest:
            raise _other_digest(reference, reference.digest, digest)
        known = protocol.ACCEPT_MANIFEST.split(", ")
        if size is None or size > self._limits.manifest or media_type not in known:
            return None
        return Descriptor(media_type, digest, size)

    def _get_twice(self, access: Access) -> tuple[bytes, Descriptor]:
        try:
            return self._get(access)
        except DigestMismatch:  # changed on the way, perhaps
            return self._get(access)

    def _get(self, access: Access) -> tuple[bytes, Descriptor]:
        reference = access.reference
        path = protocol.manifest_path(reference)
        headers = {"Accept": protocol.ACCEPT_MANIFEST}
        with self._session.send(access, "GET", path, headers) as answer:
            if answer.status != 200:
                raise self._session.refusal(access, answer, ImageNotFound)
            _check_encoding(answer, f"cannot pull {reference}")
            announced = protocol.content_length(answer.headers) or 0
            most = self._limits.manifest
            data = b"" if announced > most else answer.read(most)
            if announced > most or len(data) > most:
                size = f"{announced} bytes, " if announced else ""
                raise InvalidSpec(
                    f"cannot pull {reference}: its manifest has {size}more than {most}",
                    hint=LIMIT_HINT,
                )
            media_type = answer.headers.get("Content-Type")
            promised = answer.headers.get("Docker-Content-Digest", "")
        self._verify(reference, data, promised, media_type)
        parsed = parse_manifest(data, media_type, limits=self._limits)
        name = reference.digest or Digest.of(data)
        return data, Descriptor(parsed.media_type, name, len(data))

    def _verify(
        self, reference: Reference, data: bytes, promised: str, media_type: str | None
    ) -> None:
        """Check *data* against the digest asked for, else against the one the registry promised."""
        if (media_type or "").partition(";")[0].strip() in DOCKER_SCHEMA_1:
            return  # named by a digest of a part of it; refused by the parser
        expected = reference.digest
        if expected is None:
            try:
                expected = Digest.parse(promised)
            except InvalidSpec:
                return  # nothing is promised by a tag alone
        hasher = expected.hasher()
        hasher.update(data)
        if hasher.hexdigest() != expected.encoded:
            raise _other_digest(reference, expected, Digest(expected.algorithm, hasher.hexdigest()))

    # ---- blobs ---------------------------------------------------------------------------------

    def blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        *,
        offset: int = 0,
        insecure: bool | None = None,
        ca: Certificates = None,
        auth: Auth = None,
        cancelled: threading.Event | None = None,
    ) -> BlobStream:
        """Open a blob for reading, from *offset* on where the registry can.

        One attempt: `fetch.fetch` resumes and retries.  The bytes are not verified.

        Args:
            reference: whose repository has the blob.
            descriptor: of the blob.
            offset: bytes that are already there; the stream's ``offset`` says from where on it is.
            insecure: see the class.
            ca: see the class.
            auth: see the class.
            cancelled: ends the stream with TransportError (ECANCELED).

        Raises:
            BlobNotFound: the repository has no such blob.
            RegistryError: refused, limited or unreachable.
            SizeMismatch: the registry announces another size.

        Spec: distribution-spec, Pulling blobs; RFC 9110, 14 Range Requests.
        """
        access = Access.of(reference, insecure=insecure, ca=ca, auth=auth)
        path = protocol.blob_path(reference, descriptor)
        asked = offset if 0 < offset < descriptor.size else 0
        headers = {"Range": f"bytes={asked}-"} if asked else {}
        # A registry that fetches the blob from another one first takes its time.
        answer = self._session.send(access, "GET", path, headers, patience=IDLE_TIMEOUT)
        if answer.status == 416 and asked:
            answer.finish()
            asked = 0
            answer = self._session.send(access, "GET", path, {}, patience=IDLE_TIMEOUT)
        try:
            if answer.status not in (200, 206):
                raise self._session.refusal(access, answer, BlobNotFound)
            _check_encoding(answer, f"cannot download {descriptor.digest}")
            granted = protocol.granted_offset(answer.status, answer.headers, asked, descriptor)
        except BaseException:
            answer.finish()
            raise
        return BlobStream(answer, descriptor, granted, cancelled)


def _check_encoding(answer: Answer, attempt: str) -> None:
    """Refuse bytes that are others than those that were stored."""
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise TransportError(
            f"{attempt}: the answer is compressed on the way, which was not asked for",
            hint="what stands between here and the registry changes what it says",
            request=answer.request,
        )


def _other_digest(reference: Reference, expected: Digest, actual: Digest) -> DigestMismatch:
    return DigestMismatch(
        f"cannot pull {reference}: its manifest hashes to {actual}, expected {expected}",
        expected=str(expected),
        actual=str(actual),
    )
