"""What the sections about kept containers share: a disk, a registry, a dockerd, runc bundles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import bundle, host, images, oci
from benchmarks.command import call
from benchmarks.daemons import Dockerd, Registry


class Peers(NamedTuple):
    """Everything is below one fresh ext4 that goes with it."""

    disk: Path
    reference: str
    rootfs: Path
    dockerd: Dockerd | None

    def docker(self, *arguments: str) -> str:
        """Run the docker client."""
        assert self.dockerd is not None
        return self.dockerd.docker(*arguments)

    def bundles(self, names: Sequence[str], command: Sequence[str]) -> list[Path]:
        """Write bundles with the very spec of Docker's containers."""
        assert self.dockerd is not None
        spec = bundle.docker_spec(self.dockerd, self.reference)
        return [
            bundle.write_bundle(self.disk / name, spec, self.rootfs, name, command)
            for name in names
        ]


@contextlib.contextmanager
def prepared() -> Iterator[Peers]:
    """Make a disk with an unpacked busybox, a registry that holds it, a dockerd that has pulled it."""
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(host.fresh_ext4(images.cache_directory()))
        registry = stack.enter_context(Registry(disk))
        registry.push("busybox")
        reference = registry.reference("busybox")
        rootfs = disk / "rootfs"
        rootfs.mkdir()
        for blob in oci.layout_layers(images.layout("busybox")):
            call(["tar", "-xzf", blob, "-C", rootfs])
        dockerd = None
        if host.tool("dockerd"):
            dockerd = stack.enter_context(Dockerd(disk / "docker", disk / "docker-run"))
            dockerd.docker("pull", "--quiet", reference)
        yield Peers(disk, reference, rootfs, dockerd)
