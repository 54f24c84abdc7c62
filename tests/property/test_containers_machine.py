"""The containers of a root against a dict: created, renamed, removed, found, over reopenings.

Without a kernel behind it: what is compiled is not started, and launchers are names in a file.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from containerkit.errors import AlreadyExists, ConfigError, ContainerNotFound, InvalidStatus
from containerkit.images.wiring import Stores
from containerkit.model.image_config import ImageConfig
from containerkit.model.rootfs import Overlay, Rootfs
from containerkit.runtime import birth, marks
from containerkit.runtime.containers import Containers
from containerkit.runtime.idranges import Ranges
from containerkit.runtime.keeper import Keeper
from containerkit.runtime.lowers import Lowers
from containerkit.runtime.records import Row
from containerkit.runtime.recover import recover, write_record
from containerkit.state.lock import FileLock
from containerkit.state.root import StoreRoot

NAMES = st.sampled_from(["x", "y", "web-1", "0", "f00d", "bad name", ""])


class FakeImage:
    """An image that is never started."""

    digest = f"sha256:{'1' * 64}"
    config = ImageConfig(labels={"from": "image"})
    _rootfs = Rootfs((Overlay("/", ("layers/a",)),))
    chain_ids = (f"sha256:{'2' * 64}",)


class FakeLauncher:
    """A launcher by its record alone."""

    def __init__(self, root: Path) -> None:
        self.id = os.urandom(12).hex()
        self.record: FileLock = write_record(root, self.id, ())


class FakeRunner:
    """Compiles nothing; its launcher dies when it is told to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._launcher = FakeLauncher(root)
        self.lowers = Lowers(root, copied=False)

    def launcher(self) -> tuple[Any, Any]:
        return self._launcher, None

    def compile(self, *_args: object, **_options: object) -> tuple[str, Any]:
        return "", None

    def shape_of(self, *_: object) -> None:
        return None

    def ranges(self) -> Ranges:
        return Ranges(self.root, self._launcher.id)

    def die(self) -> None:
        self._launcher.record.release()


def no_pickles(_root: str, _identity: str) -> None:
    raise AssertionError


class Machine(RuleBasedStateMachine):
    """The model: name → (id, whether it is detached)."""

    containers = Bundle("containers")

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="ck-test-"))
        self.model: dict[str, tuple[str, bool]] = {}
        self.gone: set[str] = set()
        self.open()

    def open(self) -> None:
        root = StoreRoot.open(self.path / "root")
        recover(root.path)
        self.stores = Stores(root)
        self.runner = FakeRunner(root.path)
        runner: Any = self.runner
        self.keeper = Keeper(runner, self.stores, reopen=no_pickles)
        find: Any = None
        self.all = Containers(self.keeper, find)

    def name_of(self, identity: str) -> str | None:
        return next((name for name, (known, _) in self.model.items() if known == identity), None)

    @rule(target=containers, name=st.none() | NAMES, detached=st.booleans())
    def create(self, name: str | None, detached: bool) -> str:
        options: Any = {"lifetime": "detached" if detached else "owner", "labels": {"own": "1"}}
        if name is not None:
            options["name"] = name
        try:
            born = birth.create(
                self.keeper, FakeImage(), "image", ["true"], options, identity=birth.new_id()
            )
        except AlreadyExists:
            assert name in self.model
            return ""
        except ConfigError:
            assert name in ("bad name", "")
            return ""
        assert born.row.name not in self.model
        assert name in (None, born.row.name)
        self.model[born.row.name] = born.row.id, detached
        return born.row.id

    @rule(identity=containers, name=NAMES)
    def rename(self, identity: str, name: str) -> None:
        if not identity:
            return
        old = self.name_of(identity)
        handle = self.all._handle(identity)
        try:
            handle.rename(name)
        except ConfigError:
            assert name in ("bad name", "")
        except AlreadyExists:
            assert name in self.model
            assert name != old
        except InvalidStatus:
            assert old is None
        else:
            assert old is not None
            self.model[name] = self.model.pop(old)

    @rule(identity=consumes(containers))
    def remove(self, identity: str) -> None:
        if identity:
            self.all._handle(identity).remove()
            self.model.pop(self.name_of(identity) or "", None)

    @rule(identity=containers, step=st.integers(0, 2))
    def die_while_removing(self, identity: str, step: int) -> None:
        """A remover that is killed after its first steps."""
        name = self.name_of(identity)
        if name is None:
            return
        marks.drop(self.keeper.directory(identity))
        if step > 0:
            self.keeper.records.forget([identity])
        if step > 1:
            (self.keeper.directory(identity) / "lock").unlink()
        del self.model[name]

    @rule(step=st.integers(0, 2), name=NAMES.filter(lambda name: name not in ("bad name", "")))
    def die_while_creating(self, step: int, name: str) -> None:
        """A creator that is killed before its last step."""
        identity = os.urandom(32).hex()
        directory = self.keeper.directory(identity)
        directory.mkdir()
        if step > 0:
            (directory / "lock").touch()
        if step > 1 and name not in self.model:
            row = Row(identity, name, "", "", 1, "owner", "", None, "{}", "{}")
            birth._insert(self.keeper, row, (), durable=False, named=True)

    @rule(killed=st.booleans())
    def reopen(self, killed: bool) -> None:
        """The process ends, or is killed; what was its own goes with it."""
        if not killed:
            self.keeper.close()
            self.stores.close()
        self.runner.die()
        self.model = {name: one for name, one in self.model.items() if one[1]}
        self.open()
        names = [name for name in os.listdir(self.keeper.root / "containers") if name[0] != "."]
        assert sorted(names) == sorted(identity for identity, _ in self.model.values())

    @invariant()
    def the_root_is_as_the_model(self) -> None:
        found = {one.name: one.id for one in self.all.list()}
        assert found == {name: identity for name, (identity, _) in self.model.items()}
        for name, (identity, detached) in self.model.items():
            one = self.all.get(name)
            assert (one.id, one.status, one.name) == (identity, "created", name)
            assert one.labels == {"from": "image", "own": "1"}
            assert self.all.get(identity) == one
            assert (one in self.all.list(lifetime="detached")) == detached
        for name in ("x", "nothing"):
            if name not in self.model:
                with pytest.raises(ContainerNotFound):
                    self.all.get(name)

    def teardown(self) -> None:
        self.runner.die()
        self.stores.close()
        shutil.rmtree(self.path)


TestContainers = Machine.TestCase
TestContainers.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
