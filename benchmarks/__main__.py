"""Run the benchmarks: `python -m benchmarks [--quick] [section …]`.

Without names: all sections, and docs/benchmarks.md is written.  Needs root: peers' daemons, loop
devices and cgroups do.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

from benchmarks import host, images, report
from benchmarks.command import BenchmarkError
from benchmarks.options import Options
from benchmarks.results import Section

_PROJECT = Path(__file__).resolve().parent.parent
_SECTIONS = {
    "start": ("benchmarks.start", ["busybox"]),
    "pull": ("benchmarks.pull", ["pysci", "npm"]),
    "import": ("benchmarks.cold", []),
    "boot": ("benchmarks.boot", ["busybox"]),
    "size": ("benchmarks.size", []),
    "exec": ("benchmarks.exec", ["busybox"]),
    "parallel": ("benchmarks.parallel", ["busybox"]),
    "density": ("benchmarks.density", ["busybox"]),
    "security": ("benchmarks.security", ["busybox"]),
}
_PROGRAMS = ["dockerd", "containerd", "runc", "crun", "bwrap", "podman", "igzip", "linux.uml"]
_QUIET = 0.5
_REQUIRED = ["docker-registry", "skopeo", "mkfs.ext4", "losetup", "unshare", "ip", "tar", "gzip"]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(_SECTIONS))
    parser.add_argument("--quick", action="store_true", help="few rounds; writes no page")
    parser.add_argument("--peers-only", action="store_true", help="leave containerkit out")
    parser.add_argument("--rounds", type=int, help="rounds instead of each section's own number")
    parser.add_argument(
        "--containers", type=int, default=1000, help="how many the density section keeps alive"
    )
    parser.add_argument(
        "--output", type=Path, help="the page to write (default docs/benchmarks.md)"
    )
    parser.add_argument("--samples", type=Path, help="also write every sample, as JSON")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    unknown = [name for name in parsed.sections if name not in _SECTIONS]
    if unknown:
        parser.error(f"no section named {', '.join(unknown)}; there are {', '.join(_SECTIONS)}")
    parsed.sections = parsed.sections or list(_SECTIONS)
    return parsed


def _prepare(sections: list[str], options: Options) -> None:
    """Do what needs the network and the outer namespaces."""
    if os.geteuid() != 0:
        raise BenchmarkError("cannot run the benchmarks as an ordinary user; hint: run as root")
    host.remove_debris(images.cache_directory())
    absent = host.missing(_REQUIRED)
    if absent:
        words = ", ".join(absent)
        raise BenchmarkError(f"cannot run the benchmarks without {words}; hint: make bench as root")
    load = os.getloadavg()[0]
    if load > _QUIET:
        options.say(f"the machine is busy (load {load:.1f}): ratios will be rough")
    for name in host.missing(_PROGRAMS):
        options.say(f"no {name} on this machine: what needs it is left out")
    wanted = {name for section in sections for name in _SECTIONS[section][1]}
    images.make(sorted(wanted), options.say)


def _measure(parsed: argparse.Namespace, options: Options) -> int:
    host.prepare_namespaces()
    facts = host.facts()
    found: list[Section] = []
    failed: list[str] = []
    try:
        for name in parsed.sections:
            options.say(f"section {name}")
            try:
                found.append(importlib.import_module(_SECTIONS[name][0]).run(options))
            except (BenchmarkError, OSError) as error:
                options.say(f"section {name} failed: {error}")
                failed.append(name)
    finally:
        host.remove_cgroups()
        print(report.table(found))
    if failed:
        print(f"benchmarks: failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    complete = set(parsed.sections) == set(_SECTIONS) and not (options.quick or options.peers_only)
    output = parsed.output or (_PROJECT / "docs" / "benchmarks.md" if complete else None)
    if output:
        report.write(found, facts, output)
        print(f"\nwritten: {output}")
    if parsed.samples:
        report.save_samples(found, parsed.samples)
    return 0


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parsed = _parse()
    options = Options(parsed.quick, parsed.peers_only, parsed.rounds, parsed.containers)
    try:
        if parsed.inside:
            return _measure(parsed, options)
        _prepare(parsed.sections, options)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    os.chdir(_PROJECT)
    host.enter_namespaces(sys.argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
