"""What an exec inherits of its container, what it may choose, and its plan as text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerkit.errors import ConfigError, InvalidSpec, MissingFeature
from containerkit.launch.capabilities import ALL_MASK, mask_of
from containerkit.launch.compile import compile_plan
from containerkit.launch.execute import ExecBase, ExecRequest, exec_plan
from containerkit.launch.ops import Code, Op
from containerkit.launch.plan import Plan
from containerkit.model.limits import Limits
from containerkit.model.options import ContainerOptions
from containerkit.model.security import DEFAULT_CAPABILITIES, Security
from tests.unit.launch.plans import GROUP, ID, IMAGE, NESTED, PASSWD, V1, request, step, steps

GOLDEN = Path(__file__).parent / "golden_exec"

BASE = ExecBase(ID, IMAGE, facts=V1, passwd=PASSWD, group=GROUP)
CHANGED: ContainerOptions = {
    "env": {"TOKEN": "hunter2", "LANG": None},
    "workdir": "/srv/work",
    "user": "app",
    "hostname": "box.example",
    "entrypoint": "/entry",
    "limits": Limits(ulimits={"nofile": (256, 512)}),
    "security": Security(capabilities={"NET_BIND_SERVICE"}, seccomp=bytes(16)),
}


def planned(
    command: Any = ("true",),
    *,
    options: ContainerOptions | None = None,
    base: ExecBase = BASE,
    **choices: Any,
) -> Plan:
    """The plan of an exec; it is valid, and survives its wire form."""
    base = attrs.evolve(base, options=options or ContainerOptions())
    plan = exec_plan(base, ExecRequest(command, **choices))
    plan.check()
    data = plan.encode()
    again = Plan.decode(data)
    assert (again.sections, again.kind) == (plan.sections, "exec")
    assert again.encode() == data
    return plan


CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "changed": {"options": CHANGED},
    "nested": {
        "base": ExecBase(ID, IMAGE, facts=NESTED, passwd=PASSWD, group=GROUP),
        "user": "app",
    },
    "privileged": {"options": CHANGED, "privileged": True, "user": 0, "streams": ()},
    "terminal": {"tty": True},
    "chosen": {"options": CHANGED, "env": {"LANG": "C"}, "workdir": "/", "user": "daemon:staff"},
}


@pytest.mark.parametrize("name", CASES)
def test_plan_as_text(name: str) -> None:
    text = planned(**CASES[name]).explain()
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("CK_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)


def test_it_is_marked_as_an_exec() -> None:
    plan = planned()
    assert (plan.kind, plan.namespaces, plan.prepare) == ("exec", 0, ())


def test_it_ends_as_the_container_itself_does() -> None:
    """The same user, limits, rights and environment as the container's first process."""
    codes = {Code.RLIMIT, Code.GROUPS, Code.IDS, Code.CAPS, Code.CHDIR, Code.SECCOMP}
    options: ContainerOptions = {**CHANGED, "entrypoint": ()}
    started = compile_plan(request(["true"], options), V1)
    executed = planned(["true"], options=options)
    for code in (*codes, Code.NO_NEW_PRIVS, Code.EXEC):
        assert steps(executed, code) == steps(started, code)


def test_a_text_goes_to_the_images_shell_and_past_the_entrypoint() -> None:
    image = attrs.evolve(IMAGE, shell=("/bin/bash", "-lc"), entrypoint=("/entry",))
    plan = planned("echo $HOME", base=attrs.evolve(BASE, image=image))
    assert step(plan, Code.EXEC).arena[1] == ("/bin/bash", "-lc", "echo $HOME")


def environment_of(plan: Plan) -> tuple[str, ...]:
    found = step(plan, Code.EXEC).arena[2]
    assert isinstance(found, tuple)
    return found


def test_its_environment_is_the_containers_with_changes() -> None:
    plan = planned(options=CHANGED, env={"TOKEN": None, "MORE": "1"})
    assert set(environment_of(plan)) == {
        "PATH=/usr/bin:/bin",
        "HOSTNAME=box.example",
        "HOME=/srv/app",
        "MORE=1",
    }


def test_home_is_the_users_own() -> None:
    assert "HOME=/root" in environment_of(planned(options=CHANGED, user="root"))
    given_home: ContainerOptions = {"env": {"HOME": "/given"}}
    assert "HOME=/given" in environment_of(planned(options=given_home, user="app"))


