"""What happened in an engine's root.

Owns the `Event` value, the names of kinds, and the filter.  Must not read files; `state.events`
keeps them, `stdio.events` follows them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, TypedDict

from containerkit.errors import ConfigError

KINDS: Final = frozenset(
    {
        "create", "start", "die", "oom", "restart", "stop", "kill", "pause", "unpause", "health",
        "rename", "update", "remove", "exec", "exec-die", "attach", "detach", "commit", "export",
        "pull", "tag", "untag", "delete", "load", "import", "build", "prune",
        "mount", "unmount", "connect", "disconnect",
    }
)  # fmt: skip
"""Every kind that exists; of which a version knows some."""


class Event(NamedTuple):
    """One thing that happened.

    Attributes:
        time: when, UTC.
        kind: one of `KINDS`, or one of a later version.
        id: of the container or image.
        name: of the container at that time; "" when it is not known any more.
        image: reference or digest of its image; "" when it is not known.
        attributes: what the kind tells: "die" has code, signal and cause as an `Exit` has them (only
            the cause when it was lost), "health" has status, "kill" has signal.
    """

    time: datetime
    kind: str
    id: str
    name: str
    image: str
    attributes: Mapping[str, Any]


class EventFilters(TypedDict, total=False):
    """The filters of ``events``, as `EventFilter` takes them."""

    kind: str | Collection[str] | None
    container: object
    image: str | Collection[str] | None
    label: str | Collection[str] | Mapping[str, str | None] | None


class EventFilter:
    """Which events somebody wants to see; all given must match.

    Args:
        kind: one kind or several.
        container: ids, prefixes of at least 4 digits of ids, or names; one or several.
        image: references or digests, one or several.
        label: labels of the container: "key", "key=value", several of them, or a mapping; all
            must be there.

    Raises:
        ConfigError: an unknown kind or filter.
    """

    __slots__ = ("_containers", "_images", "_kinds", "_labels")

    def __init__(
        self,
        *,
        kind: str | Collection[str] | None = None,
        container: object = None,
        image: str | Collection[str] | None = None,
        label: str | Collection[str] | Mapping[str, str | None] | None = None,
    ) -> None:
        self._kinds = _texts("kind", kind)
        for name in self._kinds - KINDS:
            raise ConfigError(f"there is no kind of event {name!r}", hint=", ".join(sorted(KINDS)))
        self._containers = _texts("container", container)
        self._images = _texts("image", image)
        self._labels = labels_wanted(label)

    @property
    def needs_labels(self) -> bool:
        """Whether the labels of an event's container are asked for."""
        return bool(self._labels)

    def wants_kind(self, kind: str) -> bool:
        """Whether events of this kind can pass at all: asked before anything is looked up."""
        return not self._kinds or kind in self._kinds

    def wants(self, event: Event, labels: Mapping[str, str]) -> bool:
        """Whether an event passes; *labels* are its container's."""
        return (
            self.wants_kind(event.kind)
            and (not self._containers or any(_names(text, event) for text in self._containers))
            and (not self._images or event.image in self._images)
            and all(
                key in labels and value in (None, labels[key])
                for key, value in self._labels.items()
            )
        )


def _names(text: str, event: Event) -> bool:
    return text in (event.name, event.id) or (len(text) >= 4 and event.id.startswith(text))


def _texts(what: str, value: object) -> frozenset[str]:
    if value is None:
        return frozenset()
    if isinstance(value, str):
        return frozenset({value})
    identity = getattr(value, "id", None)  # a Container, or an Image
    if isinstance(identity, str):
        return frozenset({identity})
    try:
        items = [getattr(item, "id", item) for item in value]  # type: ignore[attr-defined]
    except TypeError:
        items = [None]
    if not all(isinstance(item, str) for item in items):
        raise ConfigError(f"{what}: {value!r} is neither a text nor several")
    return frozenset(items)


def labels_wanted(value: object) -> dict[str, str | None]:
    """Return what a filter by labels asks for: values by key, None for any.

    Args:
        value: "key", "key=value", several of them, a mapping, or None.

    Raises:
        ConfigError: none of these.
    """
    if isinstance(value, Mapping):
        for key, text in value.items():
            if not isinstance(key, str) or not isinstance(text, str | None):
                raise ConfigError(
                    f"label {key!r}: {text!r} are not both text", hint='as {"app": "web"}'
                )
        return dict(value)
    found: dict[str, str | None] = {}
    for text in _texts("label", value):
        key, equals, wanted = text.partition("=")
        found[key] = wanted if equals else None
    return found
