"""When a container that ended is started again.

Owns the `Restart` value and its text form.  Must not: count or wait; the launcher does.
"""

from __future__ import annotations

import re
from typing import Final, Literal, cast

import attrs

from containerkit.errors import ConfigError

Policy = Literal["no", "on-failure", "always", "unless-stopped"]

_POLICIES: Final = ("no", "on-failure", "always", "unless-stopped")
_TEXT: Final = re.compile(r"(no|on-failure|always|unless-stopped)(?::([0-9]{1,9}))?")


def _policy(value: str) -> Policy:
    if value not in _POLICIES:
        raise ConfigError(
            f"restart {value!r} is not a policy", hint=f"one of {', '.join(_POLICIES)}"
        )
    return cast("Policy", value)


def _retries(value: int) -> int:
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise ConfigError(f"restart: max_retries {value!r} is not a number from 0")
    return value


@attrs.frozen
class Restart:
    """When a detached container that ended is started again, after 0.1 s at first, then later.

    Args:
        policy: "no"; "on-failure": when its code is not 0; "always"; "unless-stopped".  `stop` and
            `kill` end it under each of them.
        max_retries: how often in a row, with "on-failure"; 0: no limit.

    Raises:
        ConfigError: no such policy; retries with another one than "on-failure".
    """

    policy: Policy = attrs.field(default="no", converter=_policy)
    max_retries: int = attrs.field(default=0, converter=_retries)

    def __attrs_post_init__(self) -> None:
        if self.max_retries and self.policy != "on-failure":
            raise ConfigError(f"restart {self.policy!r} has no limit of retries")

    @classmethod
    def of(cls, value: Restart | str | None) -> Restart:
        """Return the policy that an option means: itself, a text as "on-failure:3", or None."""
        if value is None:
            return cls()
        if isinstance(value, Restart):
            return value
        match = _TEXT.fullmatch(str(value))
        if match is None:
            raise ConfigError(
                f"restart {value!r} is not a policy",
                hint='one of "no", "on-failure", "on-failure:3", "always", "unless-stopped"',
            )
        return cls(match[1], int(match[2] or 0))

    def __str__(self) -> str:
        return f"{self.policy}:{self.max_retries}" if self.max_retries else self.policy
