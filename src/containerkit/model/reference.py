"""References: the names that people give to images.

Owns: the grammar, its defaults (docker.io, ``library/``, ``latest``), the canonical and the short
spelling.  Must not: know hosts, ports or URLs of a transport; `registry/protocol` does.
Flow: the first value of a pull, and the key of the catalog's names.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from containerkit.errors import InvalidReference, InvalidSpec
from containerkit.model.digest import Digest

DEFAULT_REGISTRY: Final = "docker.io"
DEFAULT_TAG: Final = "latest"
MAX_REFERENCE_LENGTH: Final = 1024
MAX_REPOSITORY_LENGTH: Final = 255

_SHAPE = "[registry[:port]/]repository[:tag][@sha256:<64 hex digits>]"
_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
# The inside of the brackets is checked by `ipaddress`; the pattern only bounds the alphabet.
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]{{2,45}}\])(?::[0-9]{{1,5}})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")


@attrs.frozen
class Reference:
    """A parsed image name: registry, repository, and a tag, a digest or both.

    Args:
        registry: host, with ``:port`` where one was given; "docker.io" by default.
        repository: path beneath it, e.g. "library/alpine".
        tag: None when only a digest names the image.
        digest: None unless the name is pinned.

    Raises:
        InvalidReference: a part is outside of the grammar.

    Spec: distribution-spec, Pulling manifests; the grammar of the distribution project.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __attrs_post_init__(self) -> None:
        registry, repository = _with_defaults(self.registry, self.repository)
        object.__setattr__(self, "registry", registry)
        object.__setattr__(self, "repository", repository)
        fault = _fault(registry, repository, self.tag)
        if fault is not None:
            raise _refused(str(self), fault)

    @classmethod
    def parse(cls, text: str, *, default_tag: str | None = DEFAULT_TAG) -> Reference:
        """Read an image name as people write it.

        A first component without dot, colon or capital that is not "localhost" is part of the
        repository, not a registry; on docker.io a repository of one component is "library/…".

        Args:
            text: at most 1,024 characters.
            default_tag: used when the text has neither tag nor digest.

        Raises:
            InvalidReference: the text is not a reference.
        """
        if not isinstance(text, str):
            raise InvalidReference(f"cannot read a reference from {type(text).__name__}: not text")
        if len(text) > MAX_REFERENCE_LENGTH:
            raise _refused(text, f"it is longer than {MAX_REFERENCE_LENGTH} characters")
        rest, at, digest_text = text.partition("@")
        digest = _parse_digest(digest_text, text) if at else None
        name, tag = _split_tag(rest)
        if _IMAGE_ID.fullmatch(name) is not None:
            raise _refused(text, "64 hex digits are an image id, not a name")
        if not name:
            raise _refused(text, "it names no repository")
        registry, repository = _with_defaults(*_split_registry(name))
        if tag is None and digest is None:
            tag = default_tag
        # Checked before the value is made, so that the message shows what the caller wrote.
        fault = _fault(registry, repository, tag)
        if fault is not None:
            raise _refused(text, fault)
        return cls(registry, repository, tag, digest)

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """The shortest spelling that parses to the same reference."""
        return self._familiar_name() + self._suffix()

    def _familiar_name(self) -> str:
        if self.registry != DEFAULT_REGISTRY:
            return self.name
        short = self.repository.removeprefix("library/")
        if "/" not in short and _IMAGE_ID.fullmatch(short) is None:
            return short
        return self.name if _looks_like_registry(self.repository) else self.repository

    def with_digest(self, digest: Digest) -> Reference:
        """Return the same name pinned to *digest*; a tag stays as a note to the reader."""
        return Reference(self.registry, self.repository, self.tag, digest)

    def with_tag(self, tag: str) -> Reference:
        """Return the same name under *tag*, not pinned.

        Raises:
            InvalidReference: the tag is outside of the grammar.
        """
        return Reference(self.registry, self.repository, tag)

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        return f"{tag}@{self.digest}" if self.digest is not None else tag

    def __str__(self) -> str:
        return self.name + self._suffix()


def _split_tag(text: str) -> tuple[str, str | None]:
    """Split the tag off: the last colon, unless a slash follows it (then it is a port's)."""
    head, colon, tail = text.rpartition(":")
    if colon and "/" not in tail:
        return head, tail
    return text, None


def _split_registry(name: str) -> tuple[str, str]:
    first, _, rest = name.partition("/")
    return (first, rest) if _looks_like_registry(name) else (DEFAULT_REGISTRY, name)


def _with_defaults(registry: str, repository: str) -> tuple[str, str]:
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    return registry, repository


def _looks_like_registry(name: str) -> bool:
    first, slash, _ = name.partition("/")
    if not slash:
        return False
    return "." in first or ":" in first or first == "localhost" or first != first.lower()


def _parse_digest(digest_text: str, text: str) -> Digest:
    try:
        return Digest.parse(digest_text)
    except InvalidSpec as error:
        raise _refused(text, f"{_quoted(digest_text)} is not a digest") from error


def _fault(registry: str, repository: str, tag: str | None) -> str | None:
    """Return what is wrong with the parts of a reference, None when nothing is."""
    if not _is_registry(registry):
        return f"{_quoted(registry)} is not a registry"
    if len(repository) > MAX_REPOSITORY_LENGTH:
        return f"its repository is longer than {MAX_REPOSITORY_LENGTH} characters"
    if _REPOSITORY.fullmatch(repository) is None:
        lower = ", which has lower-case letters only" if repository != repository.lower() else ""
        return f"{_quoted(repository)} is not a repository{lower}"
    if tag is not None and _TAG.fullmatch(tag) is None:
        return f"{_quoted(tag)} is not a tag"
    return None


def _is_registry(registry: str) -> bool:
    # A plain word would be read back as the first component of a repository.
    if len(registry) > 255 or not _looks_like_registry(f"{registry}/"):
        return False
    if _REGISTRY.fullmatch(registry) is None:
        return False
    address, bracket, port = registry.rpartition("]:" if registry[-1] != "]" else "]")
    if not registry.startswith("["):
        _, _, port = registry.partition(":")
    elif not bracket or not _is_ipv6(address.removeprefix("[")):
        return False
    return not port or 0 < int(port) < 65536


def _is_ipv6(text: str) -> bool:
    import ipaddress  # 3 ms, and nearly nobody writes an IPv6 address

    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _refused(text: str, cause: str) -> InvalidReference:
    return InvalidReference(f"cannot read reference {_quoted(text)}: {cause}", hint=_SHAPE)


def _quoted(text: str) -> str:
    return ascii(text if len(text) <= 120 else text[:120] + "...")
