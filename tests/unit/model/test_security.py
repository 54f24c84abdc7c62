"""Security as a value, and its presets."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from containerkit.errors import ConfigError
from containerkit.model.seccomp import SeccompProfile
from containerkit.model.security import CAPABILITIES, DEFAULT_CAPABILITIES, Security


def test_there_are_41_capabilities_by_number() -> None:
    assert len(CAPABILITIES) == len(set(CAPABILITIES)) == 41
    assert CAPABILITIES[21] == "SYS_ADMIN"
    assert CAPABILITIES[40] == "CHECKPOINT_RESTORE"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), frozenset()),
        (["NET_ADMIN"], {"NET_ADMIN"}),
        (["cap_net_admin"], {"NET_ADMIN"}),
        (["+NET_ADMIN"], DEFAULT_CAPABILITIES | {"NET_ADMIN"}),
        (["-NET_RAW", "-CAP_CHOWN"], DEFAULT_CAPABILITIES - {"NET_RAW", "CHOWN"}),
        (["ALL"], set(CAPABILITIES)),
        (["ALL", "-SYS_ADMIN"], set(CAPABILITIES) - {"SYS_ADMIN"}),
        (["-ALL", "+CHOWN"], {"CHOWN"}),
        (["CHOWN", "+KILL"], {"CHOWN", "KILL"}),
    ],
)
def test_capabilities(given: list[str], expected: set[str]) -> None:
    assert Security(capabilities=given).capabilities == expected


@pytest.mark.parametrize("given", [["CAP_FLY"], [""], ["+"], "CHOWN", [5]])
def test_no_capabilities(given: list[str]) -> None:
    with pytest.raises((ConfigError, TypeError)):
        Security(capabilities=given)


def test_presets_take_overrides() -> None:
    assert Security.default() == Security()
    assert Security.default(read_only=True).read_only
    strict = Security.strict(read_only=False)
    assert (strict.userns, strict.read_only, strict.capabilities) == ("auto", False, frozenset())
    assert Security.strict(capabilities=["+KILL"]).capabilities == {"KILL"}
    privileged = Security.privileged(no_new_privileges=True)
    assert privileged.capabilities == set(CAPABILITIES)
    assert privileged.no_new_privileges
    assert Security.privileged(capabilities=["-SYS_BOOT"]).capabilities == (
        set(CAPABILITIES) - {"SYS_BOOT"}
    )


def test_policies_for_system_calls() -> None:
    assert Security().seccomp == "default"
    assert Security.strict().seccomp == "strict"
    assert Security.strict(seccomp="default").seccomp == "default"
    assert Security.privileged().seccomp == "unconfined"
    assert Security(seccomp=bytes(8)).seccomp == bytes(8)
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}
    read = SeccompProfile.parse(profile)
    for given in (profile, json.dumps(profile), f"\n {json.dumps(profile)}", read):
        security = Security(seccomp=given)
        assert security.seccomp == read
        assert hash(security) == hash(Security(seccomp=profile))
        assert pickle.loads(pickle.dumps(security)) == security


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Default",
        "docker",
        "{",
        "[]",
        "/etc/seccomp.json",
        b"",
        b"1234567",
        b"{}",
        bytes(8 * 4097),
        {},
        [],
        None,
        5,
        True,
    ],
)
def test_no_policies(given: Any) -> None:
    with pytest.raises(ConfigError, match="seccomp"):
        Security(seccomp=given)


@pytest.mark.parametrize(
    "name", ["kernel.shmmax", "kernel.sem", "fs.mqueue.msg_max", "net.core.somaxconn"]
)
def test_sysctls(name: str) -> None:
    assert Security(sysctls={name: "1 2"}).sysctls == ((name, "1 2"),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel.core_pattern", "|/x"),
        ("kernel.shmmax/../core_pattern", "1"),
        ("net", "1"),
        ("net.", "1"),
        ("net..a", "1"),
        ("vm.swappiness", "1"),
        ("kernel.shmmax\n", "1"),
        ("kernel.shmmax", "1\nkernel.core_pattern=x"),
        ("kernel.shmmax", ""),
        ("kernel.shmmax", "1\0"),
    ],
)
def test_sysctls_of_the_host(name: str, value: str) -> None:
    """Neither by name nor smuggled in a value (CVE-2022-0811)."""
    with pytest.raises(ConfigError, match="sysctl"):
        Security(sysctls={name: value})


@pytest.mark.parametrize("paths", [["proc"], ["/a/../b"], ["/a\0"]])
def test_paths_are_absolute(paths: list[str]) -> None:
    with pytest.raises(ConfigError, match="absolute"):
        Security(masked_paths=paths)
    with pytest.raises(ConfigError, match="absolute"):
        Security(read_only_paths=paths)


def test_security_is_a_value() -> None:
    security = Security(masked_paths=["/a"], devices=["/dev/x"], sysctls={"kernel.sem": "1"})
    assert pickle.loads(pickle.dumps(security)) == security
    assert len({security, pickle.loads(pickle.dumps(security))}) == 1
