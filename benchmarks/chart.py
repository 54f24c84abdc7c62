"""Horizontal bar charts as SVG, readable on light and dark pages.

Owns the drawing only.  Axes start at zero; a thin line over each bar runs from p10 to p90; the
value stands at the bar's end, with its ratio to the first of our own bars.
"""

from __future__ import annotations

from html import escape

from benchmarks.results import Chart, Series

_WIDTH = 760
_LABEL = 250
_RIGHT = 150
_ROW = 30
_BAR = 16
_TOP = 44
_STYLE = """
  text { font: 13px system-ui, 'DejaVu Sans', sans-serif; fill: #24292f; }
  .title { font-size: 15px; font-weight: 600; }
  .value { font-size: 12px; }
  .peer { fill: #8c959f; } .ours { fill: #1a7f64; }
  .spread { stroke: #24292f; stroke-width: 1; } .axis { stroke: #d0d7de; stroke-width: 1; }
  .page { fill: #ffffff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .page { fill: #0d1117; } .peer { fill: #6e7681; }
    .ours { fill: #3fb68b; } .spread { stroke: #e6edf3; } .axis { stroke: #30363d; }
  }
"""


def number(value: float) -> str:
    """Return three significant digits, without an exponent."""
    if value == 0:
        return "0"
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def draw(chart: Chart) -> str:
    """Return the chart as an SVG document."""
    rows = chart.series
    height = _TOP + _ROW * len(rows) + 14
    longest = max(series.high for series in rows)
    scale = (_WIDTH - _LABEL - _RIGHT) / longest if longest else 1.0
    ours = next((series for series in rows if series.name in chart.ours), None)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
            f' viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(chart.title)}">'
        ),
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height}" rx="6"/>',
        f'<text class="title" x="16" y="26">{escape(chart.title)}</text>',
        f'<line class="axis" x1="{_LABEL}" y1="{_TOP - 6}" x2="{_LABEL}" y2="{height - 10}"/>',
    ]
    for index, series in enumerate(rows):
        parts += _row(series, _TOP + _ROW * index, scale, chart, ours)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _row(series: Series, top: int, scale: float, chart: Chart, ours: Series | None) -> list[str]:
    kind = "ours" if series.name in chart.ours else "peer"
    middle = top + _BAR / 2
    width = max(series.median * scale, 1.5)
    end = _LABEL + max(width, series.high * scale) + 8
    value = f"{number(series.median)} {series.unit}"
    if ours is not None and kind == "peer" and chart.ratios:
        value += f"  ({number(series.median / ours.median)}×)"
    low, high = _LABEL + series.low * scale, _LABEL + series.high * scale
    return [
        (
            f'<text x="{_LABEL - 10}" y="{middle + 4.5:.1f}" text-anchor="end">'
            f"{escape(series.name)}</text>"
        ),
        f'<rect class="{kind}" x="{_LABEL}" y="{top}" width="{width:.1f}" height="{_BAR}" rx="2"/>',
        f'<line class="spread" x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>',
        f'<text class="value" x="{end:.1f}" y="{middle + 4.5:.1f}">{escape(value)}</text>',
    ]
