"""Image configs: the fields containerkit reads, their types and limits, and nothing else."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from containerkit.errors import InvalidSpec
from containerkit.model.digest import Digest
from containerkit.model.image_config import ImageConfig, ImageHealthcheck

LAYER = str(Digest.of(b"layer"))


def document(config: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "architecture": "arm",
        "variant": "v7",
        "os": "linux",
        "created": "2024-02-03T04:05:06.123456789Z",
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": [LAYER]},
        **changes,
    }


def parse(value: object) -> ImageConfig:
    return ImageConfig.parse(json.dumps(value).encode())


def test_every_field() -> None:
    config = parse(
        document(
            {
                "Entrypoint": ["/entry"],
                "Cmd": ["a", ""],
                "Env": ["PATH=/bin", "EMPTY=", "A=b=c"],
                "WorkingDir": "/srv",
                "User": "app:1000",
                "Shell": ["/bin/bash", "-c"],
                "StopSignal": "SIGQUIT",
                "ExposedPorts": {"80/tcp": {}},
                "Volumes": {"/data": {}},
                "Labels": {"a": "b"},
                "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5, "Retries": 2},
            },
            history=[{"created_by": "COPY . .", "empty_layer": True}],
        )
    )
    assert config.entrypoint == ("/entry",)
    assert config.cmd == ("a", "")
    assert config.env == ("PATH=/bin", "EMPTY=", "A=b=c")
    assert (config.workdir, config.user, config.stop_signal) == ("/srv", "app:1000", "SIGQUIT")
    assert config.shell == ("/bin/bash", "-c")
    assert (config.exposed_ports, config.volumes) == (("80/tcp",), ("/data",))
    assert config.labels == {"a": "b"}
    assert config.healthcheck == ImageHealthcheck(("CMD", "true"), 5, None, None, None, 2)
    assert config.diff_ids == (Digest.parse(LAYER),)
    assert (config.architecture, config.variant, config.os) == ("arm", "v7", "linux")
    assert config.history[0].created_by == "COPY . ."
    assert config.history[0].empty_layer
    moment = dt.datetime(2024, 2, 3, 4, 5, 6, 123456, tzinfo=dt.UTC)
    assert config.created == moment


def test_absent_and_null_are_the_same() -> None:
    empty = {"Entrypoint": None, "Cmd": None, "Env": None, "Labels": None, "Healthcheck": None}
    assert parse(document(empty)) == parse(document(None))
    assert parse(document(created="")).created is None
    assert parse(document({"Labels": {"a": None}})).labels == {"a": ""}


def test_an_impossible_date_is_no_date() -> None:
    assert parse(document(created="2024-02-31T00:00:00Z")).created is None


def test_other_members_are_not_looked_at() -> None:
    assert parse(document({"OnBuild": 7, "Memory": "x"}, strange=[[]])) == parse(document())


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "not an object"),
        (document(rootfs=None), "rootfs is missing"),
        (document(rootfs={"type": "other"}), "layers"),
        (document(rootfs={"type": "layers", "diff_ids": ["sha256:x"]}), "diff_ids"),
        (document(rootfs={"type": "layers", "diff_ids": [LAYER] * 501}), "more than 500"),
        (document({"Env": "A=b"}), "not a list"),
        (document({"Env": [7]}), "not text"),
        (document({"Env": ["A=\0"]}), "NUL"),
        (document({"Cmd": 7}), "not a list"),
        (document({"Cmd": ["x" * (128 << 10)]}), "more than 131071"),
        (document({"Entrypoint": {}}), "not a list"),
        (document({"User": 0}), "not text"),
        (document({"User": "x" * 257}), "more than 256"),
        (document({"Labels": {"a": 1}}), "not text"),
        (document({"Labels": {str(i): "" for i in range(8193)}}), "more than 8192"),
        (document({"ExposedPorts": ["80"]}), "not an object"),
        (document({"Healthcheck": {"Test": ["CMD"], "Interval": "1s"}}), "Interval"),
        (document({"Healthcheck": {"Test": ["CMD"], "Retries": 1_000_001}}), "Retries"),
        (document(created="yesterday"), "RFC 3339"),
        (document(history=[7]), "not an object"),
        (document(history=[{"empty_layer": "yes"}]), "true or false"),
        (document(Config={}), "unusual case"),
    ],
)
def test_impossible_configs(value: object, says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        parse(value)


@pytest.mark.parametrize(
    ("said", "name", "read"),
    [
        ({"Entrypoint": "sh"}, "entrypoint", ("sh",)),
        ({"Cmd": "echo hi"}, "cmd", ("echo hi",)),
        ({"Cmd": ""}, "cmd", ("",)),
        ({"Cmd": ["echo", None, "x"]}, "cmd", ("echo", "", "x")),
        ({"Shell": "/bin/sh"}, "shell", ("/bin/sh",)),
        ({"Env": [None, "A=b"]}, "env", ("A=b",)),
        ({"Env": ["SECRET", "A=b", "=x", "B="]}, "env", ("A=b", "B=")),
        ({"Healthcheck": {"Test": ["sh"]}}, "healthcheck", None),
        (
            {"Healthcheck": {"Test": ["CMD"], "Interval": -1, "Retries": -1}},
            "healthcheck",
            ImageHealthcheck(("CMD",), None, None, None, None, None),
        ),
        ({"Volumes": {"/a/../../b": {}, "..": {}, "/c/": {}}}, "volumes", ("/b", "/c")),
    ],
)
def test_what_docker_takes_is_taken(said: dict[str, object], name: str, read: object) -> None:
    assert getattr(parse(document(said)), name) == read


def test_a_config_beyond_its_limit_is_not_decoded() -> None:
    with pytest.raises(InvalidSpec, match="more than 8388608"):
        ImageConfig.parse(b" " * (8 << 20) + b"{}")
