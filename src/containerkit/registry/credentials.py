"""Who we are at a registry: logins of this process, docker's config file, credential helpers.

Owns: reading `config.json` and calling `docker-credential-*`, for the registry in use only and
only once it has asked.  Must not: send anything, write any file, keep what a helper said.
Flow: `client` asks after a challenge.

Spec: docker CLI, config.json properties and credential helpers protocol.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
import select
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from containerkit.errors import ConfigError
from containerkit.model.reference import DEFAULT_REGISTRY
from containerkit.registry.auth import Login
from containerkit.state.atomic import open_regular

MAX_CONFIG: Final = 4 << 20
MAX_HELPER_OUTPUT: Final = 1 << 20
HELPER_TIMEOUT: Final = 30.0

_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
# What docker wrote into config files before registries had plain names.
_DOCKER_HUB_KEYS = ("https://index.docker.io/v1/", DEFAULT_REGISTRY, "registry-1.docker.io")
_MEND = "docker login writes this file; mend or move it"
# The helper protocol has no code for "I have none": this text of docker-credential-helpers is it.
_NO_CREDENTIALS = "credentials not found"


@attrs.frozen
class Found:
    """The result of a look-up: a login or none, and what went wrong on the way, if anything."""

    login: Login | None = None
    problem: str | None = None


class Credentials:
    """Logins by registry; those of this process win.  Safe to use from several threads.

    Args:
        config: docker's config.json; by default ``$DOCKER_CONFIG`` or ``~/.docker``.
        use_docker: False looks at the logins of this process only.
    """

    def __init__(self, config: Path | None = None, *, use_docker: bool = True) -> None:
        self._config = config
        self._use_docker = use_docker
        self._logins: dict[str, Login] = {}
        self._lock = threading.Lock()
        self.generation = 0
        """Changes with every login and logout: tokens of another generation are not used."""

    def login(self, registry: str, *, username: str, password: str) -> None:
        """Remember a login for this process; it is written nowhere.

        Raises:
            ConfigError: it can not be sent (RFC 7617 reserves the colon, and wants UTF-8).
        """
        if not username or ":" in username:
            raise ConfigError(
                f"cannot log in to {registry!a}: the user name is empty or has a colon"
            )
        if not _is_text(username, password):
            raise ConfigError(f"cannot log in to {registry!a}: the login is no text in UTF-8")
        with self._lock:
            self._logins[_host(registry)] = Login(username, password)
            self.generation += 1

    def logout(self, registry: str) -> None:
        """Forget the login of this process, if there is one."""
        with self._lock:
            self._logins.pop(_host(registry), None)
            self.generation += 1

    def find(self, registry: str) -> Found:
        """Return who we are at *registry*.

        In order: the login of this process, the registry's own credential helper, the default
        helper, the entry of the config file.  A helper that is missing or fails is a problem to
        report when the registry refuses, not an error: config files outlive their helpers.

        Blocking:
            A helper may take up to 30 s.

        Raises:
            ConfigError: the config file can not be read as what it is.
        """
        host = _host(registry)
        with self._lock:
            login = self._logins.get(host)
        if login is not None or not self._use_docker:
            return Found(login)
        config = self._read()
        helper = _entry(config, "credHelpers", host) or config.get("credsStore")
        problem = None
        if isinstance(helper, str) and helper:
            found = _ask(helper, _DOCKER_HUB_KEYS[0] if host == DEFAULT_REGISTRY else host)
            if found.login is not None:
                return found
            problem = found.problem
        entry = _entry(config, "auths", host)
        if isinstance(entry, dict):
            return Found(_from_entry(entry, registry), problem)
        return Found(None, problem)

    def _path(self) -> Path:
        if self._config is not None:
            return self._config
        folder = os.environ.get("DOCKER_CONFIG")
        return (Path(folder) if folder else Path.home() / ".docker") / "config.json"

    def _read(self) -> dict[str, Any]:
        try:
            path = self._path()
            data = _content(path)
        except (OSError, RuntimeError):
            # Not there, or not ours to read (a service without home): nothing is known.
            return {}
        try:
            if len(data) > MAX_CONFIG:
                raise ValueError(f"it has more than {MAX_CONFIG} bytes")
            config = json.loads(data)
            if not isinstance(config, dict):
                raise TypeError("it is not an object")
        except (ValueError, TypeError, RecursionError) as error:
            # The decoder's own message quotes no content.
            raise ConfigError(
                f"cannot read {path}: {error}",
                hint=_MEND,
            ) from error
        return config


def _content(path: Path) -> bytes:
    """Return what is in a file, one byte too many where that is too much.

    Raises:
        OSError: there is none, or it is no file: a FIFO would be waited for.
    """
    # A link of the user's own is followed: these files are often kept elsewhere.
    descriptor = open_regular(os.path.realpath(path), os.O_RDONLY)
    with open(descriptor, "rb") as file:
        return file.read(MAX_CONFIG + 1)


def _host(registry: str) -> str:
    """Return the name that all spellings of a registry share."""
    if registry in _DOCKER_HUB_KEYS:
        return DEFAULT_REGISTRY
    host = re.sub(r"^https?://", "", registry).partition("/")[0].lower()
    return DEFAULT_REGISTRY if host == "index.docker.io" else host


def _entry(config: Mapping[str, Any], section: str, host: str) -> Any:
    """Return the member of *section* for *host*: by exact name, else by the host of a URL."""
    entries = config.get(section)
    if not isinstance(entries, dict):
        return None
    if host in entries:
        return entries[host]
    return next((value for key, value in entries.items() if _host(key) == host), None)


def _from_entry(entry: Mapping[str, Any], registry: str) -> Login | None:
    identity = entry.get("identitytoken")
    username, password = entry.get("username"), entry.get("password")
    encoded = entry.get("auth")
    if isinstance(encoded, str) and encoded:
        try:
            decoded = base64.b64decode(encoded, validate=True).decode("utf-8").rstrip("\0")
        except (binascii.Error, ValueError):
            raise ConfigError(
                f"cannot read docker's login for {registry!a}: its auth is not base64 text",
                hint=_MEND,
            ) from None
        username, colon, password = decoded.partition(":")
        if not colon and not identity:
            # Not shown: what stands there alone is more likely a token than a name.
            raise ConfigError(
                f"cannot read docker's login for {registry!a}: its auth is no name and password",
                hint=_MEND,
            )
    login = None
    if isinstance(identity, str) and identity:
        login = Login(username if isinstance(username, str) else "", "", identity)
    elif isinstance(username, str) and isinstance(password, str) and username:
        login = Login(username, password)
    if login is not None and not _is_text(login.username, login.password, identity):
        raise ConfigError(
            f"cannot read docker's login for {registry!a}: it is no text in UTF-8", hint=_MEND
        )
    return login


def _is_text(*values: object) -> bool:
    """Whether what is text among these can be sent: JSON also has halves of characters."""
    try:
        "".join(value for value in values if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _ask(helper: str, server: str) -> Found:
    """Ask ``docker-credential-HELPER`` for *server*."""
    program = f"docker-credential-{helper}"
    if _HELPER_NAME.fullmatch(helper) is None:
        return Found(problem=f"the credential helper {helper[:80]!a} has no usable name")
    try:
        answer = _output([program, "get"], server.encode())
    except subprocess.TimeoutExpired:
        return Found(problem=f"{program} did not answer within {HELPER_TIMEOUT:.0f} s")
    except OSError as error:
        return Found(problem=f"{program} can not be started ({error.strerror})")
    if answer is None:
        return Found(problem=f"{program} answered more than {MAX_HELPER_OUTPUT} bytes")
    if answer.returncode != 0:
        said = answer.stdout + answer.stderr
        if _NO_CREDENTIALS in said[:4096].decode("utf-8", "replace").lower():
            return Found()
        return Found(problem=f"{program} failed with code {answer.returncode}")
    return Found(*_answered(answer.stdout, program))


def _output(command: list[str], given: bytes) -> subprocess.CompletedProcess[bytes] | None:
    """Run a command and return what it wrote; None when that is too much.

    Args:
        command: program and arguments.
        given: its standard input, which fits into a pipe.

    Raises:
        TimeoutExpired: it, or what it started and left, did not come to an end.
        OSError: it can not be started.
    """
    deadline = time.monotonic() + HELPER_TIMEOUT
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0) as process:
        try:
            assert process.stdin
            assert process.stdout
            assert process.stderr
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(given)
            streams = {stream.fileno(): bytearray() for stream in (process.stdout, process.stderr)}
            parts = tuple(streams.values())
            poll = select.poll()
            for descriptor in streams:
                poll.register(descriptor, select.POLLIN)
            while streams:
                ready = poll.poll(1000 * max(0, deadline - time.monotonic()))
                if not ready:
                    raise subprocess.TimeoutExpired(command, HELPER_TIMEOUT)
                for descriptor, _ in ready:
                    data = os.read(descriptor, 1 << 16)
                    streams[descriptor] += data
                    if len(streams[descriptor]) > MAX_HELPER_OUTPUT:
                        return None
                    if not data:
                        poll.unregister(descriptor)
                        del streams[descriptor]
            code = process.wait(max(0, deadline - time.monotonic()))
            return subprocess.CompletedProcess(command, code, *map(bytes, parts))
        finally:
            process.kill()


def _answered(output: bytes, program: str) -> tuple[Login | None, str | None]:
    try:
        document = json.loads(output)
        username, secret = document["Username"], document["Secret"]
    except (ValueError, RecursionError, TypeError, KeyError):
        username = secret = None
    if not (isinstance(username, str) and isinstance(secret, str) and _is_text(username, secret)):
        return None, f"{program} answered something else than a login"
    try:
        if username == "<token>":
            return Login("", "", secret), None
        return (Login(username, secret), None) if username else (None, None)
    except ConfigError:
        return None, f"{program} answered something else than a login"
