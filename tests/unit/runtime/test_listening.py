"""Sockets of a network, from the text of /proc and from real ones of this process's own."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from containerkit.errors import PermissionDenied
from containerkit.model.ready import Http, Port
from containerkit.runtime import listening
from containerkit.stdio.waiting import drive

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4713 1 0
"""


@pytest.mark.parametrize(
    ("port", "state", "expected"),
    [
        (8080, "0A", {4711}),
        (22, "0A", {4712}),
        (8080, "01", {4713}),
        (0x1F9, "0A", set()),
        (0, "0A", set()),
    ],
)
def test_the_table_of_a_network(port: int, state: str, expected: set[int]) -> None:
    assert listening.listeners(TCP, port, state) == expected


def test_an_empty_or_odd_table() -> None:
    assert not listening.listeners("", 80, "0A")
    assert not listening.listeners("header\nnonsense\n\n 0: 1:0050 2 0A 3 4 5 6 7 x\n", 80, "0A")


def listens(port: Port) -> bool:
    """Say so of this process, which is in the host's network."""
    with closing(listening.Listening(port)) as one:
        return one.look(os.getpid())


@pytest.fixture(params=["netlink", "proc"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By questions to the kernel, and by the tables in /proc where those are not answered."""
    if request.param == "netlink":
        if os.geteuid() != 0:
            pytest.skip("needs root: setns")
        monkeypatch.setattr(listening, "listening_inodes", None)
        return

    def refuse(_namespace: int) -> None:
        raise PermissionDenied("no")

    monkeypatch.setattr(listening, "Diagnosis", refuse)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_listener_of_this_process_is_found_in_the_hosts_network(
    family: socket.AddressFamily,
) -> None:
    with socket.socket(family) as one:
        one.bind(("", 0))
        port = Port(one.getsockname()[1])
        assert not listens(port)
        one.listen()
        assert listens(port)
    assert not listens(port)


@pytest.mark.usefixtures("way")
def test_a_datagram_socket_counts_once_bound() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        number = one.getsockname()[1]
        assert listens(Port(number, "udp"))
        assert not listens(Port(number))


def test_nobody_listens_in_a_process_that_has_ended() -> None:
    with closing(listening.Listening(Port(80))) as one:
        assert not one.look(1 << 30)


# ---- HTTP


@contextmanager
def server(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Answer one connection after the other with these bytes."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as one:

        def serve() -> None:
            for answer in answers:
                connection, _address = one.accept()
                with connection:
                    asked.append(connection.recv(4096))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield one.getsockname()[1], asked
        thread.join()


def answer_to(request: Http) -> int | str:
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        return drive(listening.ask(namespace, request, seconds=120))
    finally:
        os.close(namespace)


@pytest.mark.needs("host root")
def test_a_request_and_its_answer() -> None:
    with server(b"HTTP/1.1 204 No Content\r\n\r\n") as (port, asked):
        assert answer_to(Http("web.test", port, "/up?x=1")) == 204
    lines = asked[0].split(b"\r\n")
    assert lines[0] == b"GET /up?x=1 HTTP/1.1"
    assert f"Host: web.test:{port}".encode() in lines


@pytest.mark.needs("host root")
@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/2 200\r\n", b"x" * 5000])
def test_what_is_no_answer_in_http(answer: bytes) -> None:
    with server(answer) as (port, _asked):
        assert answer_to(Http("localhost", port, "/")) == "an answer that is not HTTP"


@pytest.mark.needs("host root")
def test_nobody_there() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))  # nobody else has it, and it does not listen
        port = one.getsockname()[1]
        assert answer_to(Http("localhost", port, "/")) == "Connection refused"


@pytest.mark.needs("host root")
def test_the_callers_threads_stay_where_they_are() -> None:
    before = os.stat("/proc/thread-self/ns/net").st_ino, threading.active_count()
    answer_to(Http("localhost", 1, "/"))
    assert os.stat("/proc/thread-self/ns/net").st_ino == before[0]
    assert threading.active_count() <= before[1]


def test_an_address_of_version_6_is_bracketed() -> None:
    assert b"\r\nHost: [::1]:8080\r\n" in listening.request_bytes(Http("::1", 8080, "/"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"HTTP/1.0 200 OK\r\n", 200),
        (b"HTTP/1.1 503\r\n", 503),
        (b"HTTP/1.1 2000 x\r\n", "an answer that is not HTTP"),
        (b"HTTP/1.1 20", "an answer that is not HTTP"),
    ],
)
def test_status_lines(line: bytes, expected: int | str) -> None:
    assert listening.status_of(line) == expected
