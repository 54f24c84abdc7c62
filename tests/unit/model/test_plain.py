"""Values as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import containerkit as ck
from containerkit.model.plain import plain


def test_a_container_with_many_options_is_json() -> None:
    options: dict[str, Any] = {
        "env": {"A": "b", "C": None},
        "secrets": {"token": None, "file": Path("/etc/token")},
        "limits": ck.Limits(memory="64m", cpus=1.5),
        "security": ck.Security.strict(),
        "mounts": [ck.Mount.bind("/tmp", "/x"), ck.Mount.tmpfs("/y", mode=0o700)],
        "healthcheck": ck.Healthcheck(["true"]),
        "restart": ck.Restart("always"),
    }
    info = ck.ContainerInfo(
        id="a" * 64, name="web", status="stopped", image="redis:7", image_digest="sha256:b",
        config=ck.ContainerConfig(
            "redis:7",
            ("redis-server", Path("/etc/x")),
            options,
        ),
        labels={"a": "1"}, lifetime="detached", pid=None, exit=ck.Exit(code=3), health=None,
        restarts=0, created=datetime(2026, 1, 2, tzinfo=UTC), started=None, finished=None,
        dropped_log_bytes=0,
    )  # fmt: skip
    told = json.loads(json.dumps(info.to_dict(), allow_nan=False))
    assert told["exit"] == {"code": 3, "signal": None, "cause": "exited"}
    assert told["created"] == "2026-01-02T00:00:00+00:00"
    kept = told["config"]["options"]
    assert kept["limits"]["memory"] == 64 << 20
    assert kept["mounts"][1]["target"] == "/y"
    assert kept["secrets"] == {"token": None, "file": "/etc/token"}
    assert told["config"]["command"] == ["redis-server", "/etc/x"]


def test_an_image_and_a_reading_are_json() -> None:
    image = ck.ImageConfig(architecture="amd64", env=("A=b",), labels={"x": "y"})
    assert json.loads(json.dumps(image.to_dict()))["env"] == ["A=b"]
    stats = ck.Stats(
        datetime(2026, 1, 2, tzinfo=UTC), ck.CpuStats(1.0, 2.0, 3.0), None,
        ck.MemoryStats(5, 4), None, None, None, 0,
    )  # fmt: skip
    told = json.loads(json.dumps(stats.to_dict()))
    assert told["cpu"]["total"] == 3.0
    assert told["memory"]["current"] == 5


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (b"a\xff", "a\ufffd"), (timedelta(minutes=1), 60.0), (frozenset({"b", "a"}), ["a", "b"]),
        (Path("/x"), "/x"), (ck.UNLIMITED, "unlimited"), ({1: (2, None)}, {"1": [2, None]}),
    ],
)  # fmt: skip
def test_each_kind(value: object, made: object) -> None:
    assert plain(value) == made


def test_modes_print_in_octal() -> None:
    assert "mode=0o700" in repr(ck.Mount.tmpfs("/y", mode=0o700))
    info = ck.FileInfo("x", "file", 0, 0o644, 0, 0, datetime(2026, 1, 2, tzinfo=UTC))
    assert "mode=0o644" in repr(info)


def test_the_time_of_a_file_is_a_time() -> None:
    assert ck.FileInfo("x", "file", 0, 0, 0, 0, 60.0).mtime == datetime(
        1970, 1, 1, 0, 1, tzinfo=UTC
    )
