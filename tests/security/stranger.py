"""A registry that belongs to somebody else: it answers whatever a test wants, on real sockets.

Owns: the server, the requests that it got, and an image laid out as answers.  Must not: be well-
behaved of itself; `tests.support.registry` is.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

from tests.support import ocibuild


@attrs.frozen
class Answer:
    """What it says to a path.

    Args:
        body: bytes; an iterable is sent as it comes, without a length, until the client hangs up.
    """

    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes | Iterable[bytes] = b""


@attrs.frozen
class Asked:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def authorization(self) -> str | None:
        return self.headers.get("Authorization")


class Stranger:
    """The server as a context manager.

    Args:
        address: of loopback.
        certificate: certificate and key; it speaks TLS then.

    Attributes:
        answers: by path without its query; "" is for all others.  A sequence of answers is given one
            by one, the last for ever.
        asked: what was asked.
        connections: how many there were.
    """

    def __init__(
        self, address: str = "127.0.0.1", *, certificate: tuple[Path, Path] | None = None
    ) -> None:
        self.answers: dict[str, Answer | list[Answer]] = {"": Answer(404)}
        self.asked: list[Asked] = []
        self.connections = 0
        self._address = address
        self._certificate = certificate

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"stranger": self})
        self._server = _Server((self._address, 0), handler)
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if self._certificate is None else "https"
        self.host = f"{self._address}:{self._server.server_port}"
        self.base = f"{scheme}://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()  # waits for the handlers
        self._thread.join()

    def has(self, image: ocibuild.Image, name: str = "app", tag: str = "1") -> str:
        """Answer for an image; return its reference."""
        for one in image.children:
            self.has(one, name, one.digest)
        answer = Answer(200, {"Content-Type": image.media_type}, image.data)
        self.answers[f"/v2/{name}/manifests/{tag}"] = answer
        self.answers[f"/v2/{name}/manifests/{image.digest}"] = answer
        for digest, data in image.blobs.items():
            self.answers[f"/v2/{name}/blobs/{digest}"] = Answer(200, {}, data)
        self.answers["/v2/"] = Answer()
        return f"{self.host}/{name}:{tag}"

    def says(self, document: Any, media_type: str, name: str = "app", tag: str = "1") -> str:
        """Answer a name with any manifest; return its reference."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        answer = Answer(200, {"Content-Type": media_type}, data)
        self.answers["/v2/"] = Answer()
        self.answers[f"/v2/{name}/manifests/{tag}"] = answer
        self.answers[f"/v2/{name}/manifests/{ocibuild.sha256(data)}"] = answer
        return f"{self.host}/{name}:{tag}"

    def wants(self, challenge: str, name: str = "app") -> None:
        """Ask who we are, once, for all that it has of a name."""
        for path, answer in list(self.answers.items()):
            if path.startswith(f"/v2/{name}/") and isinstance(answer, Answer):
                no = Answer(401, {"WWW-Authenticate": challenge})
                self.answers[path] = [no, answer]

    def paths(self) -> list[str]:
        return [one.path for one in self.asked]

    def _answer(self, path: str) -> Answer:
        found = self.answers.get(path.partition("?")[0], self.answers[""])
        if isinstance(found, Answer):
            return found
        return found.pop(0) if len(found) > 1 else found[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closing = False
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        with self._lock:
            for request in self._open:
                try:
                    socket.socket.shutdown(request, socket.SHUT_RDWR)
                except OSError:
                    continue

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stranger: Stranger

    def setup(self) -> None:
        self.stranger.connections += 1
        super().setup()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(size)
        headers = dict(self.headers.items())
        self.stranger.asked.append(Asked(self.command, self.path, headers, body))
        answer = self.stranger._answer(self.path)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if isinstance(answer.body, bytes):
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
            return
        self.close_connection = True
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            for piece in answer.body:
                self.wfile.write(piece)

    do_HEAD = do_POST = do_GET  # noqa: N815 (the names that http.server calls)
