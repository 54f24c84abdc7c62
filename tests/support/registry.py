"""A real registry on loopback: Debian's docker-registry, open, with passwords, tokens or TLS.

Owns: its process, its token server, its certificates.  Must not: imitate a registry; what is to
go wrong on the way is `faultproxy`'s.  `ocibuild` makes what it holds.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

import attrs

from tests.support import ocibuild

PROGRAM = "/usr/bin/docker-registry"
USERNAME = "tester"
PASSWORD = "correct horse"
# bcrypt of PASSWORD, the one kind that the registry reads; made with crypt(3).
HTPASSWD = "$2y$05$containerkittestssalt.9aoEav7w5acb3is8GtUm33HGswSV/yC"
ISSUER = "containerkit-tests"
START_TIMEOUT = 120.0

Auth = Literal["none", "basic", "token"]


def make_certificate(folder: Path, name: str = "server") -> tuple[Path, Path]:
    """Make a self-signed certificate for localhost; return (certificate, key)."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"),
            *("-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


class RegistryServer:
    """The registry as a context manager; empty at first, forgotten at the end.

    Args:
        auth: "basic" asks for USERNAME and PASSWORD; "token" gives tokens to anybody for
            repositories below ``public/`` and to USERNAME for all.
        tls: speaks TLS with a certificate of its own, see `ca`.
    """

    def __init__(self, *, auth: Auth = "none", tls: bool = False) -> None:
        self.auth = auth
        self.tls = tls
        self.port = 0
        self.log: list[str] = []
        self.tokens: TokenServer | None = None

    @property
    def host(self) -> str:
        """What a reference calls it."""
        return f"127.0.0.1:{self.port}"

    @property
    def base(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}"

    @property
    def ca(self) -> str | None:
        """The file of its certificate authority, None without TLS."""
        return str(self.folder / "server.crt") if self.tls else None

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="ck-registry-"))
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process: subprocess.Popen[str] | None = getattr(self, "_process", None)
        if process is not None:
            process.kill()
            process.wait()
            self._reader.join()
            if process.stderr is not None:
                process.stderr.close()
        if self.tokens is not None:
            self.tokens.close()
        shutil.rmtree(self.folder)

    def _start(self) -> None:
        if self.tls or self.auth == "token":
            make_certificate(self.folder)
        if self.auth == "token":
            self.tokens = TokenServer(self.folder)
        config = self.folder / "config.json"
        config.write_text(json.dumps(self._config()))  # JSON is YAML
        self._process = subprocess.Popen(
            [PROGRAM, "serve", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={"OTEL_TRACES_EXPORTER": "none"},
        )
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read_log, name="registry-log", daemon=True)
        self._reader.start()
        if not self._listening.wait(START_TIMEOUT) or not self.port:
            raise OSError(f"{PROGRAM} did not start: {''.join(self.log)[-2000:]}")

    def _config(self) -> dict[str, Any]:
        http: dict[str, Any] = {"addr": "127.0.0.1:0", "secret": "of-the-tests"}
        if self.tls:
            certificate, key = self.folder / "server.crt", self.folder / "server.key"
            http["tls"] = {"certificate": str(certificate), "key": str(key)}
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.folder / "data")},
                "delete": {"enabled": True},
            },
            "http": http,
        }
        if self.auth == "basic":
            passwords = self.folder / "htpasswd"
            passwords.write_text(f"{USERNAME}:{HTPASSWD}\n")
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(passwords)}}
        if self.tokens is not None:
            config["auth"] = {
                "token": {
                    "realm": f"{self.tokens.base}/token",
                    "service": "tests",
                    "issuer": ISSUER,
                    "rootcertbundle": str(self.folder / "server.crt"),
                }
            }
        return config

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log.append(line)
            _, found, rest = line.partition("listening on 127.0.0.1:")
            if found and not self.port:
                self.port = int("".join(char for char in rest[:5] if char.isdigit()))
                self._listening.set()
        self._listening.set()

    def headers(self, repository: str) -> dict[str, str]:
        """Return what a push to *repository* needs."""
        if self.auth == "basic":
            return {"Authorization": _basic(USERNAME, PASSWORD)}
        if self.tokens is not None:
            access = {"type": "repository", "name": repository, "actions": ["pull", "push"]}
            return {"Authorization": f"Bearer {self.tokens.sign([access])}"}
        return {}

    def push(self, name: str, image: ocibuild.Image) -> str:
        """Push under ``repository:tag``; return the full reference for a pull."""
        repository, _, tag = name.partition(":")
        tag = tag or "latest"
        headers = self.headers(repository)
        ocibuild.push(self.base, repository, tag, image, headers=headers, ca=self.ca)
        return f"{self.host}/{repository}:{tag}"


def _basic(username: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


# ---- tokens ------------------------------------------------------------------------------------


@attrs.frozen
class Asked:
    """One request that the token server got."""

    method: str
    fields: dict[str, list[str]]
    authorization: str | None


class TokenServer:
    """Signs tokens as the distribution project's specification says, on a port of its own.

    Attributes:
        asked: every request so far.
        lifetime: seconds that new tokens last and say so.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.asked: list[Asked] = []
        self.lifetime = 300
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(parse_qs(urlsplit(self.path).query))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                self._answer(parse_qs(body.decode()))

            def _answer(self, fields: dict[str, list[str]]) -> None:
                asked = Asked(self.command, fields, self.headers.get("Authorization"))
                owner.asked.append(asked)
                status, document = owner.answer(asked)
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        self.base = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, asked: Asked) -> tuple[int, dict[str, Any]]:
        """Return status and document for a request; a login that is wrong gets no token."""
        refresh = asked.fields.get("refresh_token")
        known = asked.authorization == _basic(USERNAME, PASSWORD) or refresh == ["identity"]
        if (asked.authorization is not None or refresh) and not known:
            return 401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]}
        access = []
        for scope in " ".join(asked.fields.get("scope", [])).split():
            kind, name, actions = scope.split(":", 2)
            if known or name.startswith("public/"):
                access.append({"type": kind, "name": name, "actions": actions.split(",")})
        name = "access_token" if asked.method == "POST" else "token"
        return 200, {name: self.sign(access), "expires_in": self.lifetime}

    def sign(self, access: list[dict[str, Any]]) -> str:
        """Return a JSON Web Token (RS256) that grants *access*."""
        pem = (self._folder / "server.crt").read_text()
        chain = "".join(pem.split("-----BEGIN CERTIFICATE-----")[1].split("-----END")[0].split())
        now = int(time.time())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
        claims = {
            "iss": ISSUER,
            "sub": USERNAME,
            "aud": "tests",
            "nbf": now - 60,
            "iat": now - 60,
            "exp": now + self.lifetime,
            "jti": str(time.monotonic_ns()),
            "access": access,
        }
        signed = f"{_url64(json.dumps(head).encode())}.{_url64(json.dumps(claims).encode())}"
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self._folder / "server.key")],
            input=signed.encode(),
            capture_output=True,
            check=True,
        ).stdout
        return f"{signed}.{_url64(signature)}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
