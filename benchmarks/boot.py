"""Section boot: a container's start beside a virtual machine's boot.

The virtual machine is user-mode-linux (a whole Linux kernel as an ordinary program), booted to the
first line its init writes, from the same root file system that the container gets.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import host, images, oci
from benchmarks.command import BenchmarkError, call
from benchmarks.daemons import Registry
from benchmarks.options import Options
from benchmarks.results import Chart, Line, Section, Series
from benchmarks.runners import Server

OURS = "containerkit"
UML = "user-mode-linux"
_MARK = b"containerkit-bench: init runs"
_TIMEOUT = 120.0

_METHOD = [
    (
        "The virtual machine is Debian's user-mode-linux, held to one CPU (it is slower on two), "
        "its root the busybox tree by hostfs; measured from spawn to the first line that its init "
        "writes. The container is measured to its very end: create, start, wait, remove."
    )
]


def make_root(directory: Path) -> Path:
    """Unpack busybox and add an init that writes the mark."""
    directory.mkdir(parents=True)
    for blob in oci.layout_layers(images.layout("busybox")):
        call(["tar", "-xzf", blob, "-C", directory])
    init = directory / "init"
    init.write_text(f"#!/bin/sh\necho '{_MARK.decode()}'\nexec sleep 1000\n")
    init.chmod(0o755)
    console = directory / "dev" / "console"
    os.mknod(console, stat.S_IFCHR | 0o600, os.makedev(5, 1))
    return directory


def boot_uml(root: Path, scratch: Path) -> float:
    """Boot user-mode-linux until its init writes the mark; return milliseconds."""
    argv = [
        "taskset",
        "--cpu-list",
        str(min(os.sched_getaffinity(0))),
        str(host.tool("linux.uml")),
        "mem=256M",
        "root=/dev/root",
        "rootfstype=hostfs",
        f"rootflags={root}/",
        "ro",
        "init=/init",
        "lsm=",
        "panic=-1",
        "quiet",
        "con=null",
        "con0=null,fd:1",
        f"umid=bench-{os.getpid()}",
        f"uml_dir={scratch}/",
    ]
    environment = {"PATH": os.environ["PATH"], "HOME": str(scratch), "TMPDIR": "/dev/shm"}
    begin = time.perf_counter()
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    ) as uml:
        assert uml.stdout is not None
        seen = b""
        try:
            while _MARK not in seen:
                data = os.read(uml.stdout.fileno(), 65536)
                if not data or time.perf_counter() - begin > _TIMEOUT:
                    tail = seen[-1500:].decode(errors="replace")
                    raise BenchmarkError(f"user-mode-linux did not reach its init: {tail}")
                seen += data
            return (time.perf_counter() - begin) * 1e3
        finally:  # the group: kernel, its I/O helper, all guest processes
            with contextlib.suppress(ProcessLookupError):
                os.killpg(uml.pid, signal.SIGKILL)


def run(options: Options) -> Section:
    """Measure the section."""
    section = Section("boot", "A container and a virtual machine", list(_METHOD))
    if host.tool("linux.uml") is None:
        section.notes.append("no user-mode-linux on this machine: left out")
        return section
    rounds = options.rounds or (2 if options.quick else 10)
    times: dict[str, list[float]] = {UML: []}
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(host.fresh_ext4(images.cache_directory()))
        root = make_root(disk / "uml-root")
        scratch = disk / "uml"
        scratch.mkdir()
        server: Server | None = None
        if not options.peers_only:
            registry = stack.enter_context(Registry(disk))
            registry.push("busybox")
            worker = [sys.executable, "-m", "benchmarks.worker", str(disk / "engine")]
            server = Server(OURS, [*worker, registry.reference("busybox"), "0"], greets=True)
            stack.callback(server.close)
            times = {OURS: []} | times
        for at in range(rounds):
            options.say(f"boot: round {at + 1} of {rounds}")
            times[UML].append(boot_uml(root, scratch))
            if server:
                times[OURS] += server.block(1, gap=0.1)
        shutil.rmtree(root)
    series = {name: Series(name, tuple(found)) for name, found in times.items()}
    for name, found in series.items():
        to = None if name == OURS else series.get(OURS)
        section.lines.append(Line(f"boot: {name}", found, to))
    section.charts.append(
        Chart("boot", "To a running init", tuple(series.values()), frozenset({OURS}))
    )
    return section
