"""Requests and facts for tests of launch plans: a small image on an ordinary host."""

from __future__ import annotations

from typing import Any

import attrs

from containerkit.launch.capabilities import mask_of
from containerkit.launch.compile import compile_plan
from containerkit.launch.limits import OPTIONAL_FILES
from containerkit.launch.ops import Code, Op
from containerkit.launch.plan import Plan
from containerkit.launch.request import HostFacts, LaunchRequest
from containerkit.model.image_config import ImageConfig
from containerkit.model.options import Command, ContainerOptions
from containerkit.model.rootfs import Overlay, Rootfs
from containerkit.model.security import DEFAULT_CAPABILITIES

ID = "0123456789abcdef" * 4
BASE = f"layers/{'b' * 64}"
TOP = f"layers/{'a' * 64}"

PASSWD = b"""\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/:/usr/sbin/nologin
app:x:1000:1000:An app:/srv/app:/bin/sh
"""
GROUP = b"""\
root:x:0:
staff:x:50:app,daemon
app:x:1000:
audio:x:29:app
"""

IMAGE = ImageConfig(env=("PATH=/usr/bin:/bin", "LANG=C.UTF-8"), cmd=("sh",))
ROOTFS = Rootfs((Overlay("/", (TOP, BASE)),))

# resource, soft, hard: nofile is what most hosts have, as is an unlimited core.
V1 = HostFacts(
    cgroup="v1",
    controllers=frozenset(
        {"pids", "memory", "cpu", "freezer", "devices", "cpuset", "blkio", "devices+"}
    ),
    cgroup_files=frozenset(OPTIONAL_FILES),
    rlimits=((4, 0, -1), (7, 1024, 20000)),
)
V2 = attrs.evolve(
    V1, cgroup="v2", controllers=frozenset({"pids", "memory", "cpu", "cpuset", "io", "devices"})
)
BARE = HostFacts()
NESTED = HostFacts(
    rlimits=V1.rlimits,
    capabilities=mask_of(DEFAULT_CAPABILITIES),
    hostname="outside",
    bare=True,
    devices=False,
)
"""As in a container with the default rights, where no namespaces are to be had."""


def request(
    command: Command | None = ("true",),
    options: ContainerOptions | None = None,
    **changes: Any,
) -> LaunchRequest:
    """A request for the small image, with changes by field."""
    made = LaunchRequest(
        ID,
        IMAGE,
        ROOTFS,
        command,
        options=options or ContainerOptions(),
        passwd=PASSWD,
        group=GROUP,
    )
    return attrs.evolve(made, **changes)


def compiled(
    options: ContainerOptions | None = None,
    *,
    command: Command | None = ("true",),
    facts: HostFacts = V1,
    **changes: Any,
) -> Plan:
    """Compile such a request; the plan is valid, and survives its wire form."""
    plan = compile_plan(request(command, options, **changes), facts)
    plan.check()
    data = plan.encode()
    again = Plan.decode(data)
    assert again.sections == plan.sections
    assert again.encode() == data
    return plan


def steps(plan: Plan, code: Code) -> list[Op]:
    """The steps of one kind, in order."""
    return [op for section in plan.sections for op in section if op.code == code]


def step(plan: Plan, code: Code) -> Op:
    """The only step of a kind."""
    (found,) = steps(plan, code)
    return found


def lines(plan: Plan) -> list[str]:
    """The plan in words, a line each."""
    return plan.explain().splitlines()
