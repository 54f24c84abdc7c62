"""One blob as a stream that survives interruptions.

Owns: `BlobStream` (one answer, counted and bounded) and `fetch` (as many answers as it takes,
each going on where the last one broke).  Must not: verify digests or write; whoever consumes the
bytes hashes them anyway.  Flow: `images/pull` feeds `content` and `layers` from it.
"""

from __future__ import annotations

import random
import select
import threading
import time
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from containerkit.errors import (
    ContainerKitError,
    DigestMismatch,
    InvalidSpec,
    SizeMismatch,
    TransportError,
)
from containerkit.model.descriptor import Descriptor
from containerkit.model.digest import Digest
from containerkit.model.reference import Reference
from containerkit.registry import retry
from containerkit.registry.transport import Answer

if TYPE_CHECKING:
    from containerkit.registry.client import RegistryClient
    from containerkit.registry.session import Auth, Certificates

CHUNK: Final = 256 << 10
# How often a wait for bytes looks at the cancellation event.
TICK_MS: Final = 200


class BlobStream:
    """The bytes of a blob from ``offset`` on, as they arrive; an iterator and a context manager.

    Each chunk has at most 256 KiB and is the only copy of its bytes.

    Args:
        answer: whose body is the blob's.
        descriptor: bounds the number of bytes.
        offset: of the first byte of the body within the blob.
        cancelled: ends the stream with TransportError (ECANCELED) within 0.2 s.
    """

    def __init__(
        self,
        answer: Answer,
        descriptor: Descriptor,
        offset: int,
        cancelled: threading.Event | None = None,
    ) -> None:
        self.descriptor = descriptor
        self.offset = offset
        self.position = offset
        self._answer = answer
        self._cancelled = cancelled
        self._buffered = True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return the next bytes.

        Raises:
            TransportError: reset, truncated, idle for too long, or cancelled.
            SizeMismatch: there are more bytes than the descriptor says.
        """
        if self._cancelled is not None:
            self._wait(self._cancelled)
        chunk = self._answer.read1(CHUNK)
        size = self.descriptor.size
        if not chunk:
            self.close()
            if self.position < size:
                raise TransportError(
                    f"cannot download {self.descriptor.digest}: the connection ended after"
                    f" {self.position} of {size} bytes",
                    request=self._answer.request,
                    retryable=True,
                )
            raise StopIteration
        self.position += len(chunk)
        if self.position > size:
            self.close()
            raise SizeMismatch(
                f"cannot download {self.descriptor.digest}: its manifest says {size} bytes,"
                " the registry sends more",
                expected=size,
                actual=self.position,
            )
        return chunk

    def _wait(self, cancelled: threading.Event) -> None:
        """Wait until bytes are there, looking at the event meanwhile."""
        retry.check(cancelled)
        # The first read may find bytes that came with the headers: they are in no socket any more.
        if self._buffered or self._answer.pending():
            self._buffered = False
            return
        descriptor = self._answer.fileno()
        if descriptor is None:
            return
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        began = time.monotonic()
        while not poll.poll(TICK_MS):
            retry.check(cancelled)
            if time.monotonic() > began + self._answer.idle_timeout:
                return  # the read itself knows how to say so
        self._answer.meter.wait(time.monotonic() - began)

    def close(self) -> None:
        """End the stream; its connection serves again if the body was read to its end."""
        self._answer.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def fetch(
    client: RegistryClient,
    reference: Reference,
    descriptor: Descriptor,
    *,
    offset: int = 0,
    insecure: bool | None = None,
    ca: Certificates = None,
    auth: Auth = None,
    cancelled: threading.Event | None = None,
) -> Generator[bytes, None, None]:
    """Yield the bytes of a blob from *offset* to its end, whatever happens on the way.

    After a broken connection, an overload or a limit the next request asks for the rest; a server
    without ranges sends all again and what is known is dropped.  Gives up after `Policy.tries`
    failures in a row without progress.

    Args:
        client: what asks.
        reference: whose repository has the blob.
        descriptor: of the blob.
        offset: bytes that the caller has; at most the blob's size.
        insecure: see `RegistryClient`.
        ca: see `RegistryClient`.
        auth: see `RegistryClient`.
        cancelled: ends it with TransportError (ECANCELED).

    Raises:
        RegistryError, BlobNotFound, SizeMismatch: as `RegistryClient.blob`, of the last try.

    Blocking:
        Between chunks, for at most the idle timeout; between tries, for the policy's delay.
    """
    if not 0 <= offset <= descriptor.size:
        raise InvalidSpec(
            f"cannot go on with {descriptor.digest} at byte {offset}: it has {descriptor.size}"
        )
    position, mark, failures = offset, offset, 0
    while position < descriptor.size:
        try:
            with client.blob(
                reference,
                descriptor,
                offset=position,
                insecure=insecure,
                ca=ca,
                auth=auth,
                cancelled=cancelled,
            ) as stream:
                for chunk in stream:
                    new = stream.position - position
                    if new > 0:
                        position = stream.position
                        yield chunk if new >= len(chunk) else chunk[-new:]
            client.note_answer(reference)
        except ContainerKitError as error:
            if position - mark >= client.policy.progress:
                mark, failures = position, 0
            failures += 1
            luck = random.random()  # noqa: S311 (not a secret)
            answered = position > offset or client.has_answered(reference)
            wait = client.policy.delay(error, failures, luck=luck, answered=answered)
            if wait is None:
                raise
            retry.pause(wait, cancelled)


def read_blob(
    client: RegistryClient,
    reference: Reference,
    descriptor: Descriptor,
    *,
    limit: int,
    insecure: bool | None = None,
    ca: Certificates = None,
    auth: Auth = None,
    cancelled: threading.Event | None = None,
) -> bytes:
    """Return a small blob, e.g. an image config, its digest verified.

    Raises:
        InvalidSpec: its descriptor says more than *limit* bytes.
        DigestMismatch: the bytes are others.
        RegistryError, BlobNotFound, SizeMismatch: as `fetch`.
    """
    if descriptor.size > limit:
        raise InvalidSpec(
            f"cannot read {descriptor.digest}: it has {descriptor.size} bytes, more than {limit}"
        )
    chunks = fetch(
        client, reference, descriptor, insecure=insecure, ca=ca, auth=auth, cancelled=cancelled
    )
    data = b"".join(chunks)
    hasher = descriptor.digest.hasher()
    hasher.update(data)
    actual = Digest(descriptor.digest.algorithm, hasher.hexdigest())
    if actual != descriptor.digest:
        raise DigestMismatch(
            f"cannot read a blob of {reference}: it hashes to {actual},"
            f" expected {descriptor.digest}",
            expected=str(descriptor.digest),
            actual=str(actual),
        )
    return data
