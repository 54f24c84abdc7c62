"""Which ids a container's own user namespace has, beneath another."""

from __future__ import annotations

import attrs
import pytest

from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch.execute import ExecBase, ExecRequest, exec_plan
from containerkit.launch.ops import F_AS_IS, Code
from containerkit.launch.request import Ids
from containerkit.launch.userns import ids_of
from containerkit.model.idmap import IdMap
from containerkit.model.limits import UNLIMITED
from containerkit.model.mount import Mount
from containerkit.model.options import ContainerOptions
from containerkit.model.security import Security
from tests.unit.launch.plans import BARE, GROUP, ID, IMAGE, PASSWD, compiled, step, steps

AUTO = Security(userns="auto")
MANY = Ids(((0, 1), (1, 65536)), ((0, 1), (1, 65536)))
ONE = Ids(((0, 1),), ((0, 1),))
STRICT: ContainerOptions = {"security": Security.strict(), "limits": UNLIMITED}


@pytest.mark.parametrize(
    ("within", "uids", "gids"),
    [
        (MANY, ((1, 1, 65536),), ((1, 1, 65536),)),
        (ONE, ((0, 0, 1),), ((0, 0, 1),)),
        (Ids(((0, 65536),), ((0, 65536),)), ((1, 1, 65535),), ((1, 1, 65535),)),
        (Ids(((0, 5), (9, 2)), ((0, 1),)), ((1, 1, 4), (9, 9, 2)), ((0, 0, 1),)),
    ],
)
def test_all_but_the_callers(
    within: Ids, uids: tuple[tuple[int, int, int], ...], gids: tuple[tuple[int, int, int], ...]
) -> None:
    assert ids_of(AUTO, None, within) == IdMap(uids, gids)


def test_what_is_chosen_elsewhere() -> None:
    chosen = IdMap.of_range(1 << 30)
    assert ids_of(AUTO, chosen, None) == chosen
    assert ids_of(Security(), chosen, None) is None
    assert ids_of(Security(), None, MANY) is None
    asked = Security(userns=IdMap([(0, 1000, 1), (1, 100000, 9)]))
    assert ids_of(asked, None, None) == asked.userns
    assert ids_of(asked, None, MANY) == IdMap([(0, 0, 1), (1, 1, 9)])
    with pytest.raises(ConfigError):
        ids_of(AUTO, None, None)


def test_nothing_is_shown_with_other_ids() -> None:
    options: ContainerOptions = {**STRICT, "mounts": [Mount.bind("/data", "/data")]}
    plan = compiled(options, facts=attrs.evolve(BARE, ids=MANY))
    assert step(plan, Code.ID_MAP).flags & F_AS_IS
    assert all(op.flags & F_AS_IS for op in steps(plan, Code.SOURCE))
    assert step(plan, Code.ROOT).value == (0, 0)


@pytest.mark.parametrize(("within", "who"), [(MANY, (65534, 65534)), (ONE, (0, 0))])
def test_who_strict_is(within: Ids, who: tuple[int, int]) -> None:
    facts = attrs.evolve(BARE, ids=within)
    assert step(compiled(STRICT, facts=facts), Code.IDS).value == who
    base = ExecBase(ID, IMAGE, STRICT, facts, PASSWD, GROUP)
    assert step(exec_plan(base, ExecRequest(["id"])), Code.IDS).value == who


def test_nobody_is_the_caller_where_there_are_others() -> None:
    facts = attrs.evolve(BARE, ids=MANY)
    options: ContainerOptions = {"security": AUTO}
    for user in (0, "1000:0"):
        with pytest.raises(MissingFeature, match="who runs this program"):
            compiled({**options, "user": user}, facts=facts)
        base = ExecBase(ID, IMAGE, STRICT, facts, PASSWD, GROUP)
        with pytest.raises(MissingFeature, match="who runs this program"):
            exec_plan(base, ExecRequest(["id"], user=user))
    with pytest.raises(MissingFeature, match="there is none such"):
        compiled({**options, "user": "70000:70000"}, facts=facts)
