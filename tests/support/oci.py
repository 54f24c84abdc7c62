"""Small images made in memory, and put where an engine finds them: a registry, or an OCI layout.

A builder of our own beside skopeo and umoci: a test says exactly which bytes an image has, also
wrong ones.  Only the standard library, so that it can not share a mistake with what it tests.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zstandard

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"
EPOCH = 1_700_000_000
"""The time of every file of a made image: the same bytes each time, so the same digests."""


def digest_of(data: bytes) -> str:
    """Return the digest of bytes as text, `sha256:…`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What image-spec (after Go) calls the machines; others have one name."""


@dataclass(frozen=True)
class MadeImage:
    """An image as bytes: its manifest, the media type of that, and every blob by digest."""

    manifest: bytes
    media_type: str
    blobs: Mapping[str, bytes] = field(repr=False)
    children: tuple[MadeImage, ...] = ()

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def content(self) -> dict[str, Any]:
        """The manifest as JSON."""
        content: dict[str, Any] = json.loads(self.manifest)
        return content

    def with_manifest(self, **changes: Any) -> MadeImage:
        """Return the image with members of its manifest replaced, for example by wrong ones."""
        return replace(self, manifest=encode(self.content | changes))


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


# ---- layers ------------------------------------------------------------------------------------


def entry(name: str, **attributes: Any) -> tarfile.TarInfo:
    """Return a tar entry of root's, mode 0755, with other attributes set."""
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = 0o755, EPOCH
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info


def directory(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.DIRTYPE, mode=mode), b""


def file(name: str, data: bytes, mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, size=len(data), mode=mode), data


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.SYMTYPE, linkname=target), b""


def layer(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Return an uncompressed layer holding the entries in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def busybox_path() -> Path:
    """Return this machine's static busybox."""
    found = shutil.which("busybox", path=f"{os.environ.get('PATH', os.defpath)}:/usr/bin:/bin")
    if found is None:
        raise FileNotFoundError("busybox: install the Debian package busybox-static")
    return Path(found)


def busybox_layer() -> bytes:
    """Return a layer with a static busybox, its commands, and the files that name users."""
    program = busybox_path()
    listed = subprocess.run([program, "--list"], check=True, capture_output=True, text=True)
    commands = [name for name in listed.stdout.split() if name != "busybox"]
    folders = ("bin", "etc", "home/someone", "root", "tmp", "usr/bin", "var", "proc", "sys", "dev")
    passwd = "root:x:0:0:root:/root:/bin/sh\nsomeone:x:1000:1000::/home/someone:/bin/sh\n"
    group = "root:x:0:\nsomeone:x:1000:\nextra:x:1234:someone\n"
    return layer(
        [
            *(directory(name, 0o1777 if name == "tmp" else 0o755) for name in parents(folders)),
            file("bin/busybox", program.read_bytes(), 0o755),
            *(link(f"bin/{name}", "busybox") for name in commands),
            file("etc/passwd", passwd.encode()),
            file("etc/group", group.encode()),
        ]
    )


def parents(names: Iterable[str]) -> list[str]:
    """Return names with every directory above them, each once, outermost first."""
    found = {str(path) for name in names for path in (Path(name), *Path(name).parents)}
    return sorted(found - {"."})


# ---- images ------------------------------------------------------------------------------------


def compress(data: bytes, kind: str | None) -> bytes:
    if kind == "gzip":
        return gzip.compress(data, 6, mtime=0)
    if kind == "zstd":
        return zstandard.ZstdCompressor().compress(data)
    return data


def layer_type(compression: str | None, *, docker: bool) -> str:
    if docker:
        return f"{DOCKER}.image.rootfs.diff.tar" + (".gzip" if compression == "gzip" else "")
    return f"{OCI}.layer.v1.tar" + (f"+{compression}" if compression else "")


def image(
    layers: Sequence[bytes],
    config: Mapping[str, Any] | None = None,
    *,
    compression: str | None = "gzip",
    docker: bool = False,
    architecture: str | None = None,
) -> MadeImage:
    """Make an image of uncompressed layers; `config` is the image config's inner `config`."""
    packed = [compress(data, compression) for data in layers]
    machine = platform.machine()
    body = encode(
        {
            "architecture": architecture or ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "config": dict(config or {}),
            "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in layers]},
        }
    )
    config_type = f"{DOCKER}.container.image.v1+json" if docker else f"{OCI}.config.v1+json"
    media_type = f"{DOCKER}.distribution.manifest.v2+json" if docker else f"{OCI}.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": describe(body, config_type),
        "layers": [describe(data, layer_type(compression, docker=docker)) for data in packed],
    }
    blobs = {digest_of(data): data for data in (body, *packed)}
    return MadeImage(encode(manifest), media_type, blobs)


def index(images: Mapping[str, MadeImage]) -> MadeImage:
    """Make an index over images by architecture; they are pushed with it."""
    manifests = [
        describe(made.manifest, made.media_type)
        | {"platform": {"os": "linux", "architecture": architecture}}
        for architecture, made in images.items()
    ]
    media_type = f"{OCI}.index.v1+json"
    body = encode({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests})
    return MadeImage(body, media_type, {}, tuple(images.values()))


def describe(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def busybox_image() -> MadeImage:
    """Make the image that most tests run: a shell and its commands in one layer."""
    config = {"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["sh"], "WorkingDir": "/"}
    return image([busybox_layer()], config)


# ---- where an engine finds them ----------------------------------------------------------------


def push(made: MadeImage, host: str, repository: str, tag: str) -> str:
    """Put an image into a plain HTTP registry at `host` ("127.0.0.1:port"); return its name."""
    for child in made.children:
        push(child, host, repository, child.digest)
    connection = http.client.HTTPConnection(host)
    try:
        for digest, data in made.blobs.items():
            where = request(connection, "POST", f"/v2/{repository}/blobs/uploads/", b"", 202)
            query = f"{where}{'&' if '?' in where else '?'}digest={digest}"
            request(connection, "PUT", query, data, 201)
        kind = {"Content-Type": made.media_type}
        request(connection, "PUT", f"/v2/{repository}/manifests/{tag}", made.manifest, 201, kind)
    finally:
        connection.close()
    return f"{host}/{repository}:{tag}"


def request(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes,
    wanted: int,
    headers: Mapping[str, str] | None = None,
) -> str:
    """Send one request, check its status, and return where it points, without the host."""
    connection.request(method, path, body, dict(headers or {}))
    with connection.getresponse() as response:
        text = response.read()
        if response.status != wanted:
            raise RuntimeError(f"{method} {path}: {response.status} {text[:200]!r}")
        location = urlsplit(response.headers.get("Location", ""))
    return location.path + (f"?{location.query}" if location.query else "")


def write_layout(made: MadeImage, directory: Path, tag: str = "latest") -> Path:
    """Write an image as an OCI image layout (image-spec, image-layout.md)."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for each in (made, *made.children):
        for digest, data in {**each.blobs, each.digest: each.manifest}.items():
            (blobs / digest.removeprefix("sha256:")).write_bytes(data)
    named = describe(made.manifest, made.media_type)
    named["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (directory / "oci-layout").write_bytes(encode({"imageLayoutVersion": "1.0.0"}))
    (directory / "index.json").write_bytes(encode({"schemaVersion": 2, "manifests": [named]}))
    return directory
