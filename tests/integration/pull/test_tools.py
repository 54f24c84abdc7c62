"""Images that other tools made and pushed come here as those tools see them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import ocibuild
from tests.support.registry import RegistryServer
from tests.support.store import Store, tree

FILES: dict[str, ocibuild.Content] = {
    "bin/tool": ocibuild.program("#!/bin/sh\n"),
    "etc/empty": None,
    "etc/link": ocibuild.symlink("../bin/tool"),
    "etc/twin": ocibuild.hardlink("bin/tool"),
    "home/big": bytes(range(256)) * 4000,
    "tmp": ocibuild.directory(0o1777),
}


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize(
    "options",
    [
        ("--format", "oci"),
        ("--format", "v2s2"),
        ("--format", "oci", "--dest-compress-format", "zstd"),
        ("--format", "oci", "--dest-compress", "--dest-compress-level", "9"),
    ],
    ids=" ".join,
)
def test_what_skopeo_pushed(
    store: Store, registry: RegistryServer, tmp_path: Path, options: tuple[str, ...]
) -> None:
    layout = ocibuild.write_layout(
        tmp_path / "layout", {"one": ocibuild.image([FILES], compression="none")}
    )
    reference = f"{registry.host}/tools/skopeo:{'-'.join(options).replace('--', '')}"
    copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", *options]
    subprocess.run([*copy, f"oci:{layout}:one", f"docker://{reference}"], check=True)
    image = store.images.pull(reference)
    found = tree(store.snapshots.path(image._chain_ids[0]))
    assert found["home/big"] == ("-", 0o644, FILES["home/big"])
    assert found["etc/twin"] == found["bin/tool"] == ("-", 0o755, b"#!/bin/sh\n")
    assert found["etc/link"][2] == b"../bin/tool"
    assert found["tmp"] == ("d", 0o1777, b"")


@pytest.mark.needs("owners")
@pytest.mark.needs("skopeo", "umoci")
def test_an_image_that_umoci_made_is_the_tree_that_umoci_unpacks(
    store: Store, registry: RegistryServer, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    content = tmp_path / "content"
    (content / "deep/er").mkdir(parents=True)
    (content / "deep/er/file").write_bytes(b"x" * 100_000)
    (content / "deep/link").symlink_to("er/file")
    (content / "odd name\n\N{SNOWMAN}").touch(mode=0o600)
    commands: list[list[str | Path]] = [
        ["umoci", "init", "--layout", layout],
        ["umoci", "new", "--image", f"{layout}:one"],
        ["umoci", "insert", "--image", f"{layout}:one", content, "/data"],
        ["umoci", "unpack", "--image", f"{layout}:one", tmp_path / "bundle"],
    ]
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    reference = f"{registry.host}/tools/umoci:one"
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--dest-tls-verify=false"]
        + [f"oci:{layout}:one", f"docker://{reference}"],
        check=True,
    )
    image = store.images.pull(reference)
    (chain_id,) = image._chain_ids
    assert tree(store.snapshots.path(chain_id)) == tree(tmp_path / "bundle/rootfs")
