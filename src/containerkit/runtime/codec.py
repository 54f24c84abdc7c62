"""The options of a container as JSON, and back: what the catalog keeps of a `create`.

Owns the form.  Every value that `ContainerOptions` takes comes back equal to itself, except
secrets: of those only names stay, and the path where the content is a file's.
Must not: know the options one by one; values of ``containerkit.model`` are kept by their fields.

A value that JSON has goes as it is; any other as ``{"$": kind, "v": …}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from enum import Enum
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from containerkit.errors import ConfigError

if TYPE_CHECKING:
    from containerkit.model.options import ContainerOptions

_MODEL: Final = "containerkit.model."


def without_secrets(options: ContainerOptions) -> dict[str, Any]:
    """Return options that may be kept: of a secret its name and, where it has one, its path."""
    plain: dict[str, Any] = dict(options)
    secrets = plain.get("secrets")
    if secrets is not None:
        plain["secrets"] = {
            name: value if isinstance(value, Path) else None for name, value in secrets.items()
        }
    return plain


def dump(value: object) -> str:
    """Return the text of a value.

    Raises:
        ConfigError: it, or something in it, is no value that can be kept.
    """
    return json.dumps(_encode(value), separators=(",", ":"))


def load(text: str) -> Any:
    """Return the value in a text.

    Raises:
        ConfigError: a later version wrote it, or nobody of ours.
    """
    try:
        return _decode(json.loads(text))
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError("cannot read what was kept of a container: it was damaged") from error


def load_config(text: str) -> dict[str, Any]:
    """Return what the config of a row says, by name; options are there, as a mapping.

    Raises:
        ConfigError: as `load`.
    """
    kept = load(text)
    names = {"command", "options", "image", "rootfs", "chain_ids"}
    if not (isinstance(kept, dict) and names <= kept.keys() and isinstance(kept["options"], dict)):
        raise ConfigError("cannot read what was kept of a container: it was damaged")
    return kept


def _encode(value: object) -> Any:
    if value is None or (
        isinstance(value, bool | int | float | str) and not isinstance(value, Enum)
    ):
        return value
    kind = type(value)
    if kind.__module__.startswith(_MODEL):
        return {"$": f"{kind.__module__[len(_MODEL) :]}.{kind.__qualname__}", "v": _fields(value)}
    if isinstance(value, Enum) and isinstance(value, int | str):  # as signal.SIGTERM
        return value.value
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$": "bytes", "v": bytes(value).hex()}
    if isinstance(value, timedelta):
        return {"$": "seconds", "v": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, Path):
        return {"$": "path", "v": str(value)}
    if isinstance(value, PathLike):
        return _encode(fspath(value))
    if isinstance(value, Mapping):
        return {"$": "map", "v": [[_encode(key), _encode(one)] for key, one in value.items()]}
    if isinstance(value, AbstractSet):
        return {"$": "set", "v": sorted((_encode(one) for one in value), key=repr)}
    if isinstance(value, tuple):
        return {"$": "tuple", "v": [_encode(one) for one in value]}
    if isinstance(value, Sequence):
        return [_encode(one) for one in value]
    raise ConfigError(f"cannot keep {value!r} as an option of a container: {kind.__name__}")


def _fields(value: object) -> Any:
    """Return what a value of the model is made of again."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, tuple):
        return [_encode(one) for one in value]
    attributes: Any = getattr(type(value), "__attrs_attrs__", None)
    if attributes is None:
        return str(value)  # parsed again from its text
    return {one.alias: _encode(getattr(value, one.name)) for one in attributes if one.init}


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(one) for one in value]
    if not isinstance(value, dict):
        return value
    kind, content = value["$"], value["v"]
    if kind == "map":
        return {_decode(key): _decode(one) for key, one in content}
    if kind == "tuple":
        return tuple([_decode(one) for one in content])
    if kind == "set":
        return frozenset(_decode(one) for one in content)
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind == "path":
        return Path(content)
    if kind == "seconds":
        return timedelta(*content)
    return _rebuild(kind, content)


def _rebuild(kind: str, content: Any) -> Any:
    from importlib import import_module

    module, _, name = kind.partition(".")
    try:
        cls: Any = getattr(import_module(_MODEL + module), name)
        if cls.__module__ != _MODEL + module:  # what the module itself only uses
            raise TypeError(f"{kind} is no kind of the model")
        if issubclass(cls, Enum):
            return cls[content]
        if issubclass(cls, tuple):
            return cls(*[_decode(one) for one in content])
        if isinstance(content, str):
            return cls.parse(content)
        return cls(**{field: _decode(one) for field, one in content.items()})
    except (ImportError, AttributeError, TypeError, KeyError) as error:
        raise ConfigError(
            f"cannot read a container's options: {kind} is not known here",
            hint="a later version of containerkit made it",
        ) from error
