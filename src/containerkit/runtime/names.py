"""Names of containers: their grammar, and free ones for those that get none.

Owns both.  Must not: know which are taken (the catalog refuses those).
"""

from __future__ import annotations

import random
import re
from typing import Final

from containerkit.errors import ConfigError

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_ID: Final = re.compile(r"[0-9a-f]{64}")

_FIRST: Final = [
    "amber",
    "brave",
    "brisk",
    "calm",
    "clear",
    "coral",
    "crisp",
    "dapper",
    "eager",
    "early",
    "fair",
    "fleet",
    "fresh",
    "gentle",
    "glad",
    "golden",
    "grand",
    "happy",
    "hardy",
    "hazel",
    "honest",
    "humble",
    "jolly",
    "keen",
    "kind",
    "lively",
    "lucid",
    "lunar",
    "mellow",
    "merry",
    "mild",
    "misty",
    "modest",
    "neat",
    "nimble",
    "noble",
    "olive",
    "patient",
    "placid",
    "plucky",
    "polite",
    "proud",
    "quick",
    "quiet",
    "rapid",
    "ready",
    "royal",
    "rustic",
    "sharp",
    "silent",
    "silver",
    "simple",
    "sleek",
    "smooth",
    "snowy",
    "solar",
    "solid",
    "spry",
    "steady",
    "still",
    "stout",
    "sunny",
    "swift",
    "tidy",
    "tranquil",
    "trusty",
    "upbeat",
    "velvet",
    "vivid",
    "warm",
    "wise",
    "witty",
    "young",
]
_SECOND: Final = [
    "acorn",
    "alder",
    "aspen",
    "badger",
    "bay",
    "beacon",
    "birch",
    "bison",
    "brook",
    "canyon",
    "cedar",
    "cliff",
    "clover",
    "comet",
    "cove",
    "crane",
    "creek",
    "curlew",
    "delta",
    "dune",
    "egret",
    "elm",
    "ember",
    "falcon",
    "fern",
    "finch",
    "fjord",
    "forest",
    "fox",
    "garnet",
    "glade",
    "glen",
    "grove",
    "harbor",
    "hare",
    "heath",
    "heron",
    "hill",
    "iris",
    "island",
    "ivy",
    "jay",
    "kestrel",
    "lagoon",
    "lake",
    "larch",
    "lark",
    "lynx",
    "maple",
    "marsh",
    "meadow",
    "mesa",
    "moss",
    "oak",
    "orchid",
    "osprey",
    "otter",
    "owl",
    "peak",
    "pebble",
    "pine",
    "plover",
    "pond",
    "poplar",
    "quail",
    "raven",
    "reef",
    "ridge",
    "river",
    "robin",
    "rowan",
    "sage",
    "shore",
    "sparrow",
    "spring",
    "spruce",
    "summit",
    "swan",
    "thistle",
    "tide",
    "trail",
    "valley",
    "willow",
    "wren",
]

_random = random.SystemRandom()


def free_name(attempt: int = 0) -> str:
    """Return a name of two words, with a number behind them after some attempts in vain."""
    name = f"{_random.choice(_FIRST)}-{_random.choice(_SECOND)}"
    return name if attempt < 3 else f"{name}-{_random.randrange(10 ** (attempt - 1))}"


def check_name(name: object) -> str:
    """Return a name that a container may have.

    Raises:
        ConfigError: not ``[a-zA-Z0-9][a-zA-Z0-9_.-]*``, longer than 128, or shaped as an id.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is not a name for a container",
            hint="letters, digits and _.- behind a letter or digit, at most 128",
        )
    if _ID.fullmatch(name):
        raise ConfigError(f"{name!r} is not a name for a container: it looks like an id")
    return name
