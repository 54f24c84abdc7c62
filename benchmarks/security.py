"""Section security: what the defences of a container cost at its start.

The presets start beside each other and beside a container without a filter, blocks in turn, as in the
section start; then the filter alone: compiled anew, and loaded by a process that does nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable

from benchmarks import host, images
from benchmarks.command import BenchmarkError
from benchmarks.daemons import Registry
from benchmarks.options import Options
from benchmarks.results import Bar, Line, Section, Series
from benchmarks.runners import Server
from containerkit.launch.seccomp import compile_profile
from containerkit.launch.seccomp_policies import POLICIES
from containerkit.model.security import DEFAULT_CAPABILITIES

_DROPPED = 2
_GAP = 0.1
_SECURITIES = ("unconfined", "default", "strict")
_STRICT = 1.5
_COMPILE_MS, _LOAD_MS = 2.0, 0.1

_METHOD = [
    (
        "Starts of `/bin/true` as in the section start, by `engine.run(image, ['/bin/true'], "
        "security=…)`, the three in turn. `unconfined` is `default` without its filter of system "
        "calls; `strict` has a user namespace, id-mapped layers, limits on memory and CPU, and a read-only root on top."
    ),
    (
        "A filter is compiled with an empty cache, and loaded (seccomp(2), with no_new_privs) by a "
        "fork of the measuring process that ends afterwards."
    ),
]


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _load(program: bytes) -> float:
    """Load a filter in a child; return milliseconds."""
    library = ctypes.CDLL(None, use_errno=True)
    made = _Program(len(program) // 8, program)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        library.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        begin = time.perf_counter_ns()
        failed = library.prctl(22, 2, ctypes.byref(made), 0, 0)  # PR_SET_SECCOMP, a filter
        took = time.perf_counter_ns() - begin
        os.write(writer, str(-1 if failed else took).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        took = int(answer.read() or -1)
    os.waitpid(child, 0)
    if took < 0:
        raise BenchmarkError("cannot load a filter of system calls")
    return took / 1e6


def _compile(name: str) -> tuple[float, bytes]:
    """Compile a policy anew; return milliseconds, and its program."""
    compile_profile.cache_clear()
    begin = time.perf_counter_ns()
    machine = os.uname().machine
    program = compile_profile(POLICIES[name], machine, DEFAULT_CAPABILITIES, own_userns=False)
    return (time.perf_counter_ns() - begin) / 1e6, program


def _filters(section: Section, rounds: int) -> None:
    for name in POLICIES:
        compiled = [_compile(name) for _ in range(rounds)]
        program = compiled[0][1]
        times = Series(f"compile {name}", tuple(took for took, _ in compiled))
        loads = Series(f"load {name}", tuple(_load(program) for _ in range(rounds)))
        size = len(program) // 8
        section.lines += [
            Line(
                f"filter {name}, {size} instructions: compiled",
                times,
                None,
                Bar("at most", _COMPILE_MS),
                "value",
            ),
            Line(f"filter {name}: loaded", loads, None, Bar("at most", _LOAD_MS), "value"),
        ]


def _starts(section: Section, servers: list[Server], options: Options) -> None:
    rounds, block, lone = (2, 3, 3) if options.quick else (20, 10, 50)
    rounds = options.rounds or rounds
    hot: dict[str, list[float]] = {server.name: [] for server in servers}
    cold: dict[str, list[float]] = {server.name: [] for server in servers}
    for at in range(rounds):
        options.say(f"security: round {at + 1} of {rounds}")
        for server in servers:
            hot[server.name] += server.block(block + _DROPPED)[_DROPPED:]
    for _ in range(lone):
        for server in servers:
            cold[server.name] += server.block(1, gap=_GAP)
    made: tuple[tuple[str, dict[str, list[float]], Callable[[str], Bar | None]], ...] = (
        ("back to back", hot, lambda name: Bar("at most", _STRICT) if name == "strict" else None),
        ("lone", cold, lambda _: None),
    )
    for how, times, bar in made:
        series = {name: Series(f"{name}, {how}", tuple(found)) for name, found in times.items()}
        for name, one in series.items():
            to = series["unconfined" if name == "default" else "default"]
            section.lines.append(
                Line(f"start, {how}: {name}", one, None if name == "unconfined" else to, bar(name))
            )


def run(options: Options) -> Section:
    """Measure the section."""
    section = Section("security", "What security costs", list(_METHOD))
    if options.peers_only:
        return section
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(host.fresh_ext4(images.cache_directory()))
        registry = stack.enter_context(Registry(disk))
        registry.push("busybox")
        servers = []
        for name in _SECURITIES:
            words = [disk / f"engine-{name}", registry.reference("busybox"), "0", name]
            argv = [sys.executable, "-m", "benchmarks.worker", *map(str, words)]
            try:
                server = Server(name, argv, greets=True)
            except BenchmarkError as error:
                section.notes.append(f"{name} does not start here and is left out: {error}")
                continue
            stack.callback(server.close)
            servers.append(server)
        _starts(section, servers, options)
    _filters(section, 5 if options.quick else 200)
    return section
