"""Where an image's parts come from: mirrors in turn, then the registry that its name says.

Owns: which registry is asked next when one fails.  Must not: retry or resume (`registry` does), or
trust a mirror: everything is checked by digest, except what a tag means, which a mirror decides.
Neighbour: `images.pull`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from containerkit.errors import CorruptContent, NotFound, RegistryError, TransportError
from containerkit.model.reference import Reference

if TYPE_CHECKING:
    from containerkit.model.descriptor import Descriptor
    from containerkit.registry.client import RegistryClient

T = TypeVar("T")


class Source:
    """An image in one or several registries.

    Args:
        client: talks to registries.
        reference: of the image.
        mirrors: registries ("host:port") that are asked first, in this order.
        options: ``auth``, ``insecure`` and ``ca``, for the registry itself.
        cancelled: set it to end transfers.
    """

    def __init__(
        self,
        client: RegistryClient,
        reference: Reference,
        *,
        mirrors: Sequence[str],
        options: dict[str, Any],
        cancelled: threading.Event,
    ) -> None:
        self._client = client
        self._cancelled = cancelled
        self._places: list[tuple[Reference, dict[str, Any]]] = [
            (
                Reference(mirror, reference.repository, reference.tag, reference.digest),
                {"cancelled": cancelled},
            )
            for mirror in mirrors
        ]
        self._places.append((reference, {**options, "cancelled": cancelled}))

    def resolve(self) -> Descriptor:
        """Return what the reference stands for, without fetching it."""
        return self._first(lambda place, options: self._client.resolve(place, **options))

    def manifest(self, descriptor: Descriptor | None = None) -> tuple[bytes, Descriptor]:
        """Return the bytes and descriptor of what the name means, or of an entry of an index."""
        return self._first(
            lambda place, options: self._client.manifest(place, descriptor=descriptor, **options)
        )

    def chunks(
        self, descriptor: Descriptor, offset: int, *, again: bool = False
    ) -> Iterator[bytes]:
        """Yield the blob's bytes from *offset* on.

        When a registry fails in the middle, the next one goes on from there.  *Again*, after bytes
        that were wrong, the registry itself is asked first: a mirror may have sent them.
        """
        from containerkit.registry.fetch import fetch

        mirrors, registry = self._places[:-1], self._places[-1]
        places = [registry, *mirrors] if again else self._places
        for number, (place, options) in enumerate(places, 1):
            try:
                for chunk in fetch(self._client, place, descriptor, offset=offset, **options):
                    offset += len(chunk)
                    yield chunk
                return
            except (RegistryError, NotFound) as error:
                self._drop(place, error)
                if number == len(places) or self._cancelled.is_set():
                    raise

    def _first(self, ask: Callable[[Reference, dict[str, Any]], T]) -> T:
        for place, options in self._places[:-1]:
            try:
                return ask(place, options)
            except (RegistryError, NotFound, CorruptContent) as error:
                self._drop(place, error)
        return ask(*self._places[-1])

    def _drop(self, place: Reference, error: Exception) -> None:
        """Ask a mirror that is not there only once: each part of the image would wait for it."""
        if isinstance(error, TransportError) and place is not self._places[-1][0]:
            self._places = [one for one in self._places if one[0] is not place]
