"""A running container, the way to its files, and files of the host that nothing may reach."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import pytest

import containerkit as ck
from containerkit._native import path_open
from containerkit.runtime import hands
from containerkit.runtime.files import Files
from tests.support import ocibuild
from tests.support.registry import RegistryServer

LOWER: dict[str, ocibuild.Content] = {
    "data/file": "one",
    "data/other": "two",
    "data/gone-above": "x",
    "data/sub/deep": "three",
    "data/sub/er/deepest": "four",
    "data/link": ocibuild.symlink("file"),
    "data/both": "kept",
    "opaque/below": "hidden by the layer above",
    "empty/keep": "",
}
UPPER: dict[str, ocibuild.Content] = {
    "data/.wh.gone-above": "",
    "data/both": "of the upper layer",
    "opaque/.wh..wh..opq": "",
    "opaque/above": "shown",
}


@pytest.fixture
def box(engine: ck.Engine, busybox: str) -> Iterator[ck.Container]:
    """A running container with a shell and nothing to do."""
    with engine.start(busybox, ["sleep", "100000"]) as one:
        yield one


@pytest.fixture
def files(box: ck.Container) -> Files:
    """The files of that container."""
    return box.files


@pytest.fixture(params=["openat2", "walk"])
def resolved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Paths as this kernel resolves them, and as one without openat2(2) is made to."""
    if request.param == "walk":
        monkeypatch.setattr(hands, "path_open", partial(path_open, openat2=False))
    return str(request.param)


@pytest.fixture(scope="session")
def layered(registry: RegistryServer) -> str:
    """An image of layers that hide things of each other, above one with a shell."""
    shell = ocibuild.busybox()
    [blob] = [data for digest, data in shell.blobs.items() if digest in layers_of(shell)]
    [diff_id] = json.loads(shell.blobs[shell.document["config"]["digest"]])["rootfs"]["diff_ids"]
    image = ocibuild.image(
        [ocibuild.Layer(blob, diff_id), LOWER, UPPER],
        config={"Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/"},
    )
    return registry.push("test/layered:latest", image)


def layers_of(image: ocibuild.Image) -> list[str]:
    return [layer["digest"] for layer in image.document["layers"]]
