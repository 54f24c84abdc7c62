"""Run every case in Docker and in podman, and write down what came of it.

    python -m tests.peers.record [PART-OF-A-NAME]…

As root, with Debian's docker.io, runc and podman (tools/debian-packages peers).  A dockerd of its
own is started; its data, podman's, and both sockets are below one temporary directory.  No
container has a network.  With parts of names, cases with one of them are run anew, the others kept.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from benchmarks.daemons import Dockerd
from benchmarks.start import podman, podman_environment
from tests.peers import cases
from tests.peers.answer import Answer, ran, read, refused, write
from tests.support import ocibuild

TIMEOUT = 120
AT_ONCE = 3


@attrs.define
class Peer:
    """A client's command line, and the environment in which it finds its server or store."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    prefix: str
    directory: Path
    loading: threading.Lock = attrs.field(factory=threading.Lock)

    def __call__(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self.argv, *words],
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )

    def answer(self, number: int, case: cases.Case) -> Answer:
        """Load the case's image, run it, remove it."""
        tag = f"peers/case{number}:latest"
        archive = self.directory / f"{self.name}-{number}.tar"
        archive.write_bytes(ocibuild.docker_archive(cases.image(case), tag))
        with self.loading:  # Docker 20.10 may register one layer twice
            loaded = self("load", "--quiet", "--input", str(archive))
        archive.unlink()
        if loaded.returncode:
            return refused()
        name = f"{self.prefix}{tag}"
        try:
            done = self(
                "run", "--rm", "--network=none", *_options(case), name, *(case.command or ())
            )
        finally:
            self("rmi", "--force", name)
        if done.returncode in {125, 126, 127} and _is_of_the_engine(done.stderr.decode()):
            return refused(done.returncode)
        return ran(done.returncode, done.stdout.decode(errors="replace"), ordered=case.ordered)


def _options(case: cases.Case) -> Iterator[str]:
    yield f"--hostname={cases.HOSTNAME}"
    if case.entrypoint is not None:
        yield f"--entrypoint={case.entrypoint}"
    if case.user is not None:
        yield f"--user={case.user}"
    if case.workdir is not None:
        yield f"--workdir={case.workdir}"
    for name, value in case.env.items():
        yield f"--env={name}={value}"
    if case.memory is not None:
        yield f"--memory={case.memory}"
    if case.tty:
        yield "--tty"


def _is_of_the_engine(errors: str) -> bool:
    return any(line.startswith(("docker: ", "Error: ")) for line in errors.splitlines())


@contextlib.contextmanager
def _peers() -> Iterator[list[Peer]]:
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ck-peers-")))
        program = shutil.which("podman")
        if program is None or shutil.which("dockerd") is None:
            sys.exit("dockerd and podman are needed: tools/debian-packages peers")
        server = stack.enter_context(Dockerd(place / "docker", place / "docker-run"))
        docker = Peer("docker", [server.client], server.environment, "", place)
        environment = podman_environment(place)
        argv = podman(program, place / "podman")
        yield [docker, Peer("podman", argv, environment, "localhost/", place)]


def _versions(peers: Sequence[Peer]) -> dict[str, str]:
    said = {peer.name: peer("version", "--format", "{{.Version}}") for peer in peers[1:]}
    server = peers[0]("version", "--format", "{{.Server.Version}}")
    runtime = subprocess.run(["runc", "--version"], capture_output=True, text=True, check=True)
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return {
        "docker": server.stdout.decode().strip(),
        **{name: done.stdout.decode().strip() for name, done in said.items()},
        "runc": runtime.stdout.split()[2],
        "linux": ".".join(os.uname().release.split(".")[:2]),
        "control groups": "version 2" if unified else "version 1",
    }


def _is_of(name: str, parts: Sequence[str]) -> bool:
    return any(part in name for part in parts)


def main(*parts: str) -> None:
    table = cases.table()
    kept = read()["cases"] if parts else {}
    found = {name: kept[name] for name in table if name in kept and not _is_of(name, parts)}
    with _peers() as peers, ThreadPoolExecutor(AT_ONCE * len(peers)) as pool:
        asked = {
            (name, peer.name): pool.submit(peer.answer, number, case)
            for number, (name, case) in enumerate(table.items())
            if name not in found
            for peer in peers
        }
        for (name, peer_name), answer in asked.items():
            found.setdefault(name, {})[peer_name] = answer.result()
            sys.stderr.write(f"{name}: {peer_name}: {answer.result()}\n")
        write(_versions(peers), found)


if __name__ == "__main__":
    main(*sys.argv[1:])
