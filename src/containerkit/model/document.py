"""Documents: JSON from strangers, read strictly and within bounds.

Owns: one decoder that refuses what different parsers read differently (duplicate keys, NaN, deep
nesting, huge numbers, text that is not UTF-8), and `Fields`, which checks the type and size of
each member asked for.  Must not: know any schema.  Flow: `manifest` and `image_config` read
through it; what they do not ask for is never looked at.

Spec: RFC 8259, sections 4, 6, 8 and 9.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn

from containerkit.errors import InvalidSpec
from containerkit.model.digest import Digest

MAX_DEPTH: Final = 32
MAX_BRACKETS: Final = 400_000
MAX_TEXT: Final = 1 << 20
MAX_INTEGER: Final = (1 << 63) - 1

# Possessive, and without a closing quote at the end: linear in time on any input.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


class _Refused(ValueError):
    """What the decoder's hooks raise; `load` turns it into InvalidSpec."""


def load(data: bytes, *, what: str, limit: int) -> Fields:
    """Decode a JSON object.

    Args:
        data: the whole document.
        what: how messages name it, e.g. "manifest".
        limit: bytes accepted.

    Raises:
        InvalidSpec: not one object of strict JSON within the limits.
    """
    if len(data) > limit:
        _refuse(what, f"it has {len(data)} bytes, more than {limit}")
    _check_nesting(data, what)
    import json

    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_bounded_int,
            parse_constant=_no_constant,
        )
    except _Refused as error:
        _refuse(what, str(error))
    except UnicodeDecodeError as error:
        _refuse(what, f"byte {error.start} is not UTF-8")
    except (ValueError, RecursionError) as error:
        _refuse(what, f"it is not JSON ({error})")
    if not isinstance(value, dict):
        _refuse(what, "it is not an object")
    return Fields(value, what)


def _check_nesting(data: bytes, what: str) -> None:
    """Bound the depth before decoding: json recurses in C as deep as the caller's limit allows."""
    brackets = data.count(b"[") + data.count(b"{")
    if brackets <= MAX_DEPTH:
        return
    if brackets > MAX_BRACKETS:
        _refuse(what, "it has too many values")
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", data)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            _refuse(what, f"it nests deeper than {MAX_DEPTH}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Refused(f"it has {name[:80]!a} twice")
            seen.add(name)
    return result


def _bounded_int(text: str) -> int:
    if len(text) > 20:
        raise _Refused("it has an integer of more than 20 digits")
    return int(text)


def _no_constant(text: str) -> NoReturn:
    raise _Refused(f"it has the number {text}")


def _refuse(what: str, cause: str, hint: str | None = None) -> NoReturn:
    raise InvalidSpec(f"cannot read {what}: {cause}", hint=hint)


