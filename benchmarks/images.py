"""The images that the benchmarks pull and run, made here and cached outside the repository.

`busybox`: one static program, what the start section runs.  `pysci`: a Debian base with Python,
then numpy and scipy, pandas and scikit-learn, matplotlib.  `npm`: the same base, then a large
node_modules.  Versions are pinned, so that a figure of today can be compared with one of next year.
Each is an OCI layout; making them asks Debian's, Python's and npm's registries, once.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import oci
from benchmarks.command import call

_WHEELS = {
    "numerics": ["numpy==2.2.6", "scipy==1.15.3"],
    "frames": [
        "pandas==2.2.3",
        "scikit-learn==1.6.1",
        "joblib==1.5.1",
        "python-dateutil==2.9.0.post0",
        "pytz==2025.2",
        "six==1.17.0",
        "threadpoolctl==3.6.0",
        "tzdata==2025.2",
    ],
    "plots": [
        "matplotlib==3.10.3",
        "contourpy==1.3.2",
        "cycler==0.12.1",
        "fonttools==4.58.1",
        "kiwisolver==1.4.8",
        "packaging==25.0",
        "pillow==11.2.1",
        "pyparsing==3.2.3",
    ],
}
_NODE = {
    "@mui/material": "7.1.1",
    "@types/node": "22.15.30",
    "antd": "5.25.4",
    "core-js": "3.42.0",
    "date-fns": "4.1.0",
    "eslint": "9.28.0",
    "jest": "29.7.0",
    "lodash": "4.17.21",
    "next": "15.3.3",
    "react": "19.1.0",
    "react-dom": "19.1.0",
    "rxjs": "7.8.2",
    "typescript": "5.8.3",
    "webpack": "5.99.9",
}
_TAR = ["tar", "--format=posix", "--pax-option=delete=atime,delete=ctime", "--sort=name"]
_TAR += ["--numeric-owner", "--owner=0", "--group=0"]
_NICE = ["nice", "-n", "19"]
_APPLETS = ["sh", "true", "cat", "echo", "ls", "sleep", "mkdir", "env", "id", "wget"]


def cache_directory() -> Path:
    """Return where images and package downloads are kept (`CONTAINERKIT_BENCH_CACHE`)."""
    path = Path(os.environ.get("CONTAINERKIT_BENCH_CACHE", "/var/tmp/containerkit-bench"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def layout(name: str) -> Path:
    """Return the directory of an image's OCI layout."""
    return cache_directory() / "images" / name


def make(names: list[str], say: Callable[[str], None]) -> None:
    """Make the named images unless the cache holds them."""
    makers: dict[str, Callable[[Path, Callable[[str], None]], list[oci.Layer]]] = {
        "busybox": _busybox,
        "pysci": _pysci,
        "npm": _npm,
    }
    layers = cache_directory() / "layers"
    layers.mkdir(exist_ok=True)
    for name in names:
        if not (layout(name) / "oci-layout").exists():
            say(f"making the image {name}")
            oci.write_layout(layout(name), makers[name](layers, say), ["/bin/true"])


def facts(name: str) -> str:
    """Describe an image: compressed size, layers, entries."""
    layers = cache_directory() / "layers"
    parts = [oci.load_layer(layers / f"{part}.tar.gz") for part in PARTS[name]]
    known = [part for part in parts if part is not None]
    size = sum(part.size for part in known) / 1e6
    entries = sum(part.entries for part in known)
    return f"{size:.0f} MB gzip in {len(known)} layers, {entries:,} entries"


PARTS = {
    "busybox": ["busybox"],
    "pysci": ["base", *_WHEELS],
    "npm": ["base", "node"],
}


def _layer(
    layers: Path, name: str, say: Callable[[str], None], fill: Callable[[Path, Path], None]
) -> oci.Layer:
    """Pack one layer unless it is cached; `fill(scratch, tar)` writes the uncompressed tar."""
    path = layers / f"{name}.tar.gz"
    known = oci.load_layer(path)
    if known is not None:
        return known
    say(f"making the layer {name}")
    with tempfile.TemporaryDirectory(dir=layers, prefix=f".{name}-") as scratch:
        tar = Path(scratch) / "layer.tar"
        fill(Path(scratch), tar)
        return oci.pack_layer(tar, path)


def _busybox(layers: Path, say: Callable[[str], None]) -> list[oci.Layer]:
    def fill(scratch: Path, tar: Path) -> None:
        root = scratch / "root"
        for directory in ("bin", "dev", "etc", "proc", "sys", "tmp", "usr", "var"):
            (root / directory).mkdir(parents=True)
        shutil.copy2("/bin/busybox", root / "bin" / "busybox")
        for applet in _APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (root / "etc" / "group").write_text("root:x:0:\n")
        call([*_TAR, "-C", root, "-cf", tar, "."])

    return [_layer(layers, "busybox", say, fill)]


def _debian_sources() -> list[str]:
    """Return mmdebstrap's MIRROR argument: this host's own Debian mirror when it has one."""
    for path in ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"):
        if os.path.exists(path) and os.path.getsize(path):
            return [path]
    return []


def _base(layers: Path, say: Callable[[str], None]) -> oci.Layer:
    def fill(scratch: Path, tar: Path) -> None:
        options = ["--variant=minbase", "--include=python3,python3-dev,python3-pip", "--quiet"]
        for path in ("doc", "man", "info", "locale", "lintian"):
            options.append(f"--dpkgopt=path-exclude=/usr/share/{path}/*")
        target = scratch / "base.tar"
        call([*_NICE, "mmdebstrap", *options, "bookworm", target, *_debian_sources()])
        target.rename(tar)

    return _layer(layers, "base", say, fill)


def _pysci(layers: Path, say: Callable[[str], None]) -> list[oci.Layer]:
    made = [_base(layers, say)]
    for name, wheels in _WHEELS.items():

        def fill(scratch: Path, tar: Path, wheels: list[str] = wheels) -> None:
            root = scratch / "root"
            target = root / "usr" / "local" / "lib" / "python3.11" / "dist-packages"
            target.mkdir(parents=True)
            options = ["--quiet", "--only-binary=:all:", "--python-version=3.11", "--no-deps"]
            options += ["--root-user-action=ignore", f"--target={target}"]
            call([*_NICE, sys.executable, "-m", "pip", "install", *options, *wheels])
            call([*_NICE, sys.executable, "-m", "compileall", "-q", target])
            call([*_TAR, "-C", root, "-cf", tar, "."])

        made.append(_layer(layers, name, say, fill))
    return made


def _npm(layers: Path, say: Callable[[str], None]) -> list[oci.Layer]:
    def fill(scratch: Path, tar: Path) -> None:
        root = scratch / "root"
        app = root / "app"
        app.mkdir(parents=True)
        packages = [f"{name}@{version}" for name, version in _NODE.items()]
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--legacy-peer-deps"]
        options += ["--no-progress", f"--cache={cache_directory() / 'npm'}"]
        (app / "package.json").write_text('{"name": "app", "private": true}')
        call([*_NICE, "npm", "install", *options, *packages], cwd=app)
        call([*_TAR, "-C", root, "-cf", tar, "."])

    return [_base(layers, say), _layer(layers, "node", say, fill)]
