"""A first look at containerkit: run it with ``make quickstart``, as root or as an ordinary user.

1. A container of this host's own programs and Python: no image, no download.
2. An image made here, served by a registry started here, pulled and run as any other.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import containerkit as ck


def main() -> None:
    """Run both parts in a root directory that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="containerkit-quickstart-", dir="/var/tmp") as scratch:
        registry_directory = Path(scratch) / "registry"
        with ck.Engine.open(Path(scratch) / "root") as engine, registry(registry_directory) as at:
            host_image(engine)
            pulled_image(engine, at)
    print("\nNothing is left: no process, no mount, no file.")


def host_image(engine: ck.Engine) -> None:
    """Containers of the host's own programs."""
    print("1. This host's programs and Python in a container")
    result = engine.run(None, ["python3", "-c", "print(6 * 7)"], text=True)
    print("   python3 says", result.stdout.strip())
    result = engine.run(
        None, "id -u; hostname; ls /home | wc -l; ls /proc | grep -c '^[0-9]'", text=True
    )
    print("   user, host name, homes and processes it sees:", *result.stdout.split())
    with contextlib.suppress(ck.CommandNotFound):
        engine.run(None, ["no-such-command"])
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        engine.run(None, ["/bin/true"]).check()
        times.append(time.perf_counter() - begin)
    print(f"   start, wait and remove: {sorted(times)[10] * 1000:.1f} ms (median of 20)")


def pulled_image(engine: ck.Engine, address: str) -> None:
    """An image from a registry."""
    name = f"{address}/quickstart/busybox:latest"
    upload_busybox(address, "quickstart/busybox", "latest")
    print(f"\n2. An image from the registry at {address}")
    image = engine.images.pull(name, progress=ck.progress.bar())
    print(f"   pulled {image.id[:19]}, {len(image.layers)} layer, {image.size:,} bytes")
    result = engine.run(image, "cat /motd; busybox | head -1", text=True, user="guest:100")
    print("  ", result.stdout.replace("\n", "\n   ").strip())
    print("\n   The first and last steps of its launch plan:\n   ", end="")
    plan = engine.plan(image, ["/bin/true"]).explain().splitlines()
    print(*plan[4:8], "…", *plan[-6:-2], sep="\n   ")


@contextlib.contextmanager
def registry(directory: Path) -> Iterator[str]:
    """Start Debian's registry server on a free loopback port; yield its address."""
    program = shutil.which("docker-registry")
    if program is None:
        sys.exit("needs the Debian package docker-registry; as root, make quickstart installs it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    directory.mkdir()
    config = directory / "config.yml"
    storage = {"filesystem": {"rootdirectory": str(directory / "data")}}
    config.write_text(json.dumps({"version": 0.1, "storage": storage, "http": {"addr": address}}))
    server = subprocess.Popen(
        [program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(f"http://{address}/v2/")
                break
            time.sleep(0.05)
        yield address
    finally:
        server.terminate()
        server.wait()


def upload_busybox(address: str, repository: str, tag: str) -> None:
    """Make an image of one layer by hand and put it into the registry (distribution-spec, Push)."""
    layer = busybox_layer()
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        }
    ).encode()
    packed = gzip.compress(layer)
    kind = "application/vnd.oci.image"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": describe(f"{kind}.config.v1+json", config),
            "layers": [describe(f"{kind}.layer.v1.tar+gzip", packed)],
        }
    ).encode()
    base = f"http://{address}/v2/{repository}"
    for blob in (packed, config):
        answer = send("POST", f"{base}/blobs/uploads/", b"")
        where = answer.headers["Location"]
        joint = "&" if "?" in where else "?"
        send("PUT", f"{where}{joint}digest={digest(blob)}", blob)
    send("PUT", f"{base}/manifests/{tag}", manifest, f"{kind}.manifest.v1+json")


def busybox_layer() -> bytes:
    """A root file system of one program with many names."""
    program = Path(shutil.which("busybox") or sys.exit("needs the Debian package busybox-static"))
    names = subprocess.check_output([program, "--list"], text=True).split()
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for directory in ("bin", "etc", "tmp"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            tar.addfile(entry)
        tar.add(program.resolve(), "bin/busybox")
        for name in names:
            if name != "busybox":
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        for name, text in {
            "etc/passwd": "root:x:0:0::/root:/bin/sh\nguest:x:1000:100::/:/bin/sh\n",
            "motd": "Hello from a container.\n",
        }.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return layer.getvalue()


def digest(data: bytes) -> str:
    """The OCI digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def describe(media_type: str, data: bytes) -> dict[str, object]:
    """An OCI descriptor of some bytes."""
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


def send(
    method: str, url: str, data: bytes, kind: str = "application/octet-stream"
) -> http.client.HTTPResponse:
    """Send one request to the registry."""
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
    answer: http.client.HTTPResponse = urllib.request.urlopen(request)
    return answer


if __name__ == "__main__":
    main()
