"""Manifests and indexes of strangers: read, or refused with a typed error that says why."""

from __future__ import annotations

import json
from typing import Any

import pytest

from containerkit.errors import ImageNotFound, InvalidSpec, UnsupportedMediaType
from containerkit.model import descriptor as types
from containerkit.model.digest import Digest
from containerkit.model.manifest import MAX_MANIFEST_SIZE, Index, Manifest, parse_manifest
from containerkit.model.platform import Platform

A, B, C = (str(Digest.of(text)) for text in (b"a", b"b", b"c"))


def entry(media_type: str, digest: object = A, size: object = 3, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def manifest(**changes: Any) -> dict[str, Any]:
    document = {
        "schemaVersion": 2,
        "mediaType": types.OCI_MANIFEST,
        "config": entry(types.OCI_CONFIG),
        "layers": [entry(types.OCI_LAYER + "+gzip", B, 10), entry(types.OCI_LAYER + "+zstd", C, 5)],
    }
    document.update(changes)
    return {name: value for name, value in document.items() if value is not None}


def index(*entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": types.OCI_INDEX,
        "manifests": list(entries),
        **changes,
    }


def image(platform: str | None, digest: str = A) -> dict[str, Any]:
    if platform is None:
        return entry(types.OCI_MANIFEST, digest)
    parts = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
    return entry(types.OCI_MANIFEST, digest, platform=parts)


def parse(document: object, media_type: str | None = None) -> Manifest | Index:
    return parse_manifest(json.dumps(document).encode(), media_type)


def parsed_index(*entries: dict[str, Any]) -> Index:
    result = parse(index(*entries))
    assert isinstance(result, Index)
    return result


def test_an_oci_manifest() -> None:
    result = parse(manifest(annotations={"a": "b"}), types.OCI_MANIFEST)
    assert isinstance(result, Manifest)
    assert str(result.config.digest) == A
    assert [layer.size for layer in result.layers] == [10, 5]
    assert (result.size, dict(result.annotations)) == (18, {"a": "b"})


def test_a_docker_manifest() -> None:
    document = manifest(
        mediaType=types.DOCKER_MANIFEST,
        config=entry(types.DOCKER_CONFIG),
        layers=[entry(types.DOCKER_LAYER + ".gzip")],
    )
    result = parse(document, types.DOCKER_MANIFEST + "; charset=utf-8")
    assert isinstance(result, Manifest)
    assert result.media_type == types.DOCKER_MANIFEST


@pytest.mark.parametrize("announced", [None, "application/json", "text/plain; charset=utf-8"])
def test_a_document_without_media_type_is_known_by_its_members(announced: str | None) -> None:
    result = parse(manifest(mediaType=None), announced)
    assert result.media_type == types.OCI_MANIFEST
    document = index(image("linux/amd64"))
    del document["mediaType"]
    assert parse(document, announced).media_type == types.OCI_INDEX


def test_embedded_data_and_unknown_members_are_not_looked_at() -> None:
    document = manifest(config=entry(types.OCI_CONFIG, data="!!!", strange=[1]), subject=7)
    assert isinstance(parse(document), Manifest)


@pytest.mark.parametrize(
    ("document", "announced", "says"),
    [
        ([], None, "not an object"),
        ({}, None, "config is missing"),
        (manifest(schemaVersion=3), None, "schemaVersion"),
        (manifest(schemaVersion="2"), None, "schemaVersion"),
        (manifest(manifests=[]), None, "at once"),
        (index(layers=[]), None, "at once"),
        (index(config=entry(types.OCI_CONFIG)), None, "at once"),
        (manifest(), types.OCI_INDEX, "calls itself"),
        (manifest(), types.DOCKER_MANIFEST, "calls itself"),
        (manifest(mediaType=types.OCI_INDEX), None, "members"),
        (index(mediaType=types.OCI_MANIFEST), None, "members"),
        (manifest(mediaType=None), types.OCI_INDEX, "members"),
        (manifest(Layers=[]), None, "unusual case"),
        (manifest(config=None), None, "config is missing"),
        (manifest(config=[]), None, "config is not an object"),
        (manifest(config={}), None, "missing"),
        (manifest(layers={}), None, "not a list"),
        (manifest(layers=["x"]), None, "not an object"),
        (manifest(layers=[entry(types.OCI_LAYER)] * 501), None, "more than 500"),
        (manifest(layers=[entry(types.OCI_LAYER, size=-1)]), None, "size"),
        (manifest(layers=[entry(types.OCI_LAYER, size=1.5)]), None, "size"),
        (manifest(layers=[entry(types.OCI_LAYER, size=True)]), None, "size"),
        (manifest(layers=[entry(types.OCI_LAYER, size=1 << 63)]), None, "size"),
        (manifest(layers=[entry(types.OCI_LAYER, digest="sha256:../x")]), None, "digest"),
        (manifest(layers=[entry(types.OCI_LAYER, digest=7)]), None, "digest is not text"),
        (manifest(config=entry(types.OCI_CONFIG, size=1 << 30)), None, "its config has"),
        (manifest(annotations={"a": 1}), None, "annotations"),
        (manifest(annotations={"a": "\0"}), None, "NUL"),
        (manifest(annotations={"a": "\ud800"}), None, "surrogate"),
        (
            index(entry(types.OCI_MANIFEST, platform={"os": "a b", "architecture": "c"})),
            None,
            "word",
        ),
        (index(*[image("linux/amd64")] * 2049), None, "more than 2048"),
    ],
)
def test_impossible_documents(document: object, announced: str | None, says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        parse(document, announced)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"schemaVersion": 1, "fsLayers": [], "history": []}, "schema 1"),
        (manifest(mediaType=types.DOCKER_SCHEMA_1[1]), "not supported"),
        (manifest(mediaType="application/vnd.cncf.helm"), "not supported"),
        (manifest(config=entry("application/vnd.cncf.helm.config.v1+json")), "artifact"),
        (manifest(layers=[entry(types.OCI_LAYER + "+xz")]), "gzip or zstd"),
        (
            manifest(layers=[entry("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")]),
            "not in the registry",
        ),
        (
            manifest(layers=[entry("application/vnd.oci.image.layer.nondistributable.v1.tar")]),
            "not in the registry",
        ),
    ],
)
def test_what_containerkit_does_not_read(document: object, says: str) -> None:
    with pytest.raises(UnsupportedMediaType, match=says) as caught:
        parse(document)
    assert caught.value.media_type


