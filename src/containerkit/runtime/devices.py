"""Devices of this host that a request names by path: what is there.

Owns looking.  Must not decide what a container gets; `launch.devices` and `launch.limits` do.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from containerkit.errors import ConfigError, PermissionDenied
from containerkit.launch.devices import devices_of
from containerkit.model.device import Device, Node
from containerkit.model.limits import Limits, Unlimited
from containerkit.state import userns

if TYPE_CHECKING:
    from containerkit.model.security import Security

_KINDS: Final = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}


def device_nodes(security: Security | None) -> dict[str, Node]:
    """Return what is at the paths of the devices that a container is given.

    Raises:
        ConfigError: there is nothing, or no device.
        PermissionDenied: in a user namespace, where it counts who opens it: not this user.
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
        if userns.is_within():
            _check_opens(device)
        number = status.st_rdev
        found[device.source] = Node(kind, os.major(number), os.minor(number))
    return found


def _check_opens(device: Device) -> None:
    modes = [mode for letter, mode in (("r", os.R_OK), ("w", os.W_OK)) if letter in device.access]
    if not any(os.access(device.source, mode, effective_ids=True) for mode in modes):
        raise PermissionDenied(
            f"cannot give {device.source}: user {os.geteuid()} may not open it, and root in a"
            " container of an ordinary user is that one",
            errno=errno.EACCES,
            hint=f"as root: setfacl -m u:{os.geteuid()}:rw {device.source} (udev sets it again after"
            " a boot)",
        )


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
