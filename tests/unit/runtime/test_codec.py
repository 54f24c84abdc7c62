"""Options as JSON: what comes back equals what went in, and no secret is in it."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import containerkit as ck
from containerkit.model.limits import UNLIMITED
from containerkit.model.rootfs import HostBind, Overlay, Rootfs
from containerkit.runtime import codec

OPTIONS: list[dict[str, Any]] = [
    {},
    {"name": "web", "entrypoint": ["a", "b"], "env": {"A": "1", "B": None}, "workdir": "/w"},
    {"user": 1000, "hostname": "h", "labels": {"a": "b"}, "stop_signal": "QUIT", "tty": True},
    {"user": "1000", "stop_grace": 2.5, "stop_signal": 15, "platform": "linux/arm64"},
    {"mounts": [ck.Mount.bind("/srv", "/srv", read_only=True), ck.Mount.tmpfs("/t", size="1m")]},
    {"mounts": (ck.Mount.volume("v", "/v"), ck.Mount.image("alpine", "/i"))},
    {"ports": {80: 8080, "53/udp": ("127.0.0.1", 53), 81: None}},
    {"ports": [80, "81/udp"], "dns": ("192.0.2.1",), "extra_hosts": {"a": "192.0.2.1"}},
    {"limits": ck.Limits(memory="64m", cpus=0.5, pids=UNLIMITED, ulimits={"nofile": (1, 2)})},
    {"limits": UNLIMITED},
    {"security": ck.Security.strict(sysctls={"kernel.sem": "1"}, seccomp=b"\x00" * 8)},
    {"security": ck.Security(capabilities=["+NET_ADMIN"], masked_paths=["/a"])},
    {"lifetime": "detached", "restart": ck.Restart("on-failure", max_retries=3)},
    {"restart": "always", "log": ck.Log(max_size="1m"), "init": False},
    {"healthcheck": ck.Healthcheck("true", interval=timedelta(seconds=3))},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_options_come_back_equal(options: dict[str, Any]) -> None:
    found = codec.load(codec.dump(options))
    assert found == options
    for name, value in options.items():
        assert type(found[name]) is type(value), name


def test_paths_come_back_as_texts_that_mean_the_same() -> None:
    assert codec.load(codec.dump(["cat", Path("/etc")])) == ["cat", Path("/etc")]


def test_a_root_file_system_comes_back() -> None:
    rootfs = Rootfs((Overlay("/", ("layers/a", "layers/b")), HostBind("/usr", "/usr")))
    assert codec.load(codec.dump(rootfs)) == rootfs


def test_text_that_is_no_utf8_comes_back() -> None:
    odd = b"\xff".decode("utf-8", "surrogateescape")
    assert codec.load(codec.dump({"env": {"A": odd}})) == {"env": {"A": odd}}


def test_the_content_of_a_secret_is_not_kept() -> None:
    secrets: dict[str, bytes | str | Path] = {
        "a": b"hidden-a",
        "b": "hidden-b",
        "c": Path("/run/c"),
    }
    text = codec.dump(codec.without_secrets({"secrets": secrets, "name": "n"}))
    assert "hidden" not in text
    assert codec.load(text) == {"name": "n", "secrets": {"a": None, "b": None, "c": Path("/run/c")}}


def test_what_is_no_value_is_refused() -> None:
    with pytest.raises(ck.ConfigError, match="object"):
        codec.dump({"network": object()})


def test_what_a_later_version_wrote_is_refused_by_name() -> None:
    with pytest.raises(ck.ConfigError, match=r"limits\.Later"):
        codec.load('{"$": "limits.Later", "v": {}}')
    with pytest.raises(ck.ConfigError, match="later version"):
        codec.load('{"$": "limits.Limits", "v": {"later": 1}}')


def test_a_signal_is_kept_as_its_number() -> None:
    found = codec.load(codec.dump({"stop_signal": signal.SIGUSR1}))
    assert found == {"stop_signal": 10}
    assert type(found["stop_signal"]) is int