class Fields:
    """The members of one JSON object, each checked when it is asked for.

    An absent member and null are the same.  Names are compared exactly; a member that differs from
    an asked name in case only is refused, since Go programs would read it.
    """

    __slots__ = ("_members", "_what")

    def __init__(self, members: dict[str, Any], what: str) -> None:
        self._members = members
        self._what = what

    def __contains__(self, name: str) -> bool:
        return self._members.get(name) is not None

    def refuse(self, cause: str, *, hint: str | None = None) -> NoReturn:
        """Raise InvalidSpec that names this document and the cause."""
        _refuse(self._what, cause, hint)

    def refuse_lookalikes(self, *names: str) -> None:
        """Refuse members whose names are *names* in another case.

        Raises:
            InvalidSpec: there is one.
        """
        folded = {name.lower() for name in names}
        for name in self._members:
            if name not in names and name.lower() in folded:
                self.refuse(f"it has {name[:80]!a} in unusual case")

    def text(self, name: str, *, limit: int = MAX_TEXT) -> str | None:
        """Return a string member, None when absent."""
        value = self._members.get(name)
        return None if value is None else self._text(value, name, limit)

    def integer(self, name: str, *, least: int = 0, most: int = MAX_INTEGER) -> int | None:
        """Return an integer member within the bounds, None when absent."""
        value = self._members.get(name)
        if value is None:
            return None
        if type(value) is not int or not least <= value <= most:
            self.refuse(f"{name} is not an integer from {least} to {most}")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean member, False when absent."""
        value = self._members.get(name)
        if value is not None and type(value) is not bool:
            self.refuse(f"{name} is not true or false")
        return bool(value)

    def digest(self, name: str) -> Digest:
        """Return a digest member, which must be there."""
        value = self.text(name, limit=256)
        if value is None:
            self.refuse(f"{name} is missing")
        return self._digest(value, name)

    def digests(self, name: str, *, most: int) -> tuple[Digest, ...]:
        """Return a list of digests, empty when absent."""
        return tuple(self._digest(text, name) for text in self.texts(name, most=most, limit=256))

    def texts(self, name: str, *, most: int, limit: int = MAX_TEXT) -> tuple[str, ...]:
        """Return a list of strings, empty when absent; null is "", as Go reads it."""
        items = self._list(name, most)
        return tuple(self._text("" if item is None else item, name, limit) for item in items)

    def texts_or_text(self, name: str, *, most: int, limit: int = MAX_TEXT) -> tuple[str, ...]:
        """Return a list of strings; one of a single text may be that text, as Docker reads it."""
        if isinstance(self._members.get(name), str):
            return (self._text(self._members[name], name, limit),)
        return self.texts(name, most=most, limit=limit)

    def names(self, name: str, *, most: int, limit: int = 4096) -> tuple[str, ...]:
        """Return the member names of an object (a Go set), empty when absent."""
        return tuple(self._text(key, name, limit) for key in self._mapping(name, most))

    def text_map(self, name: str, *, most: int, limit: int = MAX_TEXT) -> dict[str, str]:
        """Return an object of strings, empty when absent; null is "", as Go reads it."""
        return {
            self._text(key, name, limit): self._text("" if value is None else value, name, limit)
            for key, value in self._mapping(name, most).items()
        }

    def member(self, name: str) -> Fields | None:
        """Return an object member, None when absent."""
        if self._members.get(name) is None:
            return None
        return Fields(self._mapping(name, MAX_BRACKETS), f"{self._what} {name}")

    def objects(self, name: str, *, most: int) -> Iterator[Fields]:
        """Yield the members of a list of objects, none when absent."""
        for index, item in enumerate(self._list(name, most)):
            if not isinstance(item, dict):
                self.refuse(f"{name} {index} is not an object")
            yield Fields(item, f"{self._what} {name} {index}")

    def _list(self, name: str, most: int) -> list[Any]:
        value = self._members.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self.refuse(f"{name} is not a list")
        if len(value) > most:
            self.refuse(f"{name} has {len(value)} entries, more than {most}")
        return value

    def _mapping(self, name: str, most: int) -> dict[str, Any]:
        value = self._members.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.refuse(f"{name} is not an object")
        if len(value) > most:
            self.refuse(f"{name} has {len(value)} entries, more than {most}")
        return value

    def _text(self, value: Any, name: str, limit: int) -> str:
        if not isinstance(value, str):
            self.refuse(f"{name} is not text")
        if len(value) > limit:
            self.refuse(f"{name} has {len(value)} characters, more than {limit}")
        # Texts end up in C strings and in UTF-8: neither can hold these.
        if "\0" in value:
            self.refuse(f"{name} holds a NUL character")
        if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                self.refuse(f"{name} holds half of a surrogate pair")
        return value

    def _digest(self, text: str, name: str) -> Digest:
        try:
            return Digest.parse(text)
        except InvalidSpec as error:
            raise InvalidSpec(
                f"cannot read {self._what}: {name}: {error.message}", hint=error.hint
            ) from error


def copied(value: Mapping[str, str]) -> dict[str, str]:
    """Return a copy, so that a frozen value does not change with its maker's mapping."""
    return dict(value)


def as_texts(values: Iterable[str]) -> tuple[str, ...]:
    """Return a tuple of *values*, for the fields of frozen values."""
    return tuple(values)
