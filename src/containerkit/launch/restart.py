"""When the launcher starts a container again, as a step of its plan.

Owns the translation of the option.  Must not: count or wait; the launcher does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from containerkit.errors import ConfigError
from containerkit.launch.ops import (
    RESTART_ALWAYS,
    RESTART_ON_FAILURE,
    RESTART_UNLESS_STOPPED,
    Code,
    Op,
)
from containerkit.model.restart import Restart

if TYPE_CHECKING:
    from containerkit.launch.request import LaunchRequest

_POLICIES: Final = {
    "on-failure": RESTART_ON_FAILURE,
    "always": RESTART_ALWAYS,
    "unless-stopped": RESTART_UNLESS_STOPPED,
}


def restart_steps(request: LaunchRequest) -> list[Op]:
    """Return the step, if the container is to be started again at all.

    Raises:
        ConfigError: something that does not outlive its call was to be detached.
    """
    if request.ephemeral and request.options.get("lifetime") == "detached":
        raise ConfigError(
            "cannot run a detached container: run waits for its end", hint="start it instead"
        )
    restart = Restart.of(request.options.get("restart"))
    if request.park or restart.policy == "no":
        return []
    return [Op(Code.RESTART, value=(_POLICIES[restart.policy], restart.max_retries))]
