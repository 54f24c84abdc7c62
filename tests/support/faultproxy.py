"""A real HTTP proxy in front of a real registry, that does on purpose what networks do by chance.

Owns: passing requests on and recording them, and the faults that a test asks for.  A fault hits
the first requests that match it, as often as it says, and then the registry is itself again.
Must not: know how the client under test works.
"""

from __future__ import annotations

import fcntl
import http.client
import re
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, Self

import attrs

FOREVER = 1 << 30
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@attrs.frozen
class Fault:
    """What goes wrong.

    Args:
        on: regular expression searched in "METHOD /path".
        times: requests that it hits.
        status: answers this without asking the registry, with `headers` and `body`.
        headers: replaced in the answer; None removes one.
        edit: changes the body.
        length: announced instead of the body's length.
        chunked: sends the body in chunks, without a length.
        no_range: hides the Range header from the registry.
        after: bytes of the body after which `then` happens.
        then: "close" the connection, "reset" it, or "stall" until the proxy is closed.
    """

    on: str
    times: int = 1
    status: int | None = None
    headers: Mapping[str, str | None] = attrs.field(factory=dict)
    body: bytes = b""
    edit: Callable[[bytes], bytes] | None = None
    length: int | None = None
    chunked: bool = False
    no_range: bool = False
    after: int | None = None
    then: Literal["close", "reset", "stall"] = "close"


@attrs.frozen
class Seen:
    """One request that came, as it came."""

    method: str
    path: str
    headers: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class FaultProxy:
    """The proxy as a context manager, on a free port of loopback.

    Args:
        upstream: "host:port" of a plain HTTP registry; None where faults answer everything.
        port: to listen on; 0: a free one.

    Attributes:
        seen: every request so far.
        stalled: set once a fault stalls.
    """

    def __init__(self, upstream: str | None, *faults: Fault, port: int = 0) -> None:
        self.upstream = upstream
        self._port = port
        self.seen: list[Seen] = []
        self.stalled = threading.Event()
        self._faults = [[fault, fault.times] for fault in faults]
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", self._port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.base = f"http://{self.host}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._released.set()
        self._server.shutdown()
        with self._lock:
            for connection in self._open:
                _shutdown(connection)
        self._server.server_close()  # waits for the handlers
        self._thread.join()

    def add(self, fault: Fault) -> None:
        """Let *fault* happen from now on, after those that are still to come."""
        with self._lock:
            self._faults.append([fault, fault.times])

    def release(self) -> None:
        """End what is stalled: its connections are closed."""
        self._released.set()

    def requests(self, pattern: str) -> list[Seen]:
        """Return the requests that match."""
        return [one for one in self.seen if re.search(pattern, str(one))]

    def _fault(self, request: str) -> Fault | None:
        with self._lock:
            for slot in self._faults:
                fault, left = slot
                if isinstance(fault, Fault) and left and re.search(fault.on, request):
                    slot[1] = int(str(left)) - 1
                    return fault
        return None


def _shutdown(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def _await_taken(connection: socket.socket) -> None:
    """Wait until the other side's kernel has all that was sent: a reset throws the rest away."""
    established = 1  # include/net/tcp_states.h
    while connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == established:
        left = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))
        if left == bytes(4):
            return
        time.sleep(0.001)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients hang up on faults."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultProxy

    def setup(self) -> None:
        super().setup()
        with self.owner._lock:
            self.owner._open.add(self.connection)
            if self.owner._released.is_set():  # it came as the proxy was being closed
                _shutdown(self.connection)

    def finish(self) -> None:
        with self.owner._lock:
            self.owner._open.discard(self.connection)
        super().finish()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        seen = Seen(self.command, self.path, dict(self.headers.items()))
        self.owner.seen.append(seen)
        fault = self.owner._fault(str(seen)) or Fault("")
        size = int(self.headers.get("Content-Length", "0"))
        sent_body = self.rfile.read(size) if size else None
        status, headers, body = self._ask(fault, sent_body)
        if fault.edit is not None:
            body = fault.edit(body)
        self._answer(status, headers, body, fault)

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 (the names that http.server calls)

    def _ask(self, fault: Fault, body: bytes | None) -> tuple[int, dict[str, str], bytes]:
        """Return the registry's answer, whole, or the fault's instead."""
        if fault.status is not None:
            return fault.status, {}, fault.body
        assert self.owner.upstream is not None
        hidden = {"host", "connection", *(["range"] if fault.no_range else [])}
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in hidden
        }
        connection = http.client.HTTPConnection(self.owner.upstream, timeout=300)
        try:
            connection.request(self.command, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            kept = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP}
            if self.command == "HEAD":
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, fault: Fault) -> None:
        length = len(body) if fault.length is None else fault.length
        if fault.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers.setdefault("Content-Length", str(length))
        changed = {name.lower() for name in fault.headers}
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in changed:
                self.send_header(name, value)
        for name, given in fault.headers.items():
            if given is not None:
                self.send_header(name, given)
        self.end_headers()
        if self.command == "HEAD":
            return
        part = body if fault.after is None else body[: fault.after]
        if fault.chunked:
            self._send_chunks(part, whole=fault.after is None)
        else:
            self._send(part)
        if fault.after is not None or length != len(body):
            self._end(fault)

    def _send(self, data: bytes) -> None:
        for start in range(0, len(data), 65536):
            self.wfile.write(data[start : start + 65536])

    def _send_chunks(self, data: bytes, *, whole: bool) -> None:
        for start in range(0, len(data), 10_000):
            part = data[start : start + 10_000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        if whole:
            self.wfile.write(b"0\r\n\r\n")

    def _end(self, fault: Fault) -> None:
        self.close_connection = True
        self.wfile.flush()
        if fault.then == "stall":
            self.owner.stalled.set()
            self.owner._released.wait()
        elif fault.then == "reset":
            _await_taken(self.connection)
            # Linger of no time: close sends RST instead of FIN.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            # Not closed but taken away: `http.server` would shut it down in good order first.
            socket.socket(fileno=self.connection.detach()).close()
