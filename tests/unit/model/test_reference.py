"""Image names: defaults, spelling, refusals."""

from __future__ import annotations

import pytest

from containerkit.errors import InvalidReference
from containerkit.model.digest import Digest
from containerkit.model.reference import Reference

DIGEST = "sha256:" + "c" * 64


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("index.docker.io/user/app:1", "docker.io/user/app:1", "user/app:1"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("docker.io/foo.bar/baz", "docker.io/foo.bar/baz:latest", "docker.io/foo.bar/baz:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("myhost:5000/a/b", "myhost:5000/a/b:latest", "myhost:5000/a/b:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("[2001:db8::1]/app", "[2001:db8::1]/app:latest", "[2001:db8::1]/app:latest"),
        (
            "192.168.1.2/a__b/c-d.e",
            "192.168.1.2/a__b/c-d.e:latest",
            "192.168.1.2/a__b/c-d.e:latest",
        ),
        (f"quay.io/app@{DIGEST}", f"quay.io/app@{DIGEST}", f"quay.io/app@{DIGEST}"),
        (f"app:1@{DIGEST}", f"docker.io/library/app:1@{DIGEST}", f"app:1@{DIGEST}"),
    ],
)
def test_defaults_and_spelling(text: str, canonical: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert (str(reference), reference.familiar) == (canonical, familiar)
    assert Reference.parse(canonical) == Reference.parse(familiar) == reference


def test_parts() -> None:
    reference = Reference.parse(f"reg.example:443/team/app:v1@{DIGEST}")
    assert reference == Reference("reg.example:443", "team/app", "v1", Digest.parse(DIGEST))
    assert reference.name == "reg.example:443/team/app"


def test_a_digest_takes_no_default_tag() -> None:
    assert Reference.parse(f"app@{DIGEST}").tag is None
    assert Reference.parse("app", default_tag=None).tag is None


def test_pin_and_retag() -> None:
    reference = Reference.parse("app:1")
    assert str(reference.with_digest(Digest.parse(DIGEST))).endswith(f"app:1@{DIGEST}")
    assert reference.with_tag("2").tag == "2"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Alpine",
        "a" * 64,
        "app:",
        "app@",
        "app:-x",
        "app:" + "t" * 129,
        "app@sha256:abc",
        f"app@{DIGEST}@{DIGEST}",
        "a//b",
        "/a",
        "a/",
        "../../etc",
        "a/../b",
        ":5",
        "x:y:z",
        "a b",
        "app\n",
        "app:1\n",
        "-a",
        "a-",
        "a..b",
        "a___b",
        "http://host/app",
        "user@host/app",
        "host.example:0/app",
        "host.example:65536/app",
        "host.example:/app",
        "[::1/app",
        "[::g]:5/app",
        "[::1]x/app",
        "-host.example/app",
        "exa\u0301mple.com/app",
        "r.example/" + "a" * 256,
        "r.example/" + "a" * 2000,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference, match="cannot read reference") as caught:
        Reference.parse(text)
    assert len(str(caught.value)) < 500
    assert "repository[:tag]" in str(caught.value)


def test_values_made_by_hand_are_checked_too() -> None:
    assert Reference("docker.io", "alpine") == Reference("docker.io", "library/alpine")
    for registry, repository, tag in [("word", "a", None), ("r.io", "A", None), ("r.io", "a", "/")]:
        with pytest.raises(InvalidReference):
            Reference(registry, repository, tag)
