"""Plans as text.  To accept a change: CK_UPDATE_GOLDEN=1, then read the diff."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
import pytest

from containerkit.launch.ops import SECTIONS
from containerkit.launch.plan import Plan
from containerkit.launch.request import HostFacts, Ids, LaunchRequest
from containerkit.model.device import Node
from containerkit.model.healthcheck import Healthcheck
from containerkit.model.idmap import IdMap
from containerkit.model.limits import UNLIMITED, Limits
from containerkit.model.log import Log
from containerkit.model.mount import Mount
from containerkit.model.options import ContainerOptions
from containerkit.model.rootfs import HostBind, Overlay, Rootfs
from containerkit.model.security import Security
from tests.unit.launch.plans import BARE, NESTED, V1, V2, compiled

GOLDEN = Path(__file__).parent / "golden"

HOST = Rootfs(
    (
        Overlay("/", ("host/0a1b2c3d/skeleton",)),
        Overlay("/usr", ("/usr",)),
        Overlay("/opt/venv", ("/opt/venv",), writable=False),
        HostBind("/nfs/python", "/nfs/python"),
    )
)

WITHIN = Ids(((0, 1), (1, 65536)), ((0, 1), (1, 65536)))
RANGE = IdMap.of_range(1 << 30)
NODES: dict[str, Any] = {"nodes": {"/dev/fuse": Node("c", 10, 229), "/dev/sda": Node("b", 8, 0)}}

CASES: dict[str, tuple[ContainerOptions, dict[str, Any]]] = {
    "default": ({}, {}),
    "bare_host": ({}, {"facts": BARE, "streams": ()}),
    "host_network": (
        {"network": "host"},
        {"hosts": b"127.0.0.1 localhost\n", "resolv_conf": b"nameserver 192.0.2.1\n"},
    ),
    "host_image": ({}, {"rootfs": HOST}),
    "host_image_read_only": ({"security": Security(read_only=True)}, {"rootfs": HOST}),
    "everything": (
        {
            "env": {"TOKEN": "hunter2", "LANG": None},
            "workdir": "/srv/work",
            "user": "app",
            "hostname": "box.example",
            "mounts": [
                Mount.bind("/data/in/deep", "/in/deep", read_only=True),
                Mount.bind("/data/in", "/in"),
                Mount.bind("/data/settings.ini", "/etc/settings.ini", read_only=True),
                Mount.tmpfs("/scratch", size="16m", mode=0o700),
            ],
            "secrets": {"db-password": "hunter2", "key.pem": b"hunter2"},
            "limits": Limits(
                memory="64m",
                memory_swap="64m",
                cpus=0.5,
                cpu_shares=512,
                pids=64,
                shm_size="1m",
                disk="32m",
                ulimits={"nofile": (256, 512), "core": UNLIMITED},
            ),
            "security": Security(
                capabilities={"NET_BIND_SERVICE"},
                read_only=True,
                sysctls={"net.ipv4.ip_unprivileged_port_start": "0"},
                masked_paths=("/proc/kcore",),
                read_only_paths=(),
            ),
        },
        {"facts": V2, "oom_score_adj": 500, "file_sources": {"/data/settings.ini"}},
    ),
    "devices": ({"security": Security(devices=["/dev/fuse", "/dev/sda:/dev/disk/a:r"])}, NODES),
    "devices_v2": ({"security": Security(devices=["/dev/fuse:rw"])}, {"facts": V2, **NODES}),
    "privileged": (
        {"security": Security.privileged()},
        {"facts": attrs.evolve(V1, capabilities=V1.capabilities & ~(1 << 21))},
    ),
    "privileged_v2": ({"security": Security.privileged()}, {"facts": V2}),
    "kept": (
        {"user": "1000:50", "stdin_open": True, "init": True, "log": Log("1m", 2)},
        {"ephemeral": False, "kept": True},
    ),
    "kept_terminal": ({"tty": True, "log": False}, {"ephemeral": False, "kept": True}),
    "nested": ({"user": "app", "workdir": "/srv/work"}, {"facts": NESTED, "create": False}),
    "nested_kept": (
        {"network": "host", "tty": True, "healthcheck": Healthcheck("true")},
        {"facts": attrs.evolve(NESTED, devices=True), "ephemeral": False, "kept": True},
    ),
    "nested_host_image": (
        {"security": Security.privileged()},
        {
            "facts": attrs.evolve(NESTED, capabilities=0, euid=65534, egid=65534),
            "rootfs": HOST,
        },
    ),
    "parked": ({"tty": True}, {"ephemeral": False, "create": False, "park": True}),
    "strict": (
        {"security": Security.strict(), "workdir": "/srv"},
        {"ids": RANGE, "rootfs": HOST},
    ),
    "strict_within": (
        {
            "security": Security.strict(),
            "mounts": [Mount.bind("/data", "/data")],
            "limits": UNLIMITED,
        },
        {"facts": attrs.evolve(BARE, euid=1000, ids=WITHIN)},
    ),
    "user_namespace": (
        {
            "user": "app",
            "security": Security(userns=IdMap([(0, 1000, 1), (1, 100000, 5000)])),
            "mounts": [Mount.bind("/data", "/data"), Mount.tmpfs("/scratch")],
            "secrets": {"token": "hunter2"},
        },
        {"ephemeral": False, "kept": True},
    ),
    "terminal": ({"tty": True, "security": Security(no_new_privileges=False)}, {"facts": V1}),
}


@pytest.mark.parametrize("name", CASES)
def test_plan_as_text(name: str) -> None:
    options, changes = CASES[name]
    text = compiled(options, **changes).explain()
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("CK_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_nothing_secret_is_printed(name: str) -> None:
    """Neither values of the environment nor secrets are in any text of a plan."""
    options, changes = CASES[name]
    plan = compiled(options, **changes)
    texts = [plan.explain(), repr(plan), *map(repr, [op for s in plan.sections for op in s])]
    texts += [
        plan.describe(section, index)
        for section in range(len(SECTIONS))
        for index in range(len(plan.sections[section]))
    ]
    assert not [text for text in texts if "hunter2" in text or "UTF-8" in text]


def test_requests_do_not_print_their_options() -> None:
    assert isinstance(Plan(), Plan)
    options, changes = CASES["everything"]
    del changes
    from tests.unit.launch.plans import request

    made: LaunchRequest = request(options=options)
    assert "hunter2" not in repr(made)
    assert "hunter2" not in repr(HostFacts())
