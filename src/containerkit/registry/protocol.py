"""The distribution-spec as functions: URLs, headers, ranges, error bodies, addresses.

Owns: every rule of the protocol that needs no connection.  Must not: do I/O, know urllib3.
Flow: `client` asks it what to send and how to read an answer; `transport` asks it which redirects
and addresses are allowed.

Spec: distribution-spec v1.1; RFC 9110 for ranges, Retry-After and redirects.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urljoin, urlsplit, urlunsplit

import attrs

from containerkit.errors import (
    BlobNotFound,
    ContainerKitError,
    ImageNotFound,
    RateLimited,
    RegistryError,
    SizeMismatch,
    TransportError,
    Unauthorized,
)
from containerkit.model.descriptor import INDEX_TYPES, MANIFEST_TYPES, Descriptor
from containerkit.model.reference import DEFAULT_REGISTRY, Reference

ACCEPT_MANIFEST: Final = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))
MAX_ERROR_BODY: Final = 64 << 10
REDIRECTS: Final = (301, 302, 303, 307, 308)

# Domains whose subdomains belong to strangers; beside these, names such as co.uk.
_SHARED_DOMAINS = (
    *("amazonaws.com", "azure.com", "azurecr.io", "cloudapp.net", "fly.dev", "gcr.io", "github.io"),
    *("gitlab.io", "herokuapp.com", "jfrog.io", "ngrok.app", "ngrok.io", "pkg.dev", "run.app"),
)
_SECOND_LEVEL = frozenset(("ac", "co", "com", "edu", "gov", "go", "ne", "net", "or", "org"))

# docker.io is a name; its registry answers elsewhere.
_HOSTS = {DEFAULT_REGISTRY: "registry-1.docker.io"}
# What Go, nginx, Apache and Tomcat say to plain HTTP at a port of TLS, with status 400.
_WANTS_TLS = re.compile(rb"https (?:server|port)|ssl-enabled|requires tls", re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:(\d{1,18})|\*)")


@attrs.frozen
class Origin:
    """Where a registry may answer.

    Args:
        base: scheme, host and port, without a final slash.
        verify: whether its certificate is checked.
    """

    base: str
    verify: bool = True


def origins(registry: str, *, insecure: bool | None, private_ca: bool) -> tuple[Origin, ...]:
    """Return the places to try, in order; the first that speaks HTTP is the registry.

    Args:
        registry: of the reference.
        insecure: True adds plain HTTP and does not check certificates; None allows plain HTTP on
            loopback only; False never does.
        private_ca: the caller gave a certificate authority, hence expects TLS.
    """
    host = _HOSTS.get(registry, registry)
    secure = Origin(f"https://{host}", verify=not insecure or private_ca)
    plain = Origin(f"http://{host}")
    if private_ca or insecure is False:
        return (secure,)
    if is_loopback(host):
        return plain, secure
    return (secure, plain) if insecure else (secure,)


def is_loopback(host: str) -> bool:
    """Return whether *host* (with or without port) is this machine, by its name alone."""
    name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def manifest_path(reference: Reference) -> str:
    """Return the path of the manifest that *reference* names; its digest wins over its tag."""
    name = reference.tag if reference.digest is None else reference.digest
    return f"/v2/{reference.repository}/manifests/{name}"


def blob_path(reference: Reference, descriptor: Descriptor) -> str:
    """Return the path of a blob of the repository."""
    return f"/v2/{reference.repository}/blobs/{descriptor.digest}"


# ---- ranges ------------------------------------------------------------------------------------


def granted_offset(
    status: int, headers: Mapping[str, str], asked: int, descriptor: Descriptor
) -> int:
    """Return from which byte on the answer's body is.

    Args:
        status: 200 or 206.
        headers: of the answer.
        asked: the first byte of the Range header, 0 when there was none.
        descriptor: of the blob.

    Raises:
        SizeMismatch: the answer announces another size than the descriptor.
        TransportError: the answer is of a range that was not asked for.

    Spec: RFC 9110, 14.4 Content-Range, 15.3.7 Partial Content.
    """
    offset, end = 0, descriptor.size
    if status == 206:
        found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        if found is None or int(found[1]) != asked or int(found[2]) < asked:
            raise TransportError(
                f"cannot download {descriptor.digest}: asked for bytes from {asked},"
                f" was given {headers.get('Content-Range', 'no Content-Range')[:80]!a}",
                retryable=True,
                status=status,
            )
        offset, end = asked, int(found[2]) + 1
        if found[3] is not None and int(found[3]) != descriptor.size:
            raise _other_size(descriptor, int(found[3]))
    length = content_length(headers)
    if length is not None and length != end - offset:
        raise _other_size(descriptor, offset + length)
    return offset


def _other_size(descriptor: Descriptor, size: int) -> SizeMismatch:
    return SizeMismatch(
        f"cannot download {descriptor.digest}: its manifest says {descriptor.size} bytes,"
        f" the registry announces {size}",
        expected=descriptor.size,
        actual=size,
    )


def content_length(headers: Mapping[str, str]) -> int | None:
    """Return the announced number of bytes, None when absent or not a number."""
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


# ---- redirects and addresses -------------------------------------------------------------------


def redirect_target(url: str, location: str) -> str:
    """Return where an answer of *url* sends us.

    Raises:
        RegistryError: not HTTP, with credentials in it, or from TLS down to plain HTTP.
    """
    target = location
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    fault = None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        fault = "that is not an HTTP address"
    elif parts.username is not None or parts.password is not None:
        fault = "the address carries credentials"
    elif parts.scheme == "http" and url.startswith("https:"):
        fault = "that leads from TLS to plain HTTP"
    if fault is not None:
        raise RegistryError(
            f"cannot follow {redacted(url)} to {redacted(target)}: {fault}",
            request=f"GET {redacted(url)}",
        )
    return target


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of *url*: credentials are for exactly one of these."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, (parts.hostname or "").lower(), port


def same_site(url: str, other: str) -> bool:
    """Return whether two hosts are one, whatever their ports, or of one domain.

    The domain is what their owner has registered, as far as the names alone can say: what is
    registered by strangers beside each other must be the very same host.
    """
    one, two = origin_of(url)[1].rstrip("."), origin_of(other)[1].rstrip(".")
    if one == two:
        return bool(one)
    shared: list[str] = []
    for label, its in zip(reversed(one.split(".")), reversed(two.split(".")), strict=False):
        if label != its:
            break
        shared.insert(0, label)
    if len(shared) < 2 or shared[-1].isdigit() or ":" in one:  # addresses have no domain
        return False
    if len(shared) == 2 and len(shared[1]) == 2 and shared[0] in _SECOND_LEVEL:
        return False
    return ".".join(shared) not in _SHARED_DOMAINS


def reach(address: str) -> int:
    """Return how private a network address is: 0 public, 1 private, 2 this host, 3 link-local.

    A registry may send us (redirect, token realm) to addresses as private as its own or less: a
    public one has no business with the metadata service or a neighbour of ours.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        nat64 = ipaddress.IPv6Network("64:ff9b::/96")
        embedded = parsed.ipv4_mapped
        if embedded is None and parsed in nat64:
            embedded = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if embedded is not None:
            parsed = embedded
    if parsed.is_link_local or parsed == ipaddress.ip_address("fd00:ec2::254"):
        return 3
    if parsed.is_loopback or parsed.is_unspecified:
        return 2
    return 0 if parsed.is_global else 1


