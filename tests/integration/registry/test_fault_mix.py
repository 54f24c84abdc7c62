"""Faults by chance, several in a row: the right bytes, or a part of them and a typed error."""

from __future__ import annotations

import random
import threading

import pytest

from containerkit.errors import ContainerKitError
from containerkit.registry.fetch import fetch
from tests.integration.registry.support import at, blob_of, layer_of, noise_image, opened
from tests.support.faultproxy import Fault, FaultProxy
from tests.support.registry import RegistryServer

pytestmark = pytest.mark.needs("docker-registry")

IMAGE = noise_image()
LAYER = layer_of(IMAGE)
WHOLE = blob_of(IMAGE, LAYER)
BLOB = "GET .*/blobs/"


def faults(chance: random.Random) -> list[Fault]:
    """Return one to four faults."""
    after, status = chance.randrange(len(WHOLE)), chance.choice([408, 416, 429, 500, 502, 503])
    kinds = [
        Fault(BLOB, after=after),
        Fault(BLOB, after=after, then="reset"),
        Fault(BLOB, after=after, chunked=True),
        Fault(BLOB, after=after, no_range=True),
        Fault(BLOB, status=status, headers={"Retry-After": "0"}),
        Fault(BLOB, headers={"Content-Range": "bytes 1-2/3"}),
        Fault(BLOB, length=len(WHOLE) + chance.choice([-1, 1])),
    ]
    return chance.choices(kinds, k=chance.randint(1, 4))


@pytest.mark.parametrize("seed", range(8))
def test_never_a_wrong_byte(registry: RegistryServer, seed: int) -> None:
    chance = random.Random(seed)
    registry.push("mix:1", IMAGE)
    for _ in range(5):
        offset = chance.choice([0, chance.randrange(len(WHOLE))])
        got = bytearray()
        with FaultProxy(registry.host, *faults(chance)) as proxy, opened() as client:
            cancelled = chance.choice([None, threading.Event()])
            reference = at(proxy.host, "mix:1")
            try:
                for chunk in fetch(client, reference, LAYER, offset=offset, cancelled=cancelled):
                    got += chunk
            except ContainerKitError:
                assert WHOLE[offset:].startswith(got)
            else:
                assert WHOLE[offset:] == got