def test_a_user_of_its_own() -> None:
    plan = planned(user="app")
    assert step(plan, Code.IDS).value == (1000, 1000)
    assert step(plan, Code.CAPS).value == (mask_of(DEFAULT_CAPABILITIES), 0)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"user": "nobody-here"}, "no user"),
        ({"user": ""}, "empty"),
        ({"user": True}, "neither text nor a number"),
        ({"workdir": "relative"}, "workdir"),
        ({"workdir": 5}, "workdir has the wrong type"),
        ({"env": ["A=1"]}, "env has the wrong type"),
        ({"env": {"A=B": "1"}}, "not a variable"),
        ({"command": ()}, "no command"),
        ({"command": (1,)}, "not text"),
    ],
)
def test_what_means_nothing_is_refused(choices: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        planned(choices.pop("command", ("true",)), **choices)


def test_privileged_gives_what_the_host_can() -> None:
    base = attrs.evolve(BASE, privileges=ALL_MASK & ~1)
    plan = planned(base=base, options=CHANGED, privileged=True, user=0)
    assert step(plan, Code.CAPS).value == (ALL_MASK & ~1,) * 2
    assert not steps(plan, Code.SECCOMP) + steps(plan, Code.NO_NEW_PRIVS)


def test_capabilities_that_are_gone() -> None:
    base = attrs.evolve(BASE, facts=attrs.evolve(V1, capabilities=0))
    with pytest.raises(MissingFeature, match="NET_BIND_SERVICE"):
        planned(base=base, options=CHANGED)
    assert step(planned(base=base), Code.CAPS).value == (0, 0)


@pytest.mark.parametrize(
    "foreign",
    [
        Op(Code.HOSTNAME, arena=("a", None, None)),
        Op(Code.SYSCTL, arena=("a", "b", None)),
        Op(Code.PIVOT),
        Op(Code.MASK, arena=("/a", None, None)),
    ],
)
def test_no_step_that_changes_the_container(foreign: Op) -> None:
    plan = planned()
    changed = Plan(child=(foreign, *plan.child), namespaces=0, kind="exec", inputs=plan.inputs)
    with pytest.raises(InvalidSpec, match="exec"):
        changed.check()


def test_no_namespaces_of_its_own() -> None:
    plan = planned()
    changed = Plan(child=plan.child, namespaces=0x20000, kind="exec", inputs=plan.inputs)
    with pytest.raises(InvalidSpec, match="namespaces"):
        changed.check()


def test_what_is_asked_again_is_compiled_and_encoded_once() -> None:
    base = attrs.evolve(BASE)
    plan = exec_plan(base, ExecRequest(["true"], env={"A": "1"}))
    assert exec_plan(base, ExecRequest(("true",), env={"A": "1"})) is plan
    assert plan.encode() is plan.encode()


class _Path:
    def __init__(self, text: str) -> None:
        self.text = text

    def __fspath__(self) -> str:
        return self.text


def test_what_can_be_another_next_time_is_compiled_each_time() -> None:
    path = _Path("one")
    command: Any = ["true", path]
    before = exec_plan(BASE, ExecRequest(command))
    path.text = "two"
    assert argv(before) == ("true", "one")
    assert argv(exec_plan(BASE, ExecRequest(command))) == ("true", "two")
    assert argv(exec_plan(BASE, ExecRequest(iter(command)))) == ("true", "two")
    with pytest.raises(ConfigError, match="the value of 'A'"):
        exec_plan(BASE, ExecRequest("true", env={"A": ["1"]}))  # type: ignore[dict-item]


class _Odd(str):
    """A text that is another one as text."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return "odd"


def test_a_text_of_another_type_is_never_mistaken() -> None:
    base = attrs.evolve(BASE)
    for value in ("1", _Odd("1"), "1", _Odd("1")):
        plan = exec_plan(base, ExecRequest("true", env={"V": value}))
        said: Any = plan.child[-1].arena[2]
        assert f"V={value}" in said


class _Changing(dict[str, Any]):
    """An environment that somebody changes while it is read."""

    def items(self) -> Any:
        before = list(super().items())
        self["V"] = "new"
        return before


def test_what_changes_meanwhile_is_remembered_as_it_was() -> None:
    base = attrs.evolve(BASE)
    exec_plan(base, ExecRequest("true", env=_Changing(V="old")))
    assert "V=old" in str(exec_plan(base, ExecRequest("true", env={"V": "old"})).child[-1].arena)


def test_a_large_one_is_not_remembered() -> None:
    base = attrs.evolve(BASE)
    exec_plan(base, ExecRequest(["true", "x" * 20_000]))
    assert not base._plans


def argv(plan: Plan) -> Any:
    return plan.child[-1].arena[1]


WORDS = st.sampled_from(["true", "a b", "/x"])
REQUESTS = st.builds(
    ExecRequest,
    WORDS | st.lists(WORDS, min_size=1, max_size=2),
    st.none() | st.dictionaries(st.sampled_from(["A", "B"]), st.none() | WORDS),
    st.none() | st.just("/srv"),
    st.sampled_from([None, 0, "app"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), ("stdout", "stderr")]),
)


@given(st.lists(REQUESTS, max_size=20))
def test_what_was_asked_before_changes_no_plan(requests: list[ExecRequest]) -> None:
    base = attrs.evolve(BASE)
    for one in requests:
        assert exec_plan(base, one) == exec_plan(attrs.evolve(BASE), one)
    assert len(base._plans) <= 8


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(
    command=st.lists(TEXTS, min_size=1).filter(lambda words: bool(words[0])) | TEXTS,
    env=st.dictionaries(
        TEXTS.filter(lambda name: bool(name) and "=" not in name), TEXTS | st.none(), max_size=4
    ),
    user=st.sampled_from([None, 0, "app", "1000:50", "daemon"]),
    privileged=st.booleans(),
    streams=st.sampled_from([(), ("stdin", "stdout", "stderr"), ("stdout", "stderr")]),
)
def test_every_plan_is_valid_and_keeps_its_secrets(
    command: object, env: dict[str, str | None], user: object, privileged: bool, streams: object
) -> None:
    plan = planned(
        command, options=CHANGED, env=env, user=user, privileged=privileged, streams=streams
    )
    assert plan.child[-1].code == Code.EXEC
    assert "hunter2" not in plan.explain()
    assert plan.explain().replace("\n", "").isprintable()
