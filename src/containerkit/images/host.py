"""The host image: this host's own programs and the running Python, without a download or a copy.

The image's root is a small tree of its own, the skeleton; over it lies one overlay for each
directory of the host that is given, at the same path: reads go to the host's files, writes stay in
the container.  /etc is the skeleton's.  Nothing else of the host is there.  See
docs/decisions/0005-host-image.md for the layout and what is kept out.

Owns: the `HostImage` value, and finding it again fast.  Must not: mount.
Flow: `Engine.run(None, …)` asks for one on every start; `host_build` makes it when the host is not
as it was; `launch` compiles its mounts as those of any image.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import attrs

from containerkit.errors import ConfigError
from containerkit.images import host_ref
from containerkit.images.host_python import PythonFacts
from containerkit.model.image_config import ImageConfig
from containerkit.model.rootfs import Rootfs

# What tells that a host changed in a way that its image may show.  Package managers touch their
# database with every change, which stands for the contents of /usr and most of /etc.
_WATCHED = (
    "/",
    "/usr",
    "/usr/local",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/os-release",
    "/etc/pki/ca-trust/extracted",
    "/etc/ssl/certs",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
    "/lib/apk/db/installed",
    "/usr/lib/sysimage/rpm",
    "/var/lib/dpkg/status",
    "/var/lib/pacman/local",
    "/var/lib/rpm",
)

_Stamp = dict[str, tuple[int, int, int, int]]
_Request = tuple[str, tuple[str, ...], bool, PythonFacts]

_known: dict[_Request, tuple[_Stamp, HostImage]] = {}
_running: PythonFacts | None = None
_boot: str | None = None


@attrs.frozen
class HostImage:
    """An image made of the host's own directories.

    Attributes:
        id: "sha256:…" of what the image itself holds and of which directories it gives; the
            content of those directories is not part of it.
        config: environment and default command; no entrypoint.
        notes: what could not be given as asked or only read-only, and why; one line each.
    """

    id: str
    config: ImageConfig = attrs.field(repr=False)
    _rootfs: Rootfs = attrs.field(repr=False)
    notes: tuple[str, ...]
    _tree: str = attrs.field(repr=False)

    @property
    def digest(self) -> str:
        """What names it, as a manifest's digest names other images: its id."""
        return self.id


def host_image(
    root: Path,
    *,
    paths: Iterable[str | os.PathLike[str]] | None = None,
    site_packages: bool = True,
    python: PythonFacts | None = None,
) -> HostImage:
    """Return the image of this host as it is now, making its skeleton when there is none yet.

    Args:
        root: of the engine.
        paths: further directories and files to give, each at its own path.
        site_packages: False shows the site-packages of the Python empty: the standard library
            alone, and those below it that ``paths`` names.
        python: the Python to give; default the running one.

    Raises:
        ConfigError: a path is missing, or one that the image has of its own, such as /etc.

    Blocking: on another process that makes a skeleton in the same root, for some ten milliseconds.
    """
    global _running
    if python is None:
        python = _running = _running or PythonFacts.running()
    given = _absolute(paths)
    request = (os.fspath(root), given, site_packages, python)
    known = _known.get(request)
    if known is not None:
        stamp, image = known
        if _take_stamp(stamp) == stamp and os.path.exists(f"{root}/{image._tree}"):
            return image
    stamp = _take_stamp((*_WATCHED, *python.prefixes, python.stdlib, *python.executables, *given))
    image = _image(_find(Path(root), request, stamp))
    _known[request] = stamp, image
    return image


def _absolute(paths: Iterable[str | os.PathLike[str]] | None) -> tuple[str, ...]:
    if paths is None:
        return ()
    if isinstance(paths, str | bytes | os.PathLike):
        raise ConfigError(
            f"cannot give {paths!r} to the host image: paths is one path, not several",
            hint="paths=[…]",
        )
    return tuple(sorted({os.path.abspath(os.fspath(path)) for path in paths}))


def _take_stamp(paths: Iterable[str]) -> _Stamp:
    """Look at those of ``paths`` that exist; cheap, for it is done on every start."""
    stamp: _Stamp = {}
    for path in paths:
        try:
            status = os.lstat(path)
        except OSError:
            continue
        stamp[path] = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_mode)
    return stamp


def _find(root: Path, request: _Request, stamp: _Stamp) -> host_ref.HostRef:
    """Read the ref for the host as it is now; build what it names when there is none."""
    global _boot
    if _boot is None:
        from containerkit.state.root import boot_id

        _boot = boot_id()
    name = hashlib.sha256(ascii((request, stamp, _boot, os.geteuid())).encode()).hexdigest()[:32]
    ref = host_ref.read(root, name)
    if ref is None or not os.path.exists(root / "host" / ref.key):
        from containerkit.images.host_build import build

        _, paths, site_packages, python = request
        build(root, name, _boot, python, paths=paths, site_packages=site_packages)
        ref = host_ref.read(root, name)
        if ref is None:
            raise FileNotFoundError(f"{root}/host/refs/{name}")
    return ref


def _image(ref: host_ref.HostRef) -> HostImage:
    config = ImageConfig(
        architecture=ref.architecture,
        cmd=("/bin/sh",),
        env=(f"PATH={ref.search_path}", "LANG=C.UTF-8"),
    )
    return HostImage(
        f"sha256:{ref.content}", config, Rootfs(ref.mounts), ref.notes, f"host/{ref.key}"
    )
