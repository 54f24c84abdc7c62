"""What a host offers, feature by feature, as `engine.probe()` reports it.

Owns the values and their table.  Must not look at the host: `care.probe` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import attrs


class DegradedWarning(UserWarning):
    """Containers are less isolated here than elsewhere; the message says in what.

    Given once by an engine that can have no namespaces, before its first start.  Where that is not
    acceptable: ``warnings.simplefilter("error", ck.DegradedWarning)``, and nothing starts.
    """


class HostFeature(NamedTuple):
    """One thing that a host may offer.

    Attributes:
        name: short, unique in its report.
        present: whether it is there and may be used by this process.
        found: what was seen, in a few words.
        needed_for: what containerkit does with it.
        stands_in: what happens without it.
        knob: what gives it, where something does: a setting, a package, a way to start.
    """

    name: str
    present: bool
    found: str
    needed_for: str
    stands_in: str
    knob: str


@attrs.frozen
class HostReport:
    """Every feature of a host that containerkit knows to use; prints as a table.

    Args:
        features: in the order in which a start needs them.
    """

    features: tuple[HostFeature, ...]

    @property
    def missing(self) -> tuple[HostFeature, ...]:
        """Those that are not there, or may not be used."""
        return tuple(one for one in self.features if not one.present)

    def __getitem__(self, name: str) -> HostFeature:
        for one in self.features:
            if one.name == name:
                return one
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return any(one.name == name for one in self.features)

    def __iter__(self) -> Iterator[HostFeature]:
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)

    def _repr_html_(self) -> str:
        from containerkit.model import html

        return html.grid(
            {
                "feature": one.name,
                "there": "yes" if one.present else "NO",
                "found": one.found,
                "needed for": one.needed_for,
                "without it": "" if one.present else one.stands_in,
                "to have it": "" if one.present else one.knob,
            }
            for one in self.features
        )

    def __str__(self) -> str:
        wide = max((len(one.name) for one in self.features), default=0)
        lines = []
        for one in self.features:
            lines.append(f"{one.name:{wide}}  {'yes' if one.present else 'NO ':3}  {one.found}")
            margin = " " * (wide + 7)
            lines.append(f"{margin}for {one.needed_for}")
            if not one.present:
                lines.append(f"{margin}without: {one.stands_in}")
                if one.knob:
                    lines.append(f"{margin}to have it: {one.knob}")
        return "\n".join(lines)
