"""Limits of a running container: what changes, in an order that the kernel takes.

Must not write anything.  Neighbours: `limits` has the files; `runtime.updating` writes them.

Spec: kernel documentation, cgroup-v1 (memory, blkio-controller, cpusets) and cgroup-v2.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

import attrs

from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch.limits import (
    PERIOD_US,
    RATES,
    SOCKETS,
    TOTAL,
    Settings,
    memory_of,
    require,
    settings_of,
    total_of,
    triples,
)
from containerkit.model.limits import Limits, Unlimited

if TYPE_CHECKING:
    from containerkit.launch.request import HostFacts

_LIFTED: Final = {
    "pids.max": "max",
    "memory.memsw.limit_in_bytes": "-1",  # before the other, as the kernel takes them
    "memory.limit_in_bytes": "-1",
    SOCKETS: "-1",
    "memory.max": "max",
    "memory.swap.max": "max",
    "cpu.cfs_quota_us": "-1",
    "cpu.max": f"max {PERIOD_US}",
    "cpu.shares": "1024",
    "cpu.weight": "100",
    "blkio.weight": "500",
    "blkio.bfq.weight": "100",
    "io.weight": "100",
    "io.bfq.weight": "100",
    "io.max": "rbps=max wbps=max riops=max wiops=max",
    "cpuset.cpus": "\n",  # those of the group above: in version 2 alone
} | {file: "0" for _field, file, _key in RATES}
"""What a file holds before anybody writes to it."""

TOTAL_LIFTED: Final = (*TOTAL[:2], "-1")
"""What makes room, in version 1, for any limit on memory."""

_NO_DEVICES: Final[Mapping[str, str]] = {}


def merged(old: Limits, new: Limits) -> Limits:
    """Return the limits after an update: what *new* leaves out, and each device, stays as it was.

    Raises:
        ConfigError: together they have no meaning.
    """
    changes = {
        field.name: value
        for field in attrs.fields(Limits)
        if (value := getattr(new, field.name)) not in {None, ()}
    }
    if "io" in changes:
        changes["io"] = tuple(({one.device: one for one in (*old.io, *new.io)}).values())
    if "ulimits" in changes:
        changes["ulimits"] = tuple({one.name: one for one in (*old.ulimits, *new.ulimits)}.values())
    if isinstance(new.memory, Unlimited) and new.memory_swap is None:
        changes["memory_swap"] = None
    return attrs.evolve(old, **changes)


def update_settings(
    old: Limits,
    new: Limits,
    facts: HostFacts,
    devices: Mapping[str, str] = _NO_DEVICES,
    *,
    groups: Collection[str] = (),
) -> tuple[str, ...]:
    """Return what to write, as `cgroup_settings` does, to change a running container's limits.

    In an order that the kernel takes: it refuses, in version 1, a limit on memory above the one on
    memory and swap together, at any moment.

    Args:
        old: what it runs with.
        new: what it shall run with, all of it (see `merged`).
        facts: of the host it runs on.
        devices: the numbers of the block devices of both that are named by path.
        groups: in version 1, of cpuset and blkio those that it has a group of, or can be given one.

    Raises:
        ConfigError: a device that is none.
        MissingFeature: the host can not hold it, or not of a running container.
    """
    for field in ("shm_size", "disk", "ulimits"):
        if getattr(new, field) != getattr(old, field):
            raise MissingFeature(
                f"cannot change {field} of a running container: it is set when it starts",
                hint="stop it, update, start it again",
                feature=f"update {field}",
            )
    before, after = settings_of(old, facts, devices), settings_of(new, facts, devices)
    require(after, facts, new)
    _check_begun(before, after, facts, groups)
    return changed_settings(old, new, facts, devices)


def changed_settings(
    old: Limits,
    new: Limits,
    facts: HostFacts,
    devices: Mapping[str, str] = _NO_DEVICES,
) -> tuple[str, ...]:
    """Return what `update_settings` does, of limits that have both held already."""
    before, after = settings_of(old, facts, devices), settings_of(new, facts, devices)
    changes = {key: value for key, value in after.items() if before.get(key) != value}
    lifted = {
        key: _LIFTED[key[1]]
        for key in before
        if key not in after and (facts.cgroup == "v2" or key[0] != "cpuset")
    }
    order = [*lifted, *changes]
    if TOTAL in order and memory_of(new) > total_of(old):
        order.sort(key=lambda key: key != TOTAL)
    changes |= lifted
    return triples({key: changes[key] for key in order})


def anew_settings(
    new: Limits, facts: HostFacts, devices: Mapping[str, str] = _NO_DEVICES
) -> tuple[str, ...]:
    """Return all that holds *new*, whatever holds before; some of its files may not be there."""
    settings = settings_of(new, facts, devices)
    skip = {file for _, file, _ in settings} | {SOCKETS}  # to write that has a cost
    lifted = ((file, value) for file, value in _LIFTED.items() if file not in skip)
    common = ("pids.", "memory.", "cpu.")
    return (
        *(text for one in lifted if one[0].startswith(common) for text in ("", *one)),
        *triples(settings),
    )


def _check_begun(
    before: Settings, after: Settings, facts: HostFacts, groups: Collection[str]
) -> None:
    """Refuse, in version 1, a limit of a kind that the running container can have no group for."""
    if facts.cgroup == "v2":
        return
    had = {controller for controller, _, _ in before} | {*groups}
    for controller in ("cpuset", "blkio"):
        if controller not in had and any(key[0] == controller for key in after):
            raise MissingFeature(
                f"cannot begin to limit {controller} while the container runs: in cgroup version 1"
                " it is in no such group, and its launcher has none",
                hint="stop it, update, start it again",
                feature=f"update {controller}",
            )
    if ("cpuset", "cpuset.cpus", "") in before.keys() - after.keys():
        raise ConfigError("cpuset can not be lifted while the container runs: name all processors")
