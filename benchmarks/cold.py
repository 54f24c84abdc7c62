"""Section import: what a fresh process pays for `import containerkit`, and for one first run.

The run is of the host image on a root that was used before: cold process, warm root.
"""

from __future__ import annotations

import sys

from benchmarks import host, images
from benchmarks.options import Options
from benchmarks.results import Bar, Chart, Line, Section, Series
from benchmarks.runners import Command

_BARE = "python -c pass"
_IMPORT = "python -c 'import containerkit'"
_RUN = "python -c 'ck.run(None, [\"true\"])'"
_IMPORT_MS = 20.0
_RUN_MS = 150.0

_METHOD = [
    (
        "Whole processes, spawned and waited for, in turn. The run is "
        '`import containerkit as ck; ck.run(None, ["true"])`: the host image, a root that was '
        "used before, a process that was not."
    )
]


def run(options: Options) -> Section:
    """Measure the section."""
    section = Section("import", "A fresh Python process", list(_METHOD))
    with host.fresh_ext4(images.cache_directory()) as disk:
        environment = {"CONTAINERKIT_ROOT": str(disk / "root"), **host.CACHED_BYTECODE}
        programs = {_BARE: "pass"}
        if not options.peers_only:
            programs[_IMPORT] = "import containerkit"
            programs[_RUN] = "import containerkit as ck; ck.run(None, ['true'], check=True)"
        commands = {
            name: Command(name, [sys.executable, "-c", program], environment)
            for name, program in programs.items()
        }
        for command in commands.values():
            command.check()
        rounds = options.rounds or (3 if options.quick else 50)
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                times[name] += command.block(1)
    _report(section, {name: tuple(found) for name, found in times.items()})
    return section


def _report(section: Section, times: dict[str, tuple[float, ...]]) -> None:
    bare = Series(_BARE, times[_BARE])
    section.lines.append(Line(_BARE, bare))
    if _IMPORT not in times:
        return
    extra = tuple(ours - base for ours, base in zip(times[_IMPORT], times[_BARE], strict=True))
    imported, ran = Series(_IMPORT, times[_IMPORT]), Series(_RUN, times[_RUN])
    section.lines += [
        Line(_IMPORT, imported, bare),
        Line(
            "import containerkit, above bare Python",
            Series("difference", extra),
            None,
            Bar("at most", _IMPORT_MS),
            "value",
        ),
        Line(_RUN, ran, bare, Bar("at most", _RUN_MS), "value"),
    ]
    section.charts.append(
        Chart(
            "import",
            "A fresh Python process, spawn to exit",
            (bare, imported, ran),
            frozenset({_IMPORT, _RUN}),
            ratios=False,
        )
    )
