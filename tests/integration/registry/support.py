"""What the tests of the registry client share: a client that knows nobody, and one big blob."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from containerkit.model.descriptor import Descriptor
from containerkit.model.digest import Digest
from containerkit.model.manifest import Manifest, parse_manifest
from containerkit.model.reference import Reference
from containerkit.registry.client import RegistryClient
from containerkit.registry.credentials import Credentials
from containerkit.registry.retry import Policy
from containerkit.registry.transport import Transport
from tests.support import ocibuild

QUICK = Policy(first_delay=0.0, longest_retry_after=5.0)
"""Tries as often as the default, without waiting."""

NOISE = random.Random(1).randbytes(3_000_000)
"""A blob that spans many reads and does not compress."""


@contextmanager
def opened(
    *,
    policy: Policy = QUICK,
    credentials: Credentials | None = None,
    idle_timeout: float = 120.0,
    answer_timeout: float | None = None,
) -> Iterator[RegistryClient]:
    """A client without docker's config file, closed at the end."""
    client = RegistryClient(
        credentials or Credentials(use_docker=False),
        policy=policy,
        transport=Transport(
            user_agent="containerkit-tests",
            idle_timeout=idle_timeout,
            answer_timeout=answer_timeout,
        ),
    )
    try:
        yield client
    finally:
        client.close()


def noise_image() -> ocibuild.Image:
    return ocibuild.image([ocibuild.layer({"noise": NOISE}, "none")])


def layer_of(image: ocibuild.Image) -> Descriptor:
    """Return the descriptor of an image's first layer."""
    parsed = parse_manifest(image.data, image.media_type)
    assert isinstance(parsed, Manifest)
    return parsed.layers[0]


def blob_of(image: ocibuild.Image, descriptor: Descriptor) -> bytes:
    return image.blobs[str(descriptor.digest)]


def at(host: str, name: str) -> Reference:
    return Reference.parse(f"{host}/{name}")


def digest_of(image: ocibuild.Image) -> Digest:
    return Digest.parse(image.digest)
