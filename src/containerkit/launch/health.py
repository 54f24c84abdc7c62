"""A health check, compiled into the step of a plan that has the launcher run it.

Owns the numbers of that step.  The command becomes a whole plan of an exec inside the step, so that
the launcher probes for as long as the container lives, whoever started it being gone.  Pure.
Neighbours: `compile` puts the step into plans of kept containers; `execute` compiles the probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from containerkit.errors import ConfigError
from containerkit.launch.bare import is_in_place
from containerkit.launch.execute import ExecBase, ExecRequest, exec_plan
from containerkit.launch.ops import PLAN_INLINE, Code, Op
from containerkit.model.healthcheck import effective

if TYPE_CHECKING:
    from containerkit.launch.request import HostFacts, LaunchRequest
    from containerkit.model.healthcheck import Healthcheck


def health_steps(request: LaunchRequest, facts: HostFacts) -> list[Op]:
    """Return the step that has a kept container probed, if it has a check.

    A `run` has no health: nobody but its caller sees it, who waits for its end.

    Raises:
        ConfigError: the option is none, the command names nothing to run.
    """
    check = effective(request.options.get("healthcheck"), request.image)
    if check is None or request.ephemeral or request.park:
        return []
    base = ExecBase(
        id=request.id,
        image=request.image,
        options=request.options,
        facts=facts,
        passwd=request.passwd,
        group=request.group,
        oom_score_adj=request.oom_score_adj,
        ids=request.ids,
        in_place=facts.bare and is_in_place(request.rootfs),
    )
    return [health_op(check, base)]


def health_op(check: Healthcheck, base: ExecBase) -> Op:
    """Return the step that has a container probed.

    Args:
        check: with a command.
        base: the container, as an exec in it sees it; its probes run as its user, in its workdir
            and environment.  The launcher keeps the beginning of what the last one wrote.

    Raises:
        ConfigError: the command names nothing to run, or its environment is too large.
    """
    assert check.command is not None
    plan = exec_plan(base, ExecRequest(check.command, streams=("stdout", "stderr")))
    data = plan.encode()
    if len(data) > PLAN_INLINE:
        raise ConfigError(
            f"healthcheck: with its environment the command has {len(data)} bytes, more than"
            f" {PLAN_INLINE}",
            hint="run a script of the image's",
        )
    return Op(
        Code.HEALTH,
        flags=check.retries,
        arena=(data, None, None),
        value=(
            milliseconds(check.interval) << 32 | milliseconds(check.timeout),
            milliseconds(check.start_period) << 32 | milliseconds(check.start_interval),
        ),
    )


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, at least one unless it is zero."""
    return max(round(seconds * 1000), 1) if seconds else 0
