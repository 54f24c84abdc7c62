"""Health checks as steps of plans."""

from __future__ import annotations

from typing import Any, cast

import attrs
import pytest

from containerkit.errors import ConfigError
from containerkit.launch import wire
from containerkit.launch.compile import compile_plan
from containerkit.launch.execute import ExecBase, ExecRequest, exec_plan
from containerkit.launch.explain import explain_op
from containerkit.launch.health import health_op, milliseconds
from containerkit.launch.ops import Code
from containerkit.model.healthcheck import Healthcheck
from containerkit.model.image_config import ImageConfig, ImageHealthcheck
from containerkit.model.options import ContainerOptions
from tests.unit.launch import plans

BASE = ExecBase(plans.ID, plans.IMAGE, ContainerOptions(user="app"), plans.V1, plans.PASSWD)
CHECK = Healthcheck(
    ["test", "-e", "/ok"], interval=2, timeout=0.5, start_period=60, start_interval=0.25, retries=7
)


def test_the_numbers_of_the_step() -> None:
    op = health_op(CHECK, BASE)
    assert op.code == Code.HEALTH
    assert op.flags == 7
    assert op.value == (2000 << 32 | 500, 60000 << 32 | 250)


def test_the_probe_is_an_exec_whose_output_is_taken() -> None:
    [data, *_] = health_op(CHECK, BASE).arena
    assert isinstance(data, bytes)
    expected = exec_plan(BASE, ExecRequest(("test", "-e", "/ok"), streams=("stdout", "stderr")))
    decoded = wire.decode(data)
    assert decoded.sections == expected.sections
    assert decoded.inputs == 2
    assert expected.child[-1].arena[1] == ("test", "-e", "/ok")


def test_a_text_is_given_to_the_shell() -> None:
    [data, *_] = health_op(Healthcheck("test -e /ok"), BASE).arena
    assert isinstance(data, bytes)
    assert wire.decode(data).sections[1][-1].arena[1] == ("/bin/sh", "-c", "test -e /ok")


def test_it_is_explained() -> None:
    text = explain_op(health_op(CHECK, BASE))
    assert text == (
        "probe it every 2000 ms for at most 500 ms, every 250 ms in the 60000 ms at first,"
        " unhealthy after 7 failures"
    )


@pytest.mark.parametrize(("seconds", "expected"), [(0, 0), (0.0004, 1), (1.5, 1500), (0.0015, 2)])
def test_times_are_whole_milliseconds(seconds: float, expected: int) -> None:
    assert milliseconds(seconds) == expected


def test_an_unknown_user_is_told_at_once() -> None:
    base = ExecBase(plans.ID, plans.IMAGE, ContainerOptions(user="nobody-here"), plans.V1)
    with pytest.raises(ConfigError):
        health_op(CHECK, base)


def test_an_environment_that_does_not_fit() -> None:
    options = ContainerOptions(env={"BIG": "x" * (60 << 10)})
    with pytest.raises(ConfigError, match="more than 61440"):
        health_op(CHECK, ExecBase(plans.ID, plans.IMAGE, options, plans.V1))


# ---- in the plan of a container

OF_IMAGE = attrs.evolve(
    plans.IMAGE,
    healthcheck=ImageHealthcheck(("CMD", "of-image"), None, None, None, None, None),
)


def probes(image: ImageConfig, *, ephemeral: bool = False, **options: Any) -> list[str]:
    request = plans.request(
        options=cast("ContainerOptions", options), image=image, ephemeral=ephemeral
    )
    plan = compile_plan(request, plans.V1)
    ops = [op for op in plan.prepare if op.code == Code.HEALTH]
    commands = []
    for op in ops:
        assert isinstance(op.arena[0], bytes)
        argv = wire.decode(op.arena[0]).sections[1][-1].arena[1]
        assert isinstance(argv, tuple)
        commands.append(" ".join(argv))
    return commands


def test_which_containers_are_probed() -> None:
    assert probes(OF_IMAGE) == ["of-image"]
    assert probes(OF_IMAGE, healthcheck=Healthcheck(["mine"])) == ["mine"]
    assert probes(OF_IMAGE, healthcheck="exit 1") == ["/bin/sh -c exit 1"]
    assert probes(OF_IMAGE, healthcheck=Healthcheck.none()) == []
    assert probes(plans.IMAGE) == []
    assert probes(plans.IMAGE, healthcheck=["mine"]) == ["mine"]


def test_a_run_is_not() -> None:
    assert probes(OF_IMAGE, ephemeral=True) == []
    assert probes(plans.IMAGE, ephemeral=True, healthcheck=["mine"]) == []


def test_what_is_no_check() -> None:
    with pytest.raises(ConfigError, match="neither a Healthcheck nor a command"):
        probes(plans.IMAGE, healthcheck=5)


def test_the_step_comes_before_the_record_is_written() -> None:
    plan = compile_plan(plans.request(image=OF_IMAGE, ephemeral=False), plans.V1)
    codes = [op.code for op in plan.prepare]
    assert codes.index(Code.HEALTH) < codes.index(Code.STATE)
    plan.encode()
