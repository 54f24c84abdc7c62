"""OCI bundles for runc and crun with the very spec that Docker gives its containers.

A container is started by the run's own dockerd and its config.json read from containerd's state;
root, command and cgroup are replaced; what only Docker's daemon can serve (its hook, its three
bind mounts below /etc) is left out.  The root is an overlay with an upper on tmpfs, as
containerkit's is, but mounted once, outside of the measured time: in the peers' favour.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import host
from benchmarks.command import BenchmarkError, call
from benchmarks.daemons import Dockerd

PIDS_LIMIT = 2048
"""containerkit's own default."""


def docker_spec(dockerd: Dockerd, reference: str) -> dict[str, Any]:
    """Return the runtime spec of a container made by `docker run --network none`."""
    options = ["--detach", "--network=none", f"--pids-limit={PIDS_LIMIT}"]
    container = dockerd.docker("run", *options, reference, "/bin/sleep", "1000")
    try:
        found = list(dockerd.run.glob(f"exec/containerd/daemon/*/moby/{container}/config.json"))
        if not found:
            raise BenchmarkError(f"cannot find the config.json of {container} below {dockerd.run}")
        spec: dict[str, Any] = json.loads(found[0].read_text())
    finally:
        dockerd.docker("rm", "--force", container)
    return spec


def write_bundle(
    directory: Path,
    spec: dict[str, Any],
    rootfs: Path,
    name: str,
    command: Sequence[str] = ("/bin/true",),
) -> Path:
    """Write a bundle that runs a command, and mount its root."""
    upper = directory / "upper"
    root = directory / "rootfs"
    for path in (upper, root):
        path.mkdir(parents=True)
    call(["mount", "-t", "tmpfs", "tmpfs", upper])
    for path in (upper / "upper", upper / "work"):
        path.mkdir()
    options = f"lowerdir={rootfs},upperdir={upper}/upper,workdir={upper}/work"
    call(["mount", "-t", "overlay", "-o", options, "overlay", root])
    mounts = [mount for mount in spec["mounts"] if not mount["destination"].startswith("/etc/")]
    process = spec["process"] | {"args": list(command), "terminal": False}
    ours = spec | {
        "root": {"path": str(root)},
        "process": process,
        "mounts": mounts,
        "linux": spec["linux"] | {"cgroupsPath": f"/{host.CGROUP}/{name}"},
    }
    ours.pop("hooks", None)
    (directory / "config.json").write_text(json.dumps(ours))
    return directory
