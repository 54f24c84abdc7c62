"""Image configs: what an image says of the process to start, and of how it was made.

Owns: the fields containerkit reads, by allow-list, their types and limits.  Must not: resolve
users, paths or variables; `launch` does.  Flow: read from a verified blob at pull and before each
start, so this module stays cheap to import.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from posixpath import normpath
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs

from containerkit.model.digest import Digest
from containerkit.model.document import MAX_INTEGER, Fields, as_texts, copied, load

if TYPE_CHECKING:
    from datetime import datetime

MAX_CONFIG_SIZE: Final = 8 << 20
MAX_LAYERS: Final = 500  # overlayfs takes no more below each other: OVL_MAX_STACK
DOCUMENT_MAX: Final = 64 << 20
LAYERS_MAX: Final = 4096
"""What no limit of images can be set above: documents that are here already are read with these."""
MAX_HISTORY: Final = 8192
MAX_ENTRIES: Final = 8192
# Linux refuses a longer argument or environment entry (MAX_ARG_STRLEN, with its final NUL).
MAX_ARGUMENT: Final = (128 << 10) - 1
_PATH: Final = 4095

_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(?:tcp|udp|sctp))?")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,12})?(?:[Zz]|[+-]\d\d:\d\d)")


class HistoryEntry(NamedTuple):
    """How one layer, or one change of the config alone, came to be.

    A named tuple, as `ImageHealthcheck`: an attrs class costs 0.5 ms at import, on the path of a start.
    """

    created: str | None
    created_by: str
    comment: str
    author: str
    empty_layer: bool


class ImageHealthcheck(NamedTuple):
    """A command that tells whether the container works; 0 or None means the engine's default.

    ``test`` is ("NONE",), ("CMD", argument, …) or ("CMD-SHELL", text).  Times are in nanoseconds.
    """

    test: tuple[str, ...]
    interval_ns: int | None
    timeout_ns: int | None
    start_period_ns: int | None
    start_interval_ns: int | None
    retries: int | None


@attrs.frozen
class ImageConfig:
    """What an image says of itself.

    Args:
        created_text: RFC 3339, as in the document.
        env: "NAME=value" each, in order.
        user: "", or name or number, with ":group"; not resolved.
        shell: what a command given as one text is run with; empty: the engine's default.
        exposed_ports: "80/tcp", "53/udp", "8000-8010" each; what is none is left out.
        volumes: absolute paths without "..".
        diff_ids: of the layers, lowest first.

    Spec: image-spec config.md, Properties; Docker Image Specification v1.3 for the health check
    and the shell.
    """

    architecture: str = ""
    os: str = "linux"
    variant: str | None = None
    created_text: str | None = None
    entrypoint: tuple[str, ...] = attrs.field(default=(), converter=as_texts)
    cmd: tuple[str, ...] = attrs.field(default=(), converter=as_texts)
    env: tuple[str, ...] = attrs.field(default=(), converter=as_texts)
    workdir: str = ""
    user: str = ""
    shell: tuple[str, ...] = attrs.field(default=(), converter=as_texts)
    stop_signal: str | None = None
    exposed_ports: tuple[str, ...] = attrs.field(default=(), converter=as_texts)
    volumes: tuple[str, ...] = attrs.field(default=(), converter=as_texts)
    labels: Mapping[str, str] = attrs.field(factory=dict, converter=copied, hash=False)
    healthcheck: ImageHealthcheck | None = None
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[HistoryEntry, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as ``json.dumps`` takes it."""
        from containerkit.model.plain import plain

        made: dict[str, Any] = plain(self)
        return made

    @property
    def created(self) -> datetime | None:
        """When the image was made, None when it does not say or gives an impossible date."""
        if self.created_text is None:
            return None
        from datetime import datetime  # 1 ms, only for who looks at it

        try:
            return datetime.fromisoformat(self.created_text)
        except ValueError:
            return None

    @classmethod
    def parse(
        cls, data: bytes, *, limit: int = MAX_CONFIG_SIZE, layers: int = MAX_LAYERS
    ) -> ImageConfig:
        """Read a config, OCI or Docker.

        Members that are not listed above are not looked at.

        Args:
            data: the document.
            limit: bytes accepted.
            layers: accepted.

        Raises:
            InvalidSpec: malformed, of the wrong type somewhere, or beyond a limit.
        """
        document = load(data, what="image config", limit=limit)
        document.refuse_lookalikes("architecture", "os", "config", "rootfs", "history")
        fields = document.member("config") or Fields({}, "image config")
        return cls(
            architecture=document.text("architecture", limit=64) or "",
            os=document.text("os", limit=64) or "linux",
            variant=document.text("variant", limit=64) or None,
            created_text=_time(document),
            entrypoint=fields.texts_or_text("Entrypoint", most=MAX_ENTRIES, limit=MAX_ARGUMENT),
            cmd=fields.texts_or_text("Cmd", most=MAX_ENTRIES, limit=MAX_ARGUMENT),
            env=_env(fields),
            workdir=fields.text("WorkingDir", limit=_PATH) or "",
            user=fields.text("User", limit=256) or "",
            shell=fields.texts_or_text("Shell", most=64, limit=_PATH),
            stop_signal=fields.text("StopSignal", limit=32) or None,
            exposed_ports=_ports(fields),
            volumes=_volumes(fields),
            labels=fields.text_map("Labels", most=MAX_ENTRIES),
            healthcheck=_healthcheck(fields.member("Healthcheck")),
            diff_ids=_diff_ids(document, layers),
            history=tuple(
                HistoryEntry(
                    _time(entry),
                    entry.text("created_by") or "",
                    entry.text("comment") or "",
                    entry.text("author") or "",
                    entry.flag("empty_layer"),
                )
                for entry in document.objects("history", most=MAX_HISTORY)
            ),
        )


