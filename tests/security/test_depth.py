"""Trees that are deeper than a path can be long: what a layer makes of links upon links, and a
container by going into what it has made.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import containerkit as ck
from tests.security.stranger import Stranger
from tests.support import ocibuild

LONG = "/".join(["n" * 250] * 16)
"""A path of almost 4096 bytes: below a root it is longer."""


def test_a_root_with_a_layer_of_long_paths_is_cared_for(engine_root: Path) -> None:
    tar = ocibuild.tar(
        [
            (LONG, None),
            (f"{LONG}/f", b"x" * 10_000),
            ("l", ocibuild.symlink(LONG)),
            (f"l/{LONG[:2500]}", None),
            (f"l/{LONG[:2500]}/g", b"y"),
        ],
        parents=False,
    )
    with Stranger() as registry, ck.Engine.open(engine_root) as engine:
        image = engine.images.pull(registry.has(ocibuild.image([ocibuild.layer(tar)])))
        [layer] = [path for path in (engine_root / "layers").iterdir() if path.name[0] != "."]
        with pytest.raises(OSError, match="too long"):  # the control
            os.stat(f"{layer}/{LONG}/f")
        report = engine.check()
        assert report.ok, str(report)
        assert report.trees == 1
        assert engine.disk_usage().layers.size >= 10_000
        image.remove()
        assert not layer.exists()


def test_a_changed_file_at_the_end_of_a_long_path_is_found(engine_root: Path) -> None:
    tar = ocibuild.tar([(LONG, None), (f"{LONG}/f", b"x")], parents=False)
    with Stranger() as registry, ck.Engine.open(engine_root) as engine:
        engine.images.pull(registry.has(ocibuild.image([ocibuild.layer(tar)])))
        [layer] = [path for path in (engine_root / "layers").iterdir() if path.name[0] != "."]
        fd = os.open(layer, os.O_RDONLY)
        try:
            there = os.open(f"{LONG}/f", os.O_WRONLY | os.O_APPEND, dir_fd=fd)
            os.write(there, b"!")
            os.close(there)
        finally:
            os.close(fd)
        [problem] = engine.check().problems
        assert problem.kind == "changed tree"
        assert problem.detail.endswith("2 bytes instead of 1")


def test_what_a_container_nests_is_counted(engine: ck.Engine, busybox: str) -> None:
    """For ever deeper: it neither ends the counting nor leads it out of the container."""
    nest = (
        f"p={LONG[:3800]}; mkdir -p /a/$p /b/$p && mv /b /a/$p/ &&"
        " mkdir -p /$(yes d/ | head -n 700 | tr -d '\\n') && ln -s /proc /out &&"
        " echo nested && exec sleep 1000"
    )
    with engine.start(busybox, ["sh", "-c", nest], ready=ck.Ready(log="nested")) as box:
        assert engine.disk_usage().containers.size > 0
        box.remove(force=True)
    assert engine.disk_usage().containers.count == 0
