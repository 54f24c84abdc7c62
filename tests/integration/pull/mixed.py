"""A process that does many things to one root in a random order: ``python -m … ROOT SEED NAME…``.

While it has a lease on an image, every file of it must be there and right.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from containerkit.errors import ImageNotFound
from tests.integration.pull.images import check_trees
from tests.support.store import Store, opened

OPERATIONS = 40


def step(store: Store, generator: random.Random, name: str) -> None:
    action = generator.choice(("pull", "pull", "use", "use", "remove", "gc", "list", "prune"))
    if action == "pull":
        store.images.pull(name)
    elif action == "use":
        image = store.images._ensure(name)
        with store.images._lease(image):
            check_trees(store, image)
    elif action == "remove":
        store.images.remove(name)
    elif action == "gc":
        store.images.gc(debris=generator.random() < 0.5)
    elif action == "list":
        for image in store.images.list():
            assert image.layers
    else:
        store.images.prune()


def main(root: Path, seed: int, names: list[str]) -> None:
    generator = random.Random(seed)
    with opened(root) as store:
        for _ in range(OPERATIONS):
            try:
                step(store, generator, generator.choice(names))
            except ImageNotFound:
                continue  # another process removed it


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
