"""What a section hands to the report: samples, their spread, ratios, bars to meet.

Pure values; no section and no formatting is known here.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


def quantile(samples: Sequence[float], share: float) -> float:
    """Return the sample below which `share` (0 to 1) of the others lie, interpolated."""
    ordered = sorted(samples)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


@dataclass(frozen=True)
class Series:
    """Samples of one thing, in the order they were taken."""

    name: str
    samples: tuple[float, ...]
    unit: str = "ms"

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def low(self) -> float:
        return quantile(self.samples, 0.1)

    @property
    def high(self) -> float:
        return quantile(self.samples, 0.9)


@dataclass(frozen=True)
class Bar:
    """What a ratio or a figure has to reach."""

    kind: str
    """`at least` or `at most`."""
    value: float

    def met(self, figure: float) -> bool:
        return figure >= self.value if self.kind == "at least" else figure <= self.value


@dataclass(frozen=True)
class Line:
    """One line of the table: a measured thing, and its ratio to what it is compared with."""

    what: str
    series: Series
    to: Series | None = None
    """The ratio is `series` over this; most often containerkit, in the same rounds."""
    bar: Bar | None = None
    bar_on: str = "ratio"
    """`ratio`, or `value`: the series' own median."""

    @property
    def ratio(self) -> float | None:
        return None if self.to is None else self.series.median / self.to.median

    @property
    def ratio_spread(self) -> tuple[float, float] | None:
        """p10 and p90 of the ratio taken round by round, where both have the same rounds."""
        if self.to is None or self.to is self.series:
            return None
        mine, other = self.series.samples, self.to.samples
        if len(mine) != len(other) or len(mine) < 2:
            return None
        ratios = [a / b for a, b in zip(mine, other, strict=True)]
        return quantile(ratios, 0.1), quantile(ratios, 0.9)

    @property
    def met(self) -> bool | None:
        if self.bar is None:
            return None
        figure = self.series.median if self.bar_on == "value" else self.ratio
        return None if figure is None else self.bar.met(figure)


@dataclass(frozen=True)
class Chart:
    """A bar chart: the medians of some series, one of them ours."""

    name: str
    title: str
    series: tuple[Series, ...]
    ours: frozenset[str]
    ratios: bool = True
    """Write each peer's ratio to the first of ours at its bar."""


@dataclass
class Section:
    """What one section found: how it measured, its lines, its charts, what it left out."""

    name: str
    title: str
    method: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
