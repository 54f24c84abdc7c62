"""The table on the terminal, and docs/benchmarks.md with its charts.

Owns the wording and the files; takes `Section`s and facts, measures nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.chart import draw, number
from benchmarks.results import Line, Section

_INTRODUCTION = """\
# Benchmarks

<!-- Written by `make bench`; edit benchmarks/ instead. -->

containerkit and its peers, measured side by side in one run on one machine. A ratio says how many
times the line's figure is what it is compared with, most often containerkit's own; the spread is
p10–p90. Ratios carry over to other machines better than times do, and neither carries over well:
run `make bench` on yours.
"""


def _figure(line: Line) -> str:
    series = line.series
    text = f"{number(series.median)} {series.unit}"
    if len(series.samples) > 1:
        text += f" ({number(series.low)}–{number(series.high)})"
    return text


def _ratio(line: Line) -> str:
    if line.ratio is None:
        return ""
    text = f"{number(line.ratio)}×"
    if line.ratio_spread is not None:
        low, high = line.ratio_spread
        text += f" ({number(low)}–{number(high)})"
    return text


def _bar(line: Line) -> str:
    if line.bar is None:
        return ""
    sign = "≥" if line.bar.kind == "at least" else "≤"
    unit = f" {line.series.unit}" if line.bar_on == "value" else "×"
    return f"{sign} {line.bar.value:g}{unit} {'met' if line.met else 'MISSED'}"


_HEADINGS = ("what", "median (p10–p90)", "n", "ratio", "to", "bar")


def _cells(line: Line) -> tuple[str, ...]:
    to = "" if line.to is None else line.to.name
    count = str(len(line.series.samples))
    return line.what, _figure(line), count, _ratio(line), to, _bar(line)


def table(sections: list[Section]) -> str:
    """Return all lines as one aligned table for a terminal."""
    rows: list[tuple[str, ...]] = [_HEADINGS]
    for section in sections:
        rows.append((f"[{section.name}] {section.title}", "", "", "", "", ""))
        rows += [_cells(line) for line in section.lines]
    plain = [row for row in rows if any(row[1:])]
    widths = [max(len(row[column]) for row in plain) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        if any(row[1:])
        else f"\n{row[0]}"
        for row in rows
    ]
    bars = [line.met for section in sections for line in section.lines if line.met is not None]
    lines += ["", f"{sum(bars)} of {len(bars)} bars met"]
    notes = [f"note ({s.name}): {note}" for s in sections for note in s.notes]
    return "\n".join([*lines, "", *notes])


def write(sections: list[Section], facts: list[tuple[str, str]], output: Path) -> None:
    """Write the page, its charts beside it, and the samples as JSON."""
    pictures = output.parent / output.stem
    pictures.mkdir(parents=True, exist_ok=True)
    text = [_INTRODUCTION, "## Machine and versions\n", "| | |", "| --- | --- |"]
    text += [f"| {name} | {value} |" for name, value in facts]
    for section in sections:
        text += ["", f"## {section.title}", ""]
        text += [f"{paragraph}\n" for paragraph in section.method]
        for chart in section.charts:
            (pictures / f"{chart.name}.svg").write_text(draw(chart), encoding="utf-8")
            text += [f"![{chart.title}]({output.stem}/{chart.name}.svg)", ""]
        text += ["| " + " | ".join(_HEADINGS) + " |", "|" + " --- |" * len(_HEADINGS)]
        text += ["| " + " | ".join(_cells(line)) + " |" for line in section.lines]
        text += ["", *[f"Note: {note}\n" for note in section.notes]]
    output.write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")


def save_samples(sections: list[Section], output: Path) -> None:
    """Write every sample as JSON, for a closer look than the table gives."""
    samples = {
        section.name: {
            line.what: {"unit": line.series.unit, "samples": line.series.samples}
            for line in section.lines
        }
        for section in sections
    }
    output.write_text(json.dumps(samples, indent=1) + "\n", encoding="utf-8")
