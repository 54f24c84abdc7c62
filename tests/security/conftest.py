"""An image full of attacks, and the presets that they are tried against.

What a test of a threat does: start a container from `hostile` with `security`, run a program of
`attacks/` (or of busybox) in it, and see that it got nothing; then the same in a control, a container
without that one defence (an option, or `plans`), and see that there it does get something.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import MissingFeature
from tests.support import ocibuild
from tests.support.registry import RegistryServer

SOURCES = Path(__file__).parent / "attacks"

PRESETS = {"default": ck.Security.default, "strict": ck.Security.strict}


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
def security(request: pytest.FixtureRequest, engine: ck.Engine, hostile: str) -> ck.Security:
    """Each preset that is to hold against the attack."""
    chosen = PRESETS[request.param]()
    try:
        engine.plan(hostile, ["true"], security=chosen)
    except MissingFeature as error:
        pytest.skip(str(error))
    return chosen
