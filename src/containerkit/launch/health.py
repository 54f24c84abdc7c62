"""A health check, compiled into the step of a plan that has the launcher run it.

Owns the numbers of that step.  The command becomes a whole plan of an exec inside the step, so that
the launcher probes for as long as the container lives, whoever started it being gone.  Pure.
Neighbours: `compile` puts the step into plans of kept containers; `execute` compiles the probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from containerkit.launch.execute import ExecBase, ExecRequest, exec_plan
from containerkit.launch.ops import Code, Op

if TYPE_CHECKING:
    from containerkit.model.healthcheck import Healthcheck


def health_op(check: Healthcheck, base: ExecBase) -> Op:
    """Return the step that has a container probed.

    Args:
        check: with a command.
        base: the container, as an exec in it sees it; its probes run as its user, in its workdir
            and environment, and what they write is dropped.

    Raises:
        ConfigError: the command names nothing to run.
    """
    assert check.command is not None
    plan = exec_plan(base, ExecRequest(check.command, streams=()))
    return Op(
        Code.HEALTH,
        flags=check.retries,
        arena=(plan.encode(), None, None),
        value=(
            milliseconds(check.interval) << 32 | milliseconds(check.timeout),
            milliseconds(check.start_period) << 32 | milliseconds(check.start_interval),
        ),
    )


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, at least one unless it is zero."""
    return max(round(seconds * 1000), 1) if seconds else 0