def redacted(url: str) -> str:
    """Return *url* as it may stand in a message: no credentials, no query (it may be signed)."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an invalid address"
    text = urlunsplit((parts.scheme, host, parts.path, "", ""))
    return ascii(text[:200])[1:-1]


# ---- answers that are errors -------------------------------------------------------------------


def retry_after(text: str | None, *, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, None when it says nothing.

    Args:
        text: the header: seconds, or a date.
        now: seconds since the epoch, to compare a date with.
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(min(int(text[:9]), 1 << 31))
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def error_codes(body: bytes) -> tuple[tuple[str, ...], str]:
    """Return the codes and the first message of an error body, empty when it is something else.

    Spec: distribution-spec, Error Codes.
    """
    try:
        document = json.loads(body[:MAX_ERROR_BODY])
        errors = [one for one in document["errors"] if isinstance(one, dict)][:8]
    except (ValueError, RecursionError, TypeError, KeyError):
        return (), ""
    codes = tuple(_plain(one.get("code"), 64) for one in errors)
    messages = [_plain(one.get("message"), 200) for one in errors]
    return tuple(filter(None, codes)), next(filter(None, messages), "")


def _plain(value: object, limit: int) -> str:
    text = value[:limit] if isinstance(value, str) else ""
    return "".join(char if char.isprintable() else " " for char in text).strip()


def status_error(
    attempt: str,
    request: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    hint: str | None = None,
    missing: type[ImageNotFound | BlobNotFound | RegistryError] = ImageNotFound,
) -> ContainerKitError:
    """Return the error that an HTTP status means.

    Args:
        attempt: what failed, e.g. "cannot pull app:1".
        request: method and redacted URL.
        status: of HTTP, no success.
        headers: of the answer.
        body: of the answer, as far as it was read.
        now: seconds since the epoch.
        hint: for refusals (401, 403): what the caller could do.
        missing: the class for 404.
    """
    codes, message = error_codes(body)
    host = urlsplit(request.partition(" ")[2]).netloc
    said = ": ".join(filter(None, (", ".join(codes), message)))
    text = f"{attempt}: {host} answered {status}" + (f" ({said})" if said else "")
    details: dict[str, Any] = {"request": request, "status": status, "codes": codes}
    if status in (401, 403):
        return Unauthorized(text, hint=hint, **details)
    if status == 404:
        if missing is RegistryError:
            return RegistryError(
                text, hint="the registry says that tokens come from there", **details
            )
        return missing(text, hint="check the name and the tag", **details)
    if status == 429:
        wait = retry_after(headers.get("Retry-After"), now=now)
        hint = "log in, or use a mirror; the registry limits how much is pulled"
        return RateLimited(text, hint=hint, retry_after=wait, retryable=True, **details)
    if status == 400 and " http://" in request and _WANTS_TLS.search(body):
        return TransportError(
            f"{attempt}: {host} was sent plain HTTP, and speaks TLS",
            hint="who named that address, by a redirect or as its token realm, should say https",
            retryable=True,
            **details,
        )
    retryable = status in (408, 425) or (status >= 500 and status not in (501, 505))
    wait = retry_after(headers.get("Retry-After"), now=now) if retryable else None
    hint = "the registry is out of order; try again later" if retryable else None
    return RegistryError(text, hint=hint, retryable=retryable, retry_after=wait, **details)
