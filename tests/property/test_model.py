"""Models under arbitrary input: round trips hold, and parsers end in a value or a typed error."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from containerkit.errors import ConfigError, ImageNotFound, InvalidReference, InvalidSpec
from containerkit.model.digest import Digest, chain_ids
from containerkit.model.image_config import ImageConfig
from containerkit.model.manifest import Index, parse_manifest
from containerkit.model.platform import Platform
from containerkit.model.reference import Reference

digests = st.binary(max_size=8).map(Digest.of)
registries = st.one_of(
    st.just("docker.io"),
    st.from_regex(r"[a-z0-9]{1,8}\.[a-z]{2,3}(:[1-9][0-9]{0,3})?", fullmatch=True),
    st.from_regex(r"localhost(:[1-9][0-9]{0,3})?", fullmatch=True),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]:5000"),
)
repositories = st.from_regex(
    r"[a-z0-9]{1,6}([._]|__|-{1,3})?[a-z0-9]{1,3}(/[a-z0-9.]{0,3}[a-z0-9])?", fullmatch=True
)
tags = st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(registries, repositories, tags, st.none() | digests)
def test_a_reference_round_trips(
    registry: str, repository: str, tag: str | None, digest: Digest | None
) -> None:
    try:
        reference = Reference(registry, repository, tag, digest)
    except InvalidReference:
        return
    assert Reference.parse(str(reference), default_tag=None) == reference
    assert Reference.parse(reference.familiar, default_tag=None) == reference
    assert len(reference.familiar) <= len(str(reference))


@given(st.text(max_size=200) | st.text(alphabet="abAB0.:/@[]-_", max_size=40))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(str(reference)) == reference
    assert not {"..", ".", ""} & set(reference.repository.split("/"))


@given(st.text(max_size=120))
def test_any_text_is_a_digest_or_refused(text: str) -> None:
    try:
        digest = Digest.parse(text)
    except InvalidSpec:
        return
    assert str(digest) == text


@given(st.lists(digests, max_size=6))
def test_a_chain_id_depends_on_all_layers_below(layers: list[Digest]) -> None:
    chain = chain_ids(layers)
    assert len(chain) == len(layers)
    assert all(chain_ids(layers[: n + 1])[-1] == chain[n] for n in range(len(layers)))


@given(st.text(max_size=60))
def test_any_text_is_a_platform_or_refused(text: str) -> None:
    try:
        platform = Platform.parse(text)
    except ConfigError:
        return
    assert Platform.parse(str(platform)) == platform
    assert platform.matches(platform)


MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": str(Digest.of(b"")),
        "size": 2,
    },
    "layers": [
        {
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": str(Digest.of(b"x")),
            "size": 9,
            "platform": {"os": "linux", "architecture": "arm", "variant": "v7"},
        }
    ],
}
INDEX = {
    "schemaVersion": 2,
    "manifests": [{**MANIFEST["layers"][0], "mediaType": MANIFEST["mediaType"]}],  # type: ignore[index]
}
CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2024-01-01T00:00:00Z",
    "config": {
        "Env": ["A=b"],
        "Cmd": ["x"],
        "User": "a",
        "Labels": {"a": "b"},
        "Healthcheck": {"Test": ["CMD", "x"], "Retries": 3},
        "Volumes": {"/x": {}},
    },
    "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(b""))]},
    "history": [{"created_by": "x", "empty_layer": True}],
}
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def paths(document: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value inside a document."""
    items: Any = ()
    if isinstance(document, dict):
        items = document.items()
    elif isinstance(document, list):
        items = enumerate(document)
    return [here, *(path for key, value in items for path in paths(value, (*here, key)))]


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return *document* with the value at *path* replaced."""
    if not path:
        return value
    copy = document.copy()
    copy[path[0]] = changed(document[path[0]], path[1:], value)
    return copy


def mutations(document: Any) -> st.SearchStrategy[Any]:
    return st.builds(changed, st.just(document), st.sampled_from(paths(document)), values)


@given(
    st.binary(max_size=200)
    | st.one_of(mutations(MANIFEST), mutations(INDEX)).map(lambda d: json.dumps(d).encode())
)
def test_any_bytes_are_a_manifest_or_refused(data: bytes) -> None:
    try:
        result = parse_manifest(data, None)
        if isinstance(result, Index):
            result.select(Platform.host())
    except (InvalidSpec, ConfigError, ImageNotFound):
        return
    hash(result)


@given(st.binary(max_size=200) | mutations(CONFIG).map(lambda d: json.dumps(d).encode()))
def test_any_bytes_are_an_image_config_or_refused(data: bytes) -> None:
    try:
        config = ImageConfig.parse(data)
    except InvalidSpec:
        return
    assert all("=" in entry for entry in config.env)
    hash(config.created)
