"""Health checks: of an option, of an image, and which of the two holds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from containerkit.errors import ConfigError
from containerkit.model.healthcheck import Healthcheck, effective
from containerkit.model.image_config import ImageConfig, ImageHealthcheck

SECOND = 10**9


def image(*test: str, **fields: int) -> ImageHealthcheck:
    times = {f"{name}_ns": fields.get(name) for name in TIMES}
    return ImageHealthcheck(test, **times, retries=fields.get("retries"))


TIMES = ("interval", "timeout", "start_period", "start_interval")


def test_the_defaults_are_dockers() -> None:
    check = Healthcheck(["true"])
    assert check == Healthcheck(
        ("true",), interval=30, timeout=30, start_period=0, start_interval=5, retries=3
    )


def test_a_list_is_copied_and_durations_are_taken() -> None:
    words = ["test", "-e", "/ok"]
    check = Healthcheck(words, interval=timedelta(milliseconds=50))
    words.append("more")
    assert check.command == ("test", "-e", "/ok")
    assert check.interval == 0.05


@pytest.mark.parametrize(
    "given",
    [
        {"command": ""},
        {"command": []},
        {"command": ["", "x"]},
        {"command": ["a\0b"]},
        {"command": ["true"], "interval": 0},
        {"command": ["true"], "interval": float("nan")},
        {"command": ["true"], "timeout": -1},
        {"command": ["true"], "timeout": 1 << 40},
        {"command": ["true"], "start_period": -0.1},
        {"command": ["true"], "start_interval": "5s"},
        {"command": ["true"], "retries": 0},
        {"command": ["true"], "retries": 1 << 16},
        {"command": ["true"], "retries": True},
    ],
)
def test_what_has_no_meaning_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Healthcheck(**given)


def test_an_images_check() -> None:
    found = image(
        "CMD", "curl", "-f", "http://localhost", interval=2 * SECOND, start_period=SECOND // 2
    )
    assert Healthcheck.of_image(found) == Healthcheck(
        ("curl", "-f", "http://localhost"), interval=2, start_period=0.5
    )


def test_an_images_shell_text() -> None:
    found = Healthcheck.of_image(image("CMD-SHELL", "a || exit 1", retries=5, timeout=SECOND))
    assert found == Healthcheck("a || exit 1", timeout=1, retries=5)


@pytest.mark.parametrize(
    "found", [None, image("NONE"), image("CMD"), image("CMD-SHELL"), image("CMD-SHELL", "")]
)
def test_an_image_without_a_check(found: ImageHealthcheck | None) -> None:
    assert not Healthcheck.of_image(found)


def test_zero_and_the_absurd_in_an_image_do_not_stop_it() -> None:
    found = image("CMD", "true", interval=0, timeout=1, start_period=1 << 62, retries=0)
    check = Healthcheck.of_image(found)
    assert check is not None
    assert (check.interval, check.timeout, check.retries) == (30, 0.001, 3)
    assert check.start_period < 1 << 32


def test_the_option_wins_over_the_image() -> None:
    config = ImageConfig(healthcheck=image("CMD", "of-image"))
    assert effective(None, config) == Healthcheck(("of-image",))
    assert effective(Healthcheck("mine"), config) == Healthcheck("mine")
    assert effective(["mine"], config) == Healthcheck(("mine",))
    assert effective(Healthcheck.none(), config) is None
    with pytest.raises(ConfigError, match="int"):
        effective(5, config)
