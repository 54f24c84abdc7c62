"""Words of an instruction: quotes, escapes, and variables put in.

Owns: the grammar that the Dockerfile has of them.  Pure.  Neighbour: `instructions`.

Spec: Dockerfile reference, Environment replacement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPED: Final = '"$\\'
"""What a backslash takes the meaning of, within double quotes."""


class BadText(ValueError):
    """A text is not what it should be; it says why, as the end of a sentence."""


def split(text: str) -> list[str]:
    """Cut a text at white space outside of quotes; these, and escapes, stay.

    Raises:
        BadText: a quote has no end.
    """
    words: list[str] = []
    word, quote, at = "", "", 0
    while at < len(text):
        one = text[at]
        if one == "\\" and quote != "'":
            word += text[at : at + 2]
            at += 2
            continue
        if quote:
            quote = "" if one == quote else quote
        elif one in "\"'":
            quote = one
        elif one.isspace():
            if word:
                words.append(word)
            word = ""
            at += 1
            continue
        word += one
        at += 1
    if quote:
        raise BadText(f"a {quote} has no end")
    return [*words, word] if word else words


def expand(word: str, variables: Mapping[str, str]) -> str:
    """Return what a word means: without quotes and escapes, with the values of variables.

    Args:
        word: may hold $NAME, ${NAME}, ${NAME:-otherwise}, ${NAME:+instead}.
        variables: by name; one that is not there is empty.

    Raises:
        BadText: a quote or a brace has no end, or something else is within braces.
    """
    made: list[str] = []
    quote, at = "", 0
    while at < len(word):
        one = word[at]
        if one == "'" and quote != '"':
            end = word.find("'", at + 1)
            if end < 0:
                raise BadText("a ' has no end")
            made.append(word[at + 1 : end])
            at = end + 1
        elif one == '"':
            quote = "" if quote else '"'
            at += 1
        elif one == "\\" and at + 1 < len(word):
            after = word[at + 1]
            made.append(after if not quote or after in _ESCAPED else one + after)
            at += 2
        elif one == "$":
            value, at = _variable(word, at + 1, variables)
            made.append(value)
        else:
            made.append(one)
            at += 1
    if quote:
        raise BadText('a " has no end')
    return "".join(made)


def _variable(word: str, at: int, variables: Mapping[str, str]) -> tuple[str, int]:
    """Return the value of what follows a dollar sign, and where that ends."""
    braced = word.startswith("{", at)
    found = _NAME.match(word, at + braced)
    if not braced:
        return (variables.get(found[0], ""), found.end()) if found else ("$", at)
    end = word.find("}", at)
    if found is None or end < 0:
        raise BadText("${ is not followed by a name and }")
    value, rest = variables.get(found[0], ""), word[found.end() : end]
    if rest.startswith(":-"):
        value = value or rest[2:]
    elif rest.startswith(":+"):
        value = rest[2:] if value else ""
    elif rest:
        raise BadText("of the forms with braces there are ${NAME}, ${NAME:-…} and ${NAME:+…}")
    return value, end + 1
