"""The options of everything that makes a container, as one typed dictionary.

Owns `ContainerOptions`: `Engine.run`, `start`, `containers.create` and their relatives take
``**options: Unpack[ContainerOptions]``.  What a later version honours is listed here already, and
refused by `launch.compile` with `MissingFeature`, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from containerkit.model.healthcheck import Healthcheck
    from containerkit.model.limits import Limits, Unlimited
    from containerkit.model.log import Log
    from containerkit.model.mount import Mount
    from containerkit.model.restart import Restart
    from containerkit.model.security import Security

Command = str | Sequence[str | PathLike[str]]
HostPort = int | str | tuple[str, int] | None


class ContainerOptions(TypedDict, total=False):
    """Options of a container; every one may be left out.

    A `run` keeps nothing to be found, attached to or started again: it checks, and has no use for,
    ``name``, ``labels``, ``stop_signal``, ``stop_grace``, ``stdin_open``, ``log``, ``healthcheck``.

    Keys:
        name: unique in the engine, ``[a-zA-Z0-9][a-zA-Z0-9_.-]*``; a free one otherwise.
        entrypoint: replaces the image's, and clears its command; a text is one program's path;
            empty removes it.
        env: added to the image's; None removes a name.  Nothing comes from the caller's own.
        workdir: absolute; made if it is missing.
        user: "name", "uid", "name:group", "uid:gid"; digits are always numbers.
        hostname: the container id's first 12 digits otherwise.
        labels: for finding it again.
        stop_signal: name or number; the image's, else SIGTERM, otherwise.
        stop_grace: seconds from there to the kill, when `stop` names none; 10 otherwise.
        tty: a terminal of its own instead of pipes; all that it shows is standard output.
        stdin_open: standard input stays open for `attach`; without it there is none.
        platform: "linux/amd64" and so on, where an image is chosen from an index.
        pull: "missing" (default), "always" or "never".
        mounts: binds and tmpfs; volumes and images in a later version.
        secrets: content, or the path of a file with it, by name: /run/secrets/NAME, mode 0400.
        network: "none" (default until networks exist) or "host".
        networks, dns, extra_hosts, ports: in a later version.
        limits: None for the engine's defaults; UNLIMITED lifts those.
        security: None for `Security.default()`.
        lifetime: "owner" (default): it ends with the process that started it last, and is removed;
            "detached": it lives on by itself.
        init: a first process that reaps orphans and passes signals on to the command.  It ends as
            the command does: with code 128 + n, not by the signal, where signal n ended that.
        log: how much of its output is kept, a `Log`; False keeps nothing.
        restart: of a detached one, a `Restart` or "no", "on-failure:3", "always", "unless-stopped".
        healthcheck: how the launcher finds out whether it works; None: as the image says,
            `Healthcheck.none()`: not at all.
    """

    name: str | None
    entrypoint: Command | None
    env: Mapping[str, str | None] | None
    workdir: str | PathLike[str] | None
    user: str | int | None
    hostname: str | None
    labels: Mapping[str, str] | None
    stop_signal: str | int | None
    stop_grace: float | None
    tty: bool
    stdin_open: bool
    platform: str | None
    pull: Literal["missing", "always", "never"]
    mounts: Sequence[Mount] | None
    secrets: Mapping[str, bytes | str | Path] | None
    network: str | None
    networks: Mapping[str, Any] | None
    dns: Sequence[str] | None
    extra_hosts: Mapping[str, str] | None
    ports: Sequence[int | str] | Mapping[int, HostPort] | Mapping[str, HostPort] | None
    limits: Limits | Unlimited | None
    security: Security | None
    lifetime: Literal["owner", "detached"]
    init: bool | None
    restart: Restart | str | None
    healthcheck: Healthcheck | Command | None
    log: Log | bool | None
