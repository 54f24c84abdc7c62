"""Devices of this host that a request names by path: what is there.

Owns looking.  Must not decide what a container gets; `launch.devices` and `launch.limits` do.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from containerkit.errors import ConfigError
from containerkit.launch.devices import devices_of
from containerkit.model.device import Node
from containerkit.model.limits import Limits, Unlimited

if TYPE_CHECKING:
    from containerkit.model.security import Security

_KINDS: Final = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}


def device_nodes(security: Security | None) -> dict[str, Node]:
    """Return what is at the paths of the devices that a container is given.

    Raises:
        ConfigError: there is nothing, or no device.
    """
    found: dict[str, Node] = {}
    for device in devices_of(security) if security is not None and security.devices else ():
        try:
            status = os.stat(device.source)
        except OSError as error:
            raise ConfigError(f"cannot give {device.source}: {error.strerror}") from error
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            raise ConfigError(
                f"cannot give {device.source}: it is not a device",
                hint="a directory's devices are named one by one"
                if stat.S_ISDIR(status.st_mode)
                else "Mount.bind is for files",
            )
        number = status.st_rdev
        found[device.source] = Node(kind, os.major(number), os.minor(number))
    return found


def block_devices(limits: Limits | Unlimited | None) -> dict[str, str]:
    """Return the numbers ("8:0") of the block devices that limits name by path.

    A partition stands for its disk: the kernel limits whole ones only.

    Raises:
        ConfigError: a path that is no block device.
    """
    return {
        limit.device: _disk(limit.device)
        for limit in (limits.io if isinstance(limits, Limits) else ())
        if limit.device.startswith("/")
    }


def _disk(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError as error:
        raise ConfigError(f"cannot limit io of {path}: {error.strerror}") from error
    if not stat.S_ISBLK(status.st_mode):
        raise ConfigError(f"cannot limit io of {path}: it is not a block device")
    device = Path(f"/sys/dev/block/{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}").resolve()
    if (device / "partition").exists():
        device = device.parent
    return (device / "dev").read_text(encoding="ascii").strip()