def test_schema_1_by_its_content_type_alone() -> None:
    with pytest.raises(UnsupportedMediaType, match="push the image again"):
        parse({"schemaVersion": 1}, types.DOCKER_SCHEMA_1[1])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff{}", "not UTF-8"),
        (b'\xef\xbb\xbf{"schemaVersion":2}', "not JSON"),
        (b'{"schemaVersion":2,"schemaVersion":2}', "twice"),
        (b'{"config":{"size":1,"size":2}}', "twice"),
        (b'{"schemaVersion":NaN}', "NaN"),
        (b'{"a":Infinity}', "Infinity"),
        (b'{"schemaVersion":' + b"9" * 5000 + b"}", "20 digits"),
        (b'{"a":' + b"[" * 100_000, "nests deeper"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nests deeper"),
        (b'{"a":[' + b"[]," * 500_000 + b"0]}", "too many values"),
        (b'{"' + b'\\"' * 500_000, "not JSON"),
        (b" " * (MAX_MANIFEST_SIZE + 1), "more than 4194304"),
    ],
)
def test_json_that_parsers_disagree_on(data: bytes, says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        parse_manifest(data, None)


def test_brackets_within_texts_are_not_nesting() -> None:
    document = manifest(annotations={"a": "[" * 1000 + '\\"' + "{" * 1000})
    assert isinstance(parse(document), Manifest)


def select(host: str, *there: str | None) -> int:
    """Return the position of the entry that *host* takes."""
    digests = [str(Digest.of(b"%d" % number)) for number in range(len(there))]
    entries = [image(*pair) for pair in zip(there, digests, strict=True)]
    chosen = parsed_index(*entries).select(Platform.parse(host))
    return digests.index(str(chosen.digest))


def test_selection_takes_the_best_fit() -> None:
    assert select("linux/amd64", "linux/arm64", "linux/amd64", "windows/amd64") == 1
    assert select("linux/arm/v7", "linux/arm/v5", "linux/arm/v6", "linux/arm64") == 1
    assert select("linux/arm64", "linux/arm/v7", "linux/arm64/v8") == 1
    assert select("linux/amd64", "linux/amd64", "linux/amd64") == 0
    assert select("linux/amd64", "linux/amd64/v3", "linux/amd64") == 1
    assert select("linux/amd64", None) == 0


def test_selection_says_what_there_is() -> None:
    entries = [image("linux/s390x"), image("linux/arm/v6"), image("unknown/unknown")]
    with pytest.raises(ImageNotFound, match=r"it has linux/arm/v6, linux/s390x; hint: .*platform="):
        parsed_index(*entries).select(Platform.parse("linux/amd64"), of="app:1")
    with pytest.raises(ImageNotFound, match="no platforms"):
        parsed_index().select(Platform.parse("linux/amd64"))


def test_attestations_are_never_selected() -> None:
    entries = [
        image("unknown/unknown"),
        entry("application/vnd.in-toto+json", B),
        image("linux/amd64", C),
    ]
    assert str(parsed_index(*entries).select(Platform.parse("linux/amd64")).digest) == C


def test_layer_compression() -> None:
    assert types.layer_compression(types.OCI_LAYER) == "none"
    assert types.layer_compression(types.DOCKER_LAYER + ".gzip") == "gzip"
    assert types.layer_compression(types.OCI_LAYER + "+zstd") == "zstd"


def test_values_keep_copies() -> None:
    notes = {"a": "b"}
    one = types.Descriptor("x/y", Digest.of(b""), 0, annotations=notes)
    notes["a"] = "c"
    assert one.annotations == {"a": "b"}
    assert hash(one) == hash(types.Descriptor("x/y", Digest.of(b""), 0, annotations={"a": "b"}))
