"""An image full of attacks, and the presets that they are tried against.

What a test of a threat does: start a container from `hostile` with `security`, run a program of
`attacks/` (or of busybox) in it, and see that it got nothing; then the same in a control, a container
without that one defence (an option, or `plans`), and see that there it does get something.
"""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from pathlib import Path

import attrs
import pytest

import containerkit as ck
from containerkit.errors import MissingFeature
from containerkit.launch import presets
from tests.rootless import user
from tests.support import ocibuild
from tests.support.registry import RegistryServer

SOURCES = Path(__file__).parent / "attacks"

PRESETS = {"default": ck.Security.default, "strict": ck.Security.strict}


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """Skip what an ordinary user can not have: a container with an id that there is not, or is its own."""
    try:
        return (yield)
    except MissingFeature as error:
        if not user.is_ours() or error.feature not in {"subordinate ids", "userns"}:
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def attacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the attack programs: static, one for each source."""
    folder = tmp_path_factory.mktemp("attacks")
    flags = ["-D_GNU_SOURCE", "-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror"]
    compilers = [
        subprocess.Popen(["cc", *flags, "-o", folder / source.stem, source])
        for source in sorted(SOURCES.glob("*.c"))
    ]
    assert [compiler.wait() for compiler in compilers] == [0] * len(compilers)
    return folder


@pytest.fixture(scope="session")
def hostile(registry: RegistryServer, attacks: Path) -> str:
    """The name of a busybox image with the attacks as ``/attacks/NAME``."""
    files = {f"attacks/{one.name}": ocibuild.program(one.read_bytes()) for one in attacks.iterdir()}
    return registry.push("test/hostile:latest", ocibuild.busybox(files))


@pytest.fixture(params=list(PRESETS))
def security(
    request: pytest.FixtureRequest,
    engine: ck.Engine,
    hostile: str,
    monkeypatch: pytest.MonkeyPatch,
) -> ck.Security:
    """Each preset that is to hold against the attack.

    Whether strict can be had is found out by trying.  Where only its limits can not, as an ordinary
    user without control groups, it has none here: the attacks are on all else.
    """
    chosen = PRESETS[request.param]()
    try:
        engine.plan(hostile, ["true"], security=chosen)
    except MissingFeature as error:
        if not str(error.feature).startswith("cgroup "):
            pytest.skip(str(error))
        none = attrs.evolve(
            presets.STRICT,
            memory=ck.UNLIMITED,
            memory_swap=None,
            cpus=ck.UNLIMITED,
            pids=ck.UNLIMITED,
            ulimits={name: (soft, hard) for name, soft, hard in presets.STRICT.ulimits},
        )
        monkeypatch.setattr(presets, "STRICT", none)
    return chosen
