"""The conditions of readiness: what may be said, and how it is read."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest

from containerkit.errors import ConfigError
from containerkit.model.ready import Http, Port, Ready


def test_all_conditions_are_kept() -> None:
    ready = Ready(
        port="53/udp", log="up in .* s", times=2, http=":8080/health?deep=1", command=["true"],
        healthy=True, timeout=5, interval=1,
    )  # fmt: skip
    assert ready.port == Port(53, "udp")
    assert ready.log == re.compile("up in .* s")
    assert ready.request == Http("localhost", 8080, "/health?deep=1")
    assert ready.command == ("true",)
    assert str(ready) == (
        "port 53/udp, 'up in .* s' in its log 2 times, http://localhost:8080/health?deep=1,"
        " command ('true',), its health check"
    )
    assert attrs.evolve(ready, timeout=6).port == Port(53, "udp")


@pytest.mark.parametrize(
    ("given", "request_"),
    [
        ({"http": "http://web.test:81"}, Http("web.test", 81, "/")),
        ({"http": "/health", "port": 8000}, Http("localhost", 8000, "/health")),
        ({"http": "/health"}, Http("localhost", 80, "/health")),
        ({"http": ":99"}, Http("localhost", 99, "/")),
        ({"http": "http://[::1]:5/x#fragment"}, Http("::1", 5, "/x")),
    ],
)
def test_forms_of_a_request(given: dict[str, Any], request_: Http) -> None:
    assert Ready(**given).request == request_


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"healthy": False},
        {"port": 0},
        {"port": 65536},
        {"port": "80/sctp"},
        {"port": True},
        {"port": "http"},
        {"log": "("},
        {"log": 5},
        {"log": re.compile(b"x")},
        {"log": "x", "times": 0},
        {"port": 1, "times": 2},
        {"http": "https://localhost/"},
        {"http": "ftp://x"},
        {"http": "localhost"},
        {"http": "http://u:p@h/"},
        {"http": "http://h:99999/"},
        {"http": "http://h/a b"},
        {"http": "http://h/a\r\nX: y"},
        {"command": []},
        {"command": ""},
        {"port": 1, "timeout": -1},
        {"port": 1, "timeout": float("nan")},
        {"port": 1, "timeout": None},
        {"port": 1, "interval": 0},
    ],
)
def test_what_has_no_meaning_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Ready(**given)
