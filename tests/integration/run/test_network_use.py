"""Its own network is for all users in it: low ports and ping, as other engines have it."""

from __future__ import annotations

import pytest

import containerkit as ck

SECURITY = {
    "default": ck.Security(),
    "strict": ck.Security.strict(),
    "own ids": ck.Security(userns="auto"),
}
PROGRAM = """
import socket
with socket.socket() as listener, socket.socket(type=socket.SOCK_DGRAM, proto=1) as ping:
    listener.bind(("", 80))
    print(open("/proc/sys/net/ipv4/ip_unprivileged_port_start").read())
"""


@pytest.mark.needs("ids")
@pytest.mark.parametrize("kind", SECURITY)
def test_low_ports_and_ping(engine: ck.Engine, kind: str) -> None:
    """Socket type 2 with protocol 1 is ping without CAP_NET_RAW, icmp(7)."""
    for _ in range(2):  # with a namespace made ahead, and the next
        result = engine.run(
            None,
            ["python3", "-c", PROGRAM],
            user="1000:1000",
            security=SECURITY[kind],
            limits=ck.UNLIMITED,  # which an ordinary user without control groups cannot have
            text=True,
        )
        assert result.stdout.strip() == "0", result.stderr


def test_what_is_asked_for_holds(engine: ck.Engine, busybox: str) -> None:
    name = "net.ipv4.ip_unprivileged_port_start"
    security = ck.Security(sysctls={name: "80"})
    look = ["cat", f"/proc/sys/{name.replace('.', '/')}"]
    assert engine.run(busybox, look, security=security, text=True).stdout == "80\n"