def _env(fields: Fields) -> tuple[str, ...]:
    """Return what is NAME=value; a bare name has no value, and is looked up nowhere."""
    env = fields.texts("Env", most=MAX_ENTRIES, limit=MAX_ARGUMENT)
    return tuple(entry for entry in env if entry.find("=") > 0)


def beneath(path: str) -> str:
    """Return an absolute path, its ".." resolved as text: none leads above the root."""
    return "/" + normpath(f"/{path}").lstrip("/")


def _ports(fields: Fields) -> tuple[str, ...]:
    """Return what is a port, or a range of them; the rest could mean nothing anyway."""
    ports = fields.names("ExposedPorts", most=MAX_ENTRIES, limit=64)
    return tuple(port for port in ports if _is_port(port))


def _is_port(text: str) -> bool:
    found = _PORT.fullmatch(text)
    return found is not None and 1 <= int(found[1]) <= int(found[2] or found[1]) <= 65535


def _volumes(fields: Fields) -> tuple[str, ...]:
    volumes = fields.names("Volumes", most=MAX_ENTRIES, limit=_PATH)
    # No ".." is left to climb by (CVE-2022-23648); the root is no volume.
    return tuple(dict.fromkeys(path for path in map(beneath, volumes) if path != "/"))


def _diff_ids(document: Fields, most: int) -> tuple[Digest, ...]:
    rootfs = document.member("rootfs")
    if rootfs is None:
        document.refuse("rootfs is missing")
    if rootfs.text("type", limit=64) != "layers":
        rootfs.refuse('type is not "layers"')
    return rootfs.digests("diff_ids", most=most)


def _time(fields: Fields) -> str | None:
    text = fields.text("created", limit=64) or None
    if text is not None and _TIME.fullmatch(text) is None:
        fields.refuse(f"created is not a time of RFC 3339: {text!a}")
    return text


def _healthcheck(fields: Fields | None) -> ImageHealthcheck | None:
    if fields is None:
        return None
    test = fields.texts("Test", most=MAX_ENTRIES, limit=MAX_ARGUMENT)
    if not test:
        return None
    if test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        return None  # as Docker takes a kind of test that it does not know
    return ImageHealthcheck(
        test,
        _positive(fields, "Interval"),
        _positive(fields, "Timeout"),
        _positive(fields, "StartPeriod"),
        _positive(fields, "StartInterval"),
        _positive(fields, "Retries", most=1_000_000),
    )


def _positive(fields: Fields, name: str, *, most: int = MAX_INTEGER) -> int | None:
    """Return a number; one below zero says nothing, so that the default holds."""
    number = fields.integer(name, least=-MAX_INTEGER, most=most)
    return None if number is not None and number < 0 else number
