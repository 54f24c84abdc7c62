"""The rules of the distribution-spec that need no connection."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from containerkit.errors import (
    BlobNotFound,
    ImageNotFound,
    RateLimited,
    RegistryError,
    SizeMismatch,
    TransportError,
    Unauthorized,
)
from containerkit.model.descriptor import Descriptor
from containerkit.model.digest import Digest
from containerkit.model.reference import Reference
from containerkit.registry import protocol
from containerkit.registry.protocol import Origin

BLOB = Descriptor("application/octet-stream", Digest.of(b"x"), 100)


def bases(registry: str, insecure: bool | None = None, private_ca: bool = False) -> list[str]:
    found = protocol.origins(registry, insecure=insecure, private_ca=private_ca)
    return [origin.base + ("" if origin.verify else " unverified") for origin in found]


def test_docker_io_answers_elsewhere() -> None:
    assert bases("docker.io") == ["https://registry-1.docker.io"]


def test_plain_http_only_on_loopback_or_when_asked_for() -> None:
    assert bases("reg.example") == ["https://reg.example"]
    assert bases("10.0.0.1:5000") == ["https://10.0.0.1:5000"]
    assert bases("reg.example", True) == ["https://reg.example unverified", "http://reg.example"]
    for local in ("localhost:5000", "127.0.0.1:5000", "127.8.8.8", "[::1]:5000", "a.localhost"):
        assert bases(local) == [f"http://{local}", f"https://{local}"]
        assert bases(local, False) == [f"https://{local}"]
        assert bases(local, None, True) == [f"https://{local}"]
    assert bases("reg.example", True, True) == ["https://reg.example"]


@pytest.mark.parametrize("name", ["localhost.example", "127.0.0.1.example", "xlocalhost", "::2"])
def test_names_that_only_look_local(name: str) -> None:
    assert not protocol.is_loopback(name)


def test_paths() -> None:
    digest = Digest.of(b"m")
    reference = Reference.parse("reg.example/team/app:v1")
    assert protocol.manifest_path(reference) == "/v2/team/app/manifests/v1"
    assert protocol.manifest_path(reference.with_digest(digest)).endswith(f"/manifests/{digest}")
    assert protocol.blob_path(reference, BLOB) == f"/v2/team/app/blobs/{BLOB.digest}"


@pytest.mark.parametrize(
    ("status", "headers", "asked", "granted"),
    [
        (200, {}, 0, 0),
        (200, {"Content-Length": "100"}, 40, 0),
        (200, {"Content-Length": "strange"}, 0, 0),
        (206, {"Content-Range": "bytes 40-99/100", "Content-Length": "60"}, 40, 40),
        (206, {"Content-Range": "bytes 40-99/*"}, 40, 40),
        (206, {"Content-Range": "bytes 40-49/100", "Content-Length": "10"}, 40, 40),
    ],
)
def test_ranges_that_are_granted(
    status: int, headers: Mapping[str, str], asked: int, granted: int
) -> None:
    assert protocol.granted_offset(status, headers, asked, BLOB) == granted


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (206, {}, TransportError),
        (206, {"Content-Range": "bytes 0-99/100"}, TransportError),
        (206, {"Content-Range": "bytes 41-99/100"}, TransportError),
        (206, {"Content-Range": "bytes 40-30/100"}, TransportError),
        (206, {"Content-Range": "items 40-99/100"}, TransportError),
        (206, {"Content-Range": f"bytes 40-{'9' * 5000}/100"}, TransportError),
        (206, {"Content-Range": "bytes 40-99/101"}, SizeMismatch),
        (206, {"Content-Range": "bytes 40-99/100", "Content-Length": "61"}, SizeMismatch),
        (200, {"Content-Length": "99"}, SizeMismatch),
        (200, {"Content-Length": "101"}, SizeMismatch),
    ],
)
def test_ranges_that_are_not(
    status: int, headers: Mapping[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error, match="cannot download sha256:"):
        protocol.granted_offset(status, headers, 40, BLOB)


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("https://a/v2/x", "/y?z", "https://a/y?z"),
        ("https://a/v2/x", "https://cdn.example/blob?sig=1", "https://cdn.example/blob?sig=1"),
        ("http://a/v2/x", "https://b/", "https://b/"),
        ("http://a/v2/x", "http://b/", "http://b/"),
    ],
)
def test_redirects_that_are_followed(url: str, location: str, target: str) -> None:
    assert protocol.redirect_target(url, location) == target


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("http://a/", "plain HTTP"),
        ("//user:pw@b/", "credentials"),
        ("file:///etc/passwd", "not an HTTP"),
        ("ftp://b/", "not an HTTP"),
        ("https://a:99999/", "not an HTTP"),
        ("https://[::1/", "not an HTTP"),
    ],
)
def test_redirects_that_are_not(location: str, says: str) -> None:
    with pytest.raises(RegistryError, match=says) as caught:
        protocol.redirect_target("https://a/v2/?token=hunter2", location)
    assert "hunter2" not in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        ("8.8.8.8", 0),
        ("2606:4700::1", 0),
        ("10.1.2.3", 1),
        ("192.168.0.1", 1),
        ("100.64.0.1", 1),
        ("fd00::1", 1),
        ("127.0.0.1", 2),
        ("::1", 2),
        ("0.0.0.0", 2),
        ("::ffff:127.0.0.1", 2),
        ("169.254.169.254", 3),
        ("::ffff:169.254.169.254", 3),
        ("64:ff9b::a9fe:a9fe", 3),
        ("fe80::1%eth0", 3),
        ("fd00:ec2::254", 3),
    ],
)
def test_how_private_an_address_is(address: str, reach: int) -> None:
    assert protocol.reach(address) == reach


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("soon", None),
        ("-5", None),
        ("٣", None),
        ("9" * 400, 999_999_999.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Thu, 99 Foo 1970", None),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert protocol.retry_after(text, now=10.0) == seconds


def test_error_codes() -> None:
    errors = [{"code": "DENIED", "message": "no \x1b[31m entry"}, {"code": 5}, "x"]
    assert protocol.error_codes(json.dumps({"errors": errors}).encode()) == (
        ("DENIED",),
        "no  [31m entry",
    )
    for body in (b"", b"<html>", b"[]", b'{"errors": 1}', b'{"errors": {}}', b"\xff", b"[" * 9999):
        assert protocol.error_codes(body) == ((), "")


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (401, Unauthorized, False),
        (403, Unauthorized, False),
        (404, ImageNotFound, None),
        (429, RateLimited, True),
        (408, RegistryError, True),
        (400, RegistryError, False),
        (418, RegistryError, False),
        (500, RegistryError, True),
        (501, RegistryError, False),
        (503, RegistryError, True),
    ],
)
def test_what_a_status_means(status: int, kind: type[Exception], retryable: bool | None) -> None:
    error = protocol.status_error(
        "cannot pull app:1",
        "GET https://reg.example/v2/app/manifests/1",
        status,
        {"Retry-After": "3"},
        b'{"errors":[{"code":"SOMETHING","message":"why"}]}',
        now=0,
    )
    assert type(error) is kind
    assert str(error).startswith(
        f"cannot pull app:1: reg.example answered {status} (SOMETHING: why)"
    )
    assert getattr(error, "codes", None) == ("SOMETHING",)
    assert getattr(error, "retryable", None) == retryable
    if retryable:
        assert getattr(error, "retry_after", None) == 3.0


def test_a_missing_blob_is_not_a_missing_image() -> None:
    error = protocol.status_error("a", "GET h://h/", 404, {}, b"", now=0, missing=BlobNotFound)
    assert isinstance(error, BlobNotFound)


def test_nothing_secret_is_shown() -> None:
    shown = protocol.redacted("https://user:hunter2@host:1/path?token=hunter2#hunter2")
    assert shown == "https://host:1/path"
    assert protocol.redacted("https://[bad") == "an invalid address"
    assert Origin("https://a") == Origin("https://a", verify=True)
