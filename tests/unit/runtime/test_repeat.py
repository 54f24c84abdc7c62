"""A repeated start's plan is the one that a compilation of its own would give."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import containerkit as ck
from containerkit.launch.compile import compile_plan
from containerkit.launch.request import HostFacts, LaunchRequest
from containerkit.model.image_config import ImageConfig
from containerkit.model.options import ContainerOptions
from containerkit.model.rootfs import Overlay, Rootfs
from containerkit.runtime.repeat import STAND_IN, Repeats, key_of

CONFIG = ImageConfig.parse(
    b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
)
ROOTFS = Rootfs((Overlay("/", ("layers/" + "ab" * 32,)),))
IMAGE: Any = SimpleNamespace(digest="sha256:" + "cd" * 32, config=CONFIG, _rootfs=ROOTFS)
STREAMS = ("stdout", "stderr")
NEW = "0123456789abcdef" * 4

PURE: list[ContainerOptions] = [
    {},
    {"network": "none", "env": {"A": "b", "C": None}},
    {"hostname": "box", "user": "1:2", "workdir": "/srv"},
    {"limits": ck.Limits(pids=7), "security": ck.Security(read_only=True)},
]


def compiled(identity: str, options: ContainerOptions) -> Any:
    request = LaunchRequest(
        id=identity,
        image=CONFIG,
        rootfs=ROOTFS,
        command=["true"],
        options=options,
        streams=STREAMS,
    )
    facts = HostFacts(cgroup="v1", controllers=frozenset({"pids"}))
    return compile_plan(request, facts)


@pytest.mark.parametrize("options", PURE)
def test_bytes_are_those_of_a_compilation(options: ContainerOptions) -> None:
    repeats = Repeats()
    key = key_of(IMAGE, ["true"], options, STREAMS)
    assert key is not None
    repeats.remember(key, compiled(STAND_IN, options))
    found = repeats.find(key, NEW)
    assert found is not None
    assert found[1] == compiled(NEW, options).encode()


@pytest.mark.parametrize(
    "options",
    [
        {"mounts": [ck.Mount.tmpfs("/x")]},
        {"secrets": {"a": "b"}},
        {"network": "host"},
        {"entrypoint": ["unhashable"]},
    ],
)
def test_what_looks_further_than_its_request_is_not_remembered(options: ContainerOptions) -> None:
    assert key_of(IMAGE, ["true"], options, STREAMS) is None


def test_requests_that_differ_have_keys_that_differ() -> None:
    keys = [key_of(IMAGE, ["true"], options, STREAMS) for options in PURE]
    keys += [
        key_of(IMAGE, "true", {}, STREAMS),
        key_of(IMAGE, None, {}, STREAMS),
        key_of(IMAGE, ["true"], {}, ("stdin", *STREAMS)),
        key_of(IMAGE, ["true"], {"env": {"A": "c"}}, STREAMS),
    ]
    assert len(set(keys)) == len(keys)


def test_values_that_are_equal_but_of_another_kind_are_told_apart() -> None:
    """What a compilation refuses must not pass because something equal to it was started."""
    wrong: Any = {"user": False}
    assert key_of(IMAGE, ["true"], {"user": 0}, STREAMS) != key_of(IMAGE, ["true"], wrong, STREAMS)


def test_a_caller_that_changes_its_dictionary_changes_nothing_here() -> None:
    env: dict[str, str | None] = {"A": "1"}
    before = key_of(IMAGE, ["true"], {"env": env}, STREAMS)
    env["A"] = "2"
    assert key_of(IMAGE, ["true"], {"env": env}, STREAMS) != before


def test_only_so_many_are_kept() -> None:
    repeats = Repeats()
    plan = compiled(STAND_IN, {})
    for number in range(200):
        repeats.remember(number, plan)
    assert repeats.find(199, NEW) is not None
    assert repeats.find(0, NEW) is None
