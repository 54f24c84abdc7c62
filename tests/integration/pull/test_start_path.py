"""A start from an image that is here loads no registry client, no codec and no tar code."""

from __future__ import annotations

import subprocess
import sys

from tests.integration.pull.images import layered
from tests.support.registry import RegistryServer
from tests.support.store import Store

PROGRAM = """
import sys
from containerkit.content.store import ContentStore
from containerkit.images.images import Images
from containerkit.snapshots.overlay import Snapshots
from containerkit.state.catalog import Catalog
from containerkit.state.root import StoreRoot

root = StoreRoot.open(sys.argv[1])
catalog = Catalog(root.catalog)
content = ContentStore(root.path)
snapshots = Snapshots(root, catalog, content)
images = Images(root, catalog, content, snapshots, lambda: None)
assert "sqlite3" not in sys.modules
image = images._ensure(sys.argv[2])
with images._lease(image):
    assert len(image._rootfs.mounts[0].lowers) == 4
    assert image.config.cmd == ("true",)
print(*sys.modules)
"""

DEAR = {
    "urllib3",
    "isal",
    "zstandard",
    "tqdm",
    "ssl",
    "ctypes",
    "containerkit._ck",
    "containerkit.registry",
    "containerkit.layers",
    "containerkit.images.pull",
}


def test_only_what_a_start_needs_is_loaded(store: Store, registry: RegistryServer) -> None:
    reference = registry.push("start/a", layered())
    store.images.pull(reference)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(store.root.path), reference],
        check=True,
        capture_output=True,
        text=True,
    )
    assert not DEAR & set(done.stdout.split())
