"""The host's network is not there: its abstract sockets, its loopback, its interfaces, its hypervisor.

CVE-2020-15257 (abstract sockets), CVE-2020-14386 and CVE-2020-13401 (packets made by hand).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

import containerkit as ck
from containerkit.launch.ops import Code
from tests.security.inside import LAST, calls, outcome

UNIX, INET, PACKET, ALGORITHMS, VSOCK = 1, 2, 17, 38, 40
STREAM, RAW = 1, 3
NAME = f"containerkit-canary-{os.getpid()}".encode()


@pytest.fixture
def abstract() -> Iterator[bytes]:
    """The address of a socket of the host that has a name and no file."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(b"\0" + NAME)
        listener.listen()
        yield UNIX.to_bytes(2, "little") + b"\0" + NAME


@pytest.fixture
def loopback() -> Iterator[bytes]:
    """The address of a server that thinks that only the host's own programs reach it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        yield INET.to_bytes(2, "little") + port.to_bytes(2, "big") + bytes([127, 0, 0, 1] + [0] * 8)


def connecting(family: int, address: bytes) -> list[str]:
    return calls(("socket", family, STREAM, 0), ("connect", LAST, address, len(address)))


def test_servers_of_the_host(
    engine: ck.Engine, hostile: str, security: ck.Security, abstract: bytes, loopback: bytes
) -> None:
    for family, address in ((UNIX, abstract), (INET, loopback)):
        found = outcome(engine.run(hostile, connecting(family, address), security=security))
        assert found[-1] == -errno.ECONNREFUSED


def test_in_the_hosts_network(
    engine: ck.Engine, hostile: str, abstract: bytes, loopback: bytes
) -> None:
    """The control."""
    for family, address in ((UNIX, abstract), (INET, loopback)):
        result = engine.run(hostile, connecting(family, address), network="host")
        assert outcome(result)[-1] == 0


def test_interfaces_and_raw_packets(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    """Whoever may make packets makes them for nobody: there is a loopback device, and no more."""
    script = "cat /proc/net/dev; cat /proc/net/unix /proc/net/route; ls /sys/class/net"
    said = engine.run(hostile, script, text=True, security=security).stdout
    devices = [line.split(":")[0].strip() for line in said.splitlines() if ": " in line]
    assert [name for name in devices if name != "Num"] == ["lo"]
    assert NAME.decode() not in said
    made = outcome(engine.run(hostile, calls(("socket", PACKET, RAW, 0x300)), security=security))
    assert made[0] < 0 or "NET_RAW" in security.capabilities


@pytest.mark.parametrize("family", [VSOCK, ALGORITHMS])
def test_families_that_know_no_namespace(
    engine: ck.Engine, hostile: str, security: ck.Security, family: int
) -> None:
    """AF_VSOCK reaches the hypervisor, AF_ALG the kernel's own ciphers (CVE-2026-31431)."""
    if all(op.code != Code.SECCOMP for op in engine.plan(hostile, security=security).child):
        pytest.skip("needs the filter of system calls")
    for high in (0, 1 << 32):
        made = calls(("socket", family | high, STREAM, 0), ("socket", family | high, 5, 0))
        assert max(outcome(engine.run(hostile, made, security=security))) < 0


def test_vsock_without_a_filter(engine: ck.Engine, hostile: str) -> None:
    """The control, where the kernel has it."""
    try:
        socket.socket(socket.AF_VSOCK).close()
    except OSError:
        pytest.skip("needs a kernel with AF_VSOCK")
    unfiltered = ck.Security(seccomp="unconfined")
    made = calls(("socket", VSOCK, STREAM, 0))
    assert outcome(engine.run(hostile, made, security=unfiltered))[0] >= 0
