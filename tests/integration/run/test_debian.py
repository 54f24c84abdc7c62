"""A whole distribution, made by mmdebstrap, pulled and used: what small images do not have."""

from __future__ import annotations

import os
import platform
import subprocess
import tarfile
from pathlib import Path

import pytest

import containerkit as ck
from tests.support import ocibuild
from tests.support.registry import RegistryServer

pytestmark = pytest.mark.needs("mmdebstrap")

SOURCES = ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")


@pytest.fixture(scope="module")
def debian_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The essential packages of this host's own Debian, as mmdebstrap writes them."""
    target = tmp_path_factory.mktemp("debian") / "root.tar"
    options = ["--variant=essential", "--quiet"]
    options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")]
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "stable")
    mirrors = [path for path in SOURCES if os.path.exists(path) and os.path.getsize(path)][:1]
    made = subprocess.run(
        ["mmdebstrap", *options, suite, target, *mirrors],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},
    )
    if made.returncode:
        pytest.skip(f"needs a mirror of Debian: {made.stderr.strip()[-200:]}")
    return target


@pytest.fixture(scope="module")
def debian(debian_tar: Path, registry: RegistryServer) -> str:
    layer = ocibuild.layer(debian_tar.read_bytes(), "zstd")
    return registry.push("test/debian:essential", ocibuild.image([layer]))


def test_its_programs_run(engine: ck.Engine, debian: str) -> None:
    script = "perl -e 'print 6*7' && echo && dpkg-query -W -f '${Status}' dpkg && id -un"
    result = engine.run(debian, ["bash", "-c", script], text=True, check=True, user="nobody")
    assert result.stdout == "42\ninstall ok installednobody\n"


def test_its_tree_is_what_the_tar_says(engine: ck.Engine, debian: str, debian_tar: Path) -> None:
    """Kinds, modes, owners and links of every entry, seen from inside."""
    listing = "find . -xdev -not -path './proc*' -not -path './sys*' -not -path './dev*' -printf "
    listing += "'%P %y %m %U %G %l\\n'"
    expected = {}
    with tarfile.open(debian_tar) as tar:
        for entry in tar:
            name = entry.name.removeprefix("./").rstrip("/")
            if name.split("/")[0] in {"proc", "sys", "dev", "."} or not name:
                continue
            kind = "d" if entry.isdir() else "l" if entry.issym() else "f"
            target = entry.linkname if kind == "l" else ""
            mode = 0o777 if kind == "l" else entry.mode
            expected[name] = f"{kind} {mode:o} {entry.uid} {entry.gid} {target}"
    found = {}
    result = engine.run(debian, ["bash", "-c", f"cd / && {listing}"], text=True, check=True)
    for line in result.stdout.splitlines():
        name, _, rest = line.partition(" ")
        if name:
            found[name] = rest
    ours = {"etc/hosts", "etc/hostname", "etc/mtab"}
    assert {name: found.get(name) for name in expected.keys() - ours} == {
        name: expected[name] for name in expected.keys() - ours
    }
    assert not found.keys() - expected.keys() - ours


def test_a_package_is_installed_inside_and_nowhere_else(
    engine: ck.Engine, debian: str, tmp_path: Path
) -> None:
    """Unpacking, changing owners, renaming and running scripts, as root of the container."""
    package = tmp_path / "package"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN/control").write_text(
        "Package: hello-here\nVersion: 1\nArchitecture: all\nMaintainer: none <none@invalid>\n"
        "Description: a test\n"
    )
    (package / "DEBIAN/postinst").write_text("#!/bin/sh\nchown daemon:daemon /opt/here/file\n")
    (package / "DEBIAN/postinst").chmod(0o755)
    (package / "opt/here").mkdir(parents=True)
    (package / "opt/here/file").write_text("content\n")
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-b", package, tmp_path / "p.deb"],
        check=True,
        capture_output=True,
    )
    script = "dpkg -i /p.deb >/dev/null && stat -c '%U:%G' /opt/here/file && cat /opt/here/file"
    mounts = [ck.Mount.bind(tmp_path / "p.deb", "/p.deb", read_only=True)]
    result = engine.run(debian, ["bash", "-c", script], text=True, check=True, mounts=mounts)
    assert result.stdout == "daemon:daemon\ncontent\n"
    assert engine.run(debian, ["test", "-e", "/opt/here"]).exit.code == 1
