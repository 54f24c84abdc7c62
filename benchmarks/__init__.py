"""Benchmarks: containerkit and its peers side by side in one run, reported as ratios.

Run `python -m benchmarks` (or `make bench`); `--help` lists the sections.  Nothing here is part of
the library.  The flow: `__main__` installs packages and makes images, enters private namespaces,
runs the sections, hands their `Comparison`s to `report`, which writes `docs/benchmarks.md`.
"""
