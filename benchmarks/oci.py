"""Writing OCI image layouts: the smallest thing skopeo can push to a registry.

Owns the layout's bytes (image-spec, image-layout.md); the trees come from `images`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.command import BenchmarkError

_CHUNK = 1 << 20
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class Layer(NamedTuple):
    """A compressed layer in the cache: where it is, both digests, its size and its entries."""

    path: Path
    digest: str
    diff_id: str
    size: int
    entries: int


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack_layer(tar: Path, layer: Path) -> Layer:
    """Compress a tar with gzip -6 and remove it; the description is kept beside the layer."""
    diff_id = sha256(tar)
    listing = subprocess.run(["tar", "-tf", tar], capture_output=True, check=True)
    with layer.open("wb") as out:
        packed = subprocess.run(["gzip", "-6", "-n", "-c", tar], stdout=out, check=False)
    if packed.returncode != 0:
        raise BenchmarkError(f"cannot compress {tar}: gzip exited with {packed.returncode}")
    tar.unlink()
    made = Layer(layer, sha256(layer), diff_id, layer.stat().st_size, listing.stdout.count(b"\n"))
    facts = made._asdict() | {"path": layer.name}
    layer.with_suffix(".json").write_text(json.dumps(facts))
    return made


def load_layer(layer: Path) -> Layer | None:
    """Return the layer that an earlier run packed, or None."""
    description = layer.with_suffix(".json")
    if not description.exists():
        return None
    facts: dict[str, Any] = json.loads(description.read_text())
    return Layer(**(facts | {"path": layer}))


def _put(blobs: Path, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def write_layout(directory: Path, layers: list[Layer], command: list[str]) -> None:
    """Write a one-image layout, tagged `latest`; layer files are hard links, not copies."""
    if directory.exists():
        shutil.rmtree(directory)
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for layer in layers:
        (blobs / layer.digest).hardlink_to(layer.path)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": command},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{x.diff_id}" for x in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": _CONFIG} | _put(blobs, json.dumps(config).encode()),
        "layers": [
            {"mediaType": _LAYER, "digest": f"sha256:{x.digest}", "size": x.size} for x in layers
        ],
    }
    named = {
        "mediaType": _MANIFEST,
        "annotations": {"org.opencontainers.image.ref.name": "latest"},
    } | _put(blobs, json.dumps(manifest).encode())
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (directory / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))


def layout_layers(directory: Path) -> list[Path]:
    """Return the layer blobs of a layout, lowest first."""
    blobs = directory / "blobs" / "sha256"
    index = json.loads((directory / "index.json").read_text())
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    manifest = json.loads((blobs / digest).read_text())
    return [blobs / layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]


def layout_diff_ids(directory: Path) -> list[str]:
    """Return the DiffIDs of a layout's image, lowest first."""
    blobs = directory / "blobs" / "sha256"
    index = json.loads((directory / "index.json").read_text())
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    manifest = json.loads((blobs / digest).read_text())
    config = json.loads((blobs / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    return list(config["rootfs"]["diff_ids"])


def gzip_fixed(data: bytes) -> bytes:
    """Compress small data to the same bytes every time."""
    return gzip.compress(data, compresslevel=6, mtime=0)
