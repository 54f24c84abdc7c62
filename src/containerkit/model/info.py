"""What a container is at one moment, as a value: `Container.inspect`, `Container.config`.

Owns both values, and what their text shows: values of the environment never.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import attrs

from containerkit.model.document import copied

if TYPE_CHECKING:
    from containerkit.model.exit import Exit
    from containerkit.model.options import Command

HIDDEN: Final = "***"


def shown(options: Mapping[str, Any]) -> str:
    """Return options as a text that holds no value of the environment."""
    given = dict(options)
    if given.get("env"):
        given["env"] = dict.fromkeys(given["env"], HIDDEN)
    if given.get("secrets"):
        given["secrets"] = dict.fromkeys(given["secrets"], HIDDEN)
    return repr(given)


@attrs.frozen
class ContainerConfig:
    """What a container was created with.

    Attributes:
        image: what its image was called.
        command: as it was given; None: the image's own.
        options: those that were given; contents of secrets are not kept.
    """

    image: str
    command: Command | None
    options: Mapping[str, Any] = attrs.field(converter=copied, hash=False, repr=shown)

    @property
    def env(self) -> Mapping[str, str | None]:
        """What was added to the image's environment; None: taken away."""
        return dict(self.options.get("env") or {})


@attrs.frozen(kw_only=True)
class ContainerInfo:
    """A container at one moment.

    Attributes:
        id: 64 hexadecimal digits.
        name: unique in the engine's root.
        status: created, running, paused, restarting or stopped.
        image: what its image was called.
        image_digest: of the image's manifest.
        config: what it was created with.
        labels: the image's and its own.
        lifetime: "owner" or "detached".
        pid: of its first process, as this process sees it; None when it does not run.
        exit: how it ended last; None while it runs, and when it never did.
        health: starting, healthy, unhealthy; None without a health check.
        restarts: by its restart policy, since it was started.
        created, started, finished: times, None for what has not happened.
        dropped_log_bytes: since its start, what its log does not hold: output that it could not take,
            and files that were rotated away (20 bytes more for each piece of output in them).
    """

    id: str
    name: str
    status: str
    image: str
    image_digest: str
    config: ContainerConfig
    labels: Mapping[str, str] = attrs.field(converter=copied, hash=False)
    lifetime: str
    pid: int | None
    exit: Exit | None
    health: str | None
    restarts: int
    created: datetime
    started: datetime | None
    finished: datetime | None
    dropped_log_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as ``json.dumps`` takes it; values of the environment are in it, secrets by name."""
        from containerkit.model.plain import plain

        made: dict[str, Any] = plain(self)
        return made
