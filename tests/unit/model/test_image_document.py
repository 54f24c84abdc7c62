"""Configs and manifests that are written: what is read of them is what was meant."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerkit.errors import ConfigError
from containerkit.model.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor
from containerkit.model.digest import Digest
from containerkit.model.image_config import HistoryEntry, ImageConfig, ImageHealthcheck
from containerkit.model.image_document import encode_config, encode_manifest
from containerkit.model.manifest import Manifest, parse_manifest

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
TEXTS = st.lists(TEXT, max_size=4).map(tuple)
COUNT = st.none() | st.integers(1, 10**6)
TIME = st.none() | st.just("2024-01-01T00:00:00Z")
DIGESTS = st.binary(max_size=8).map(Digest.of)

CONFIGS = st.builds(
    ImageConfig,
    architecture=TEXT,
    os=st.just("linux"),
    variant=st.none() | st.just("v8"),
    created_text=TIME,
    entrypoint=TEXTS,
    cmd=TEXTS,
    env=st.lists(TEXT.map("NAME={}".format), max_size=3).map(tuple),
    workdir=TEXT,
    user=TEXT,
    shell=TEXTS,
    stop_signal=st.none() | st.just("SIGINT"),
    exposed_ports=st.lists(st.sampled_from(["80/tcp", "53/udp"]), unique=True).map(tuple),
    volumes=st.lists(st.sampled_from(["/a", "/b c"]), unique=True).map(tuple),
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    healthcheck=st.none()
    | st.builds(
        ImageHealthcheck,
        TEXTS.map(lambda words: ("CMD", *words)),
        *[COUNT] * 5,
    ),
    diff_ids=st.lists(DIGESTS, max_size=3).map(tuple),
    history=st.lists(
        st.builds(HistoryEntry, TIME, TEXT, TEXT, TEXT, st.booleans()), max_size=3
    ).map(tuple),
)


@given(CONFIGS, TEXT)
def test_a_config_comes_back(config: ImageConfig, author: str) -> None:
    data = encode_config(config, author=author)
    assert ImageConfig.parse(data) == config
    assert json.loads(data).get("author", "") == author


def test_a_text_that_is_none() -> None:
    with pytest.raises(ConfigError, match="not UTF-8") as refused:
        encode_config(ImageConfig(env=("A=secret\udcff",)))
    assert "secret" not in repr(refused.value)


def test_a_manifest_comes_back() -> None:
    config = Descriptor(OCI_CONFIG, Digest.of(b"config"), 6)
    kinds = {
        "application/vnd.docker.image.rootfs.diff.tar.gzip": "layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar": "layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+zstd": "layer.v1.tar+zstd",
    }
    layers = [Descriptor(kind, Digest.of(kind.encode()), 7) for kind in kinds]
    found = parse_manifest(encode_manifest(config, layers), OCI_MANIFEST)
    assert isinstance(found, Manifest)
    assert found.config == config
    assert [one.media_type for one in found.layers] == [
        f"application/vnd.oci.image.{kind}" for kind in kinds.values()
    ]
    assert [one.digest for one in found.layers] == [one.digest for one in layers]
