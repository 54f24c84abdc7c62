"""This library inside containers of its own, where it can have no namespaces."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import MissingFeature
from tests.integration.nested import program

CHECKOUT = Path(program.__file__).parents[3]
PRESETS = {"default": ck.Security.default, "strict": ck.Security.strict}
ANYWHERE = ("run", "network", "kept", "promises", "deaths", "detached")


def inside(
    engine: ck.Engine,
    security: ck.Security,
    scenario: str,
    reference: str = "",
    *,
    network: str = "none",
) -> None:
    """Have a scenario of `program` done in a container of the host image."""
    host = engine.images.host(paths=[CHECKOUT])
    command = [sys.executable, "-m", program.__name__, scenario, "/tmp", reference]
    env = {"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        result = engine.run(host, command, env=env, network=network, security=security, text=True)
    except MissingFeature as error:
        pytest.skip(str(error))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("scenario", ANYWHERE)
def test_what_it_does(engine: ck.Engine, preset: str, scenario: str) -> None:
    inside(engine, PRESETS[preset](), scenario)


def test_an_image(engine: ck.Engine, busybox: str) -> None:
    inside(engine, ck.Security(), "image", busybox, network="host")


def test_an_image_without_chroot(engine: ck.Engine, busybox: str) -> None:
    less = ck.Security(capabilities=["-SYS_CHROOT"])
    inside(engine, less, "no_image", busybox, network="host")
