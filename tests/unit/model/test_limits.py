"""Limits and sizes."""

from __future__ import annotations

import pickle

import attrs
import pytest

from containerkit.errors import ConfigError
from containerkit.model.limits import RLIM_INFINITY, UNLIMITED, IoLimit, Limits, Ulimit, parse_size


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (512, 512),
        ("512", 512),
        ("512b", 512),
        ("64k", 64 << 10),
        ("64K", 64 << 10),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("1g", 1 << 30),
        ("1 GiB", 1 << 30),
        ("1.5g", 3 << 29),
        ("0.5k", 512),
        ("2t", 2 << 40),
        ("1p", 1 << 50),
    ],
)
def test_sizes(value: int | str, expected: int) -> None:
    assert parse_size(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "m",
        "-1",
        -1,
        "1e3",
        "1_0",
        "1.m",
        ".5m",
        "1x",
        "1bb",
        "1ib",
        "9" * 20,
        1 << 63,
        "9e",
        True,
        "٣m",
        " 1m",
        "1m ",
        "1  m",
        "0x10",
        None,
        1.5,
        b"1m",
        "8388608t",
    ],
)
def test_no_sizes(value: str) -> None:
    with pytest.raises(ConfigError):
        parse_size(value)


def test_limits_are_normal() -> None:
    limits = Limits(
        memory="64m",
        memory_swap=64 << 20,
        cpus=2,
        ulimits={"nofile": 10, "core": (0, -1), "cpu": UNLIMITED},
    )
    assert limits.memory == limits.memory_swap == 64 << 20
    assert isinstance(limits.cpus, float)
    assert limits.ulimits == (
        Ulimit("nofile", 10, 10),
        Ulimit("core", 0, RLIM_INFINITY),
        Ulimit("cpu", RLIM_INFINITY, RLIM_INFINITY),
    )
    assert pickle.loads(pickle.dumps(limits)) == limits
    assert attrs.evolve(limits, pids=5).ulimits == limits.ulimits
    assert hash(limits) == hash(pickle.loads(pickle.dumps(limits)))


def test_unlimited_is_one_object() -> None:
    assert pickle.loads(pickle.dumps(UNLIMITED)) is UNLIMITED
    assert repr(UNLIMITED) == "UNLIMITED"
    assert Limits(pids=UNLIMITED).pids is UNLIMITED


@pytest.mark.parametrize(
    "limits",
    [
        {"memory": "1m"},
        {"memory_swap": "64m"},
        {"memory": "64m", "memory_swap": "32m"},
        {"cpus": 0},
        {"cpus": "1"},
        {"cpus": float("nan")},
        {"cpus": True},
        {"cpu_shares": 1},
        {"cpu_shares": 1.5},
        {"cpuset": ""},
        {"cpuset": "0-"},
        {"cpuset": "0\n1"},
        {"pids": 0},
        {"pids": -1},
        {"pids": True},
        {"pids": "many"},
        {"shm_size": 1},
        {"disk": 1},
        {"io_weight": 9},
        {"io_weight": 1001},
        {"io": [IoLimit("8:0", read_bps=1), IoLimit("8:0", read_iops=1)]},
        {"io": ["8:0"]},
        {"ulimits": {"files": 1}},
        {"ulimits": {"nofile": (2, 1)}},
        {"ulimits": {"nofile": -2}},
        {"ulimits": {"nofile": 1 << 64}},
        {"ulimits": {"nofile": "x"}},
    ],
)
def test_limits_without_meaning(limits: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Limits(**limits)  # type: ignore[arg-type]


def test_rates_of_a_device() -> None:
    limit = IoLimit("/dev/sda", read_bps="1m", write_iops=5)
    assert (limit.read_bps, limit.write_iops, limit.write_bps) == (1 << 20, 5, None)
    assert Limits(io=limit) == Limits(io=[limit]) == Limits(io=(limit,))
    assert pickle.loads(pickle.dumps(Limits(io=limit))) == Limits(io=limit)


@pytest.mark.parametrize(
    ("device", "rates"),
    [
        ("sda", {}),
        ("", {}),
        ("8", {}),
        ("8:0 1", {}),
        ("/dev/s\nda", {}),
        ("8:0", {"read_bps": 0}),
        ("8:0", {"read_bps": "x"}),
        ("8:0", {"write_iops": -1}),
        ("8:0", {"write_iops": True}),
    ],
)
def test_rates_without_meaning(device: str, rates: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        IoLimit(device, **rates)  # type: ignore[arg-type]
