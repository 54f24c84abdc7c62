"""Images made from nothing: layers, configs, manifests, indexes, OCI layouts, pushes.

Owns: a maker of every shape of image that a registry may hold, valid unless a test asks otherwise,
with no program and no network needed.  Same input, same digests.
Must not: use containerkit's own parsers; what it makes is to test them.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import urllib3

Compression = Literal["gzip", "zstd", "none"]
Schema = Literal["oci", "docker"]

_OCI = "application/vnd.oci.image."
_DOCKER = "application/vnd.docker."
TYPES: Mapping[Schema, Mapping[str, str]] = {
    "oci": {
        "index": f"{_OCI}index.v1+json",
        "manifest": f"{_OCI}manifest.v1+json",
        "config": f"{_OCI}config.v1+json",
        "none": f"{_OCI}layer.v1.tar",
        "gzip": f"{_OCI}layer.v1.tar+gzip",
        "zstd": f"{_OCI}layer.v1.tar+zstd",
    },
    "docker": {
        "index": f"{_DOCKER}distribution.manifest.list.v2+json",
        "manifest": f"{_DOCKER}distribution.manifest.v2+json",
        "config": f"{_DOCKER}container.image.v1+json",
        "none": f"{_DOCKER}image.rootfs.diff.tar",
        "gzip": f"{_DOCKER}image.rootfs.diff.tar.gzip",
        "zstd": f"{_DOCKER}image.rootfs.diff.tar.zstd",
    },
}


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


# ---- layers ------------------------------------------------------------------------------------


@attrs.frozen
class Entry:
    """One tar entry that is more than a plain file."""

    kind: bytes = tarfile.REGTYPE
    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    target: str = ""
    device: tuple[int, int] = (0, 0)
    mtime: float = 0
    pax: Mapping[str, str] = attrs.field(factory=dict)


Content = bytes | str | Entry | None
"""Bytes or text of a file (0644); None: a directory (0755); an `Entry` says all."""


def directory(mode: int = 0o755) -> Entry:
    return Entry(tarfile.DIRTYPE, mode=mode)


def program(data: bytes | str) -> Entry:
    return Entry(data=data.encode() if isinstance(data, str) else data, mode=0o755)


def symlink(target: str) -> Entry:
    return Entry(tarfile.SYMTYPE, mode=0o777, target=target)


def hardlink(target: str) -> Entry:
    return Entry(tarfile.LNKTYPE, target=target)


def tar(entries: Iterable[tuple[str, Content]], *, parents: bool = True) -> bytes:
    """Return an uncompressed tar (PAX) of the entries, in their order.

    Args:
        entries: (path, content); a path may come twice, and may be as bad as a test wants.
        parents: adds the directories that no entry made before.
    """
    out = io.BytesIO()
    made = {"", "."}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in entries:
            for depth in range(1, path.count("/") + 1) if parents else ():
                parent = "/".join(path.split("/")[:depth])
                if parent not in made:
                    made.add(parent)
                    archive.addfile(_header(parent, directory()))
            entry = _entry(content)
            made.add(path.rstrip("/"))
            archive.addfile(_header(path, entry), io.BytesIO(entry.data))
    return out.getvalue()


def _entry(content: Content) -> Entry:
    if content is None:
        return directory()
    if isinstance(content, str):
        content = content.encode()
    return Entry(data=content) if isinstance(content, bytes) else content


def _header(path: str, entry: Entry) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path.rstrip("/") or path)
    info.type, info.mode, info.uid, info.gid = entry.kind, entry.mode, entry.uid, entry.gid
    info.size, info.linkname, info.mtime = len(entry.data), entry.target, entry.mtime
    info.devmajor, info.devminor = entry.device
    info.pax_headers = dict(entry.pax)
    return info


@attrs.frozen
class Layer:
    """A layer as it is stored, and the digest of its tar."""

    data: bytes = attrs.field(repr=False)
    diff_id: str
    compression: Compression = "gzip"

    def descriptor(self, schema: Schema = "oci") -> dict[str, Any]:
        return describe(self.data, TYPES[schema][self.compression])


def layer(
    files: Mapping[str, Content] | Iterable[tuple[str, Content]] | bytes,
    compression: Compression = "gzip",
) -> Layer:
    """Return a layer of *files*, or of a tar that is made already."""
    if isinstance(files, Mapping):
        files = files.items()
    data = files if isinstance(files, bytes) else tar(files)
    return Layer(compressed(data, compression), sha256(data), compression)


def compressed(data: bytes, compression: Compression) -> bytes:
    if compression == "gzip":
        return gzip.compress(data, compresslevel=6, mtime=0)
    if compression == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=3, write_content_size=False).compress(data)
    return data


# ---- images ------------------------------------------------------------------------------------


@attrs.frozen
class Image:
    """A manifest or index with everything it points at."""

    data: bytes = attrs.field(repr=False)
    media_type: str
    blobs: Mapping[str, bytes] = attrs.field(repr=False)
    """By digest: config and layers."""
    children: tuple[Image, ...] = ()
    platform: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def digest(self) -> str:
        return sha256(self.data)

    @property
    def document(self) -> Any:
        return json.loads(self.data)

    def descriptor(self) -> dict[str, Any]:
        return describe(self.data, self.media_type)

    def changed(self, **members: Any) -> Image:
        """Return this image with members of its manifest replaced; None removes one."""
        document = self.document | members
        document = {name: value for name, value in document.items() if value is not None}
        return attrs.evolve(self, data=_json(document))


def describe(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def image(
    layers: Sequence[Layer | Mapping[str, Content]],
    *,
    config: Mapping[str, Any] | None = None,
    platform: str = "",
    compression: Compression = "gzip",
    schema: Schema = "oci",
) -> Image:
    """Return an image.

    Args:
        layers: lowest first; files become a layer of *compression*.
        config: the "config" member: Cmd, Env, Entrypoint, User, WorkingDir, …
        platform: "linux/arm64/v8"; the host's by default.
    """
    made = [one if isinstance(one, Layer) else layer(one, compression) for one in layers]
    system = _platform(platform or host_platform())
    document = {
        **system,
        "created": "2024-01-01T00:00:00Z",
        "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in made]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "ocibuild"} for _ in made],
    }
    return image_of(_json(document), made, platform=system, schema=schema)


def image_of(
    config: bytes,
    layers: Sequence[Layer],
    *,
    platform: Mapping[str, str] | None = None,
    schema: Schema = "oci",
) -> Image:
    """Return an image around the bytes of a config, whatever they say."""
    document = {
        "schemaVersion": 2,
        "mediaType": TYPES[schema]["manifest"],
        "config": describe(config, TYPES[schema]["config"]),
        "layers": [one.descriptor(schema) for one in layers],
    }
    blobs = {sha256(config): config} | {sha256(one.data): one.data for one in layers}
    return Image(_json(document), TYPES[schema]["manifest"], blobs, platform=platform or {})


def index(images: Sequence[Image], *, schema: Schema = "oci") -> Image:
    """Return an index of *images*, each under its own platform."""
    entries = [one.descriptor() | {"platform": dict(one.platform)} for one in images]
    document = {
        "schemaVersion": 2,
        "mediaType": TYPES[schema]["index"],
        "manifests": entries,
    }
    return Image(_json(document), TYPES[schema]["index"], {}, tuple(images))


def _platform(text: str) -> dict[str, str]:
    return dict(zip(("os", "architecture", "variant"), text.split("/"), strict=False))


def host_platform() -> str:
    names = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "i686": "386"}
    machine = os.uname().machine
    return f"linux/{names.get(machine, machine)}"


@functools.cache
def busybox_files() -> Mapping[str, Content]:
    """Return the files of the lowest layer of `busybox`."""
    binary = shutil.which("busybox")
    if binary is None:
        raise FileNotFoundError("busybox is missing: apt-get install busybox-static")
    listed = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True)
    return {
        "bin": directory(),
        "bin/busybox": program(Path(binary).read_bytes()),
        **{
            f"bin/{name}": symlink("busybox") for name in listed.stdout.split() if name != "busybox"
        },
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
        "app:x:1000:1000:app:/home/app:/bin/sh\n",
        "etc/group": "root:x:0:\nnogroup:x:65534:\napp:x:1000:\nextra:x:1001:app\n",
        "home/app": Entry(tarfile.DIRTYPE, mode=0o755, uid=1000, gid=1000),
        "root": directory(0o700),
        "tmp": directory(0o1777),
        "var/tmp": directory(0o1777),
        "proc": None,
        "sys": None,
        "dev": None,
    }


def busybox(
    files: Mapping[str, Content] | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    compression: Compression = "gzip",
    schema: Schema = "oci",
) -> Image:
    """Return a small image that can run things: Debian's static busybox, its names, an /etc.

    Args:
        files: a second layer.
        config: beside a PATH and a shell as command.
    """
    base = busybox_files()
    settings = {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Cmd": ["sh"], **(config or {})}
    layers = [base] if files is None else [base, files]
    return image(layers, config=settings, compression=compression, schema=schema)


# ---- where they go -----------------------------------------------------------------------------


def write_layout(folder: Path, images: Mapping[str, Image]) -> Path:
    """Write an OCI image layout that holds *images* by tag.

    Spec: image-spec image-layout.md.
    """
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    entries = []
    for tag, one in images.items():
        for part in (one, *one.children):
            for data in (part.data, *part.blobs.values()):
                (blobs / hashlib.sha256(data).hexdigest()).write_bytes(data)
        name = {"org.opencontainers.image.ref.name": tag}
        entries.append(one.descriptor() | {"annotations": name})
    document = {"schemaVersion": 2, "mediaType": TYPES["oci"]["index"], "manifests": entries}
    (folder / "index.json").write_bytes(_json(document))
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    return folder


def push(
    base: str,
    repository: str,
    tag: str,
    image: Image,
    *,
    headers: Mapping[str, str] | None = None,
    ca: str | None = None,
) -> str:
    """Push an image to the registry at the URL *base*; return its digest.

    Args:
        headers: e.g. an Authorization.
        ca: file of the certificate authority for a TLS registry.

    Spec: distribution-spec, Pushing a blob monolithically, Pushing manifests.
    """
    with urllib3.PoolManager(headers=dict(headers or {}), ca_certs=ca, retries=False) as http:
        for child in image.children:
            _push_one(http, base, repository, child.digest, child)
        _push_one(http, base, repository, tag, image)
    return image.digest


def _push_one(
    http: urllib3.PoolManager, base: str, repository: str, name: str, image: Image
) -> None:
    url = f"{base}/v2/{repository}"
    for digest, data in image.blobs.items():
        started = _expect(http.request("POST", f"{url}/blobs/uploads/"), 202)
        location = started.headers["Location"]
        location = f"{base}{location}" if location.startswith("/") else location
        target = f"{location}{'&' if '?' in location else '?'}digest={digest}"
        kind = {**http.headers, "Content-Type": "application/octet-stream"}
        _expect(http.request("PUT", target, body=data, headers=kind), 201)
    kind = {**http.headers, "Content-Type": image.media_type}
    _expect(http.request("PUT", f"{url}/manifests/{name}", body=image.data, headers=kind), 201)


def docker_archive(image: Image, name: str) -> bytes:
    """Return an image as `docker save` writes it, for `docker load` and `podman load`.

    Args:
        name: its repository and tag.
    """
    config = image.document["config"]["digest"].removeprefix("sha256:")
    layers = [one["digest"].removeprefix("sha256:") for one in image.document["layers"]]
    listed = {
        "Config": f"{config}.json",
        "RepoTags": [name],
        "Layers": [f"{digest}.tar" for digest in layers],
    }
    files: dict[str, Content] = {f"{config}.json": image.blobs[f"sha256:{config}"]}
    files |= {f"{digest}.tar": image.blobs[f"sha256:{digest}"] for digest in layers}
    return tar((files | {"manifest.json": _json([listed])}).items())


def _expect(answer: urllib3.BaseHTTPResponse, status: int) -> urllib3.BaseHTTPResponse:
    if answer.status != status:
        raise OSError(f"push failed: {answer.status} {answer.data[:500]!r}")
    return answer
