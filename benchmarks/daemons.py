"""The servers a run needs: a registry and a dockerd, on loopback of the run's own namespaces.

Each is a context manager that ends its process by its own id.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks import host, images
from benchmarks.command import BenchmarkError, call

_START_TIMEOUT = 60.0


class Daemon:
    """A server process: ready when `ready()` says so, ended by SIGTERM."""

    def __init__(
        self, argv: Sequence[str | Path], log: Path, ready: Callable[[], bool], env: dict[str, str]
    ) -> None:
        self._argv = [str(word) for word in argv]
        self._log = log
        self._ready = ready
        self._env = os.environ | env
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env
            )
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._ready():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.stop()
                tail = self._log.read_text(errors="replace")[-2000:]
                raise BenchmarkError(f"{self._argv[0]} did not become ready: {tail}")
            time.sleep(0.02)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process and wait for it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


class Registry(Daemon):
    """Debian's docker-registry, holding the benchmark's images."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        storage = directory / "registry"
        storage.mkdir(parents=True, exist_ok=True)
        config = directory / "registry.yml"
        config.write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {json.dumps(str(storage))}}}}}\n"
            f'http: {{addr: "127.0.0.1:{self.port}"}}\n'
        )
        argv = ["docker-registry", "serve", str(config)]
        super().__init__(argv, directory / "registry.log", self._answers, {})

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def reference(self, image: str) -> str:
        """Return the reference under which an image is found here."""
        return f"127.0.0.1:{self.port}/bench/{image}:latest"

    def push(self, image: str) -> None:
        """Copy an image of the cache into the registry."""
        source = f"oci:{images.layout(image)}:latest"
        target = f"docker://{self.reference(image)}"
        call(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", source, target])


class Dockerd(Daemon):
    """A dockerd with its own containerd: data, state, socket and cgroups apart from any other."""

    def __init__(self, data: Path, run: Path) -> None:
        run.mkdir(parents=True, exist_ok=True)
        self.run = run
        self.data = data
        self._socket = run / "docker.sock"
        config = run / "daemon.json"
        config.write_text("{}\n")
        client = run / "client"
        client.mkdir(exist_ok=True)
        self.environment = {"DOCKER_HOST": f"unix://{self._socket}", "DOCKER_CONFIG": str(client)}
        self.client = str(host.tool("docker"))
        argv = [
            str(host.tool("dockerd")),
            f"--config-file={config}",
            f"--data-root={data}",
            f"--exec-root={run / 'exec'}",
            f"--pidfile={run / 'docker.pid'}",
            f"--host=unix://{self._socket}",
            f"--cgroup-parent=/{host.CGROUP}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            "--storage-driver=overlay2",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--log-level=error",
        ]
        super().__init__(argv, run / "dockerd.log", self._answers, {})

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(self._socket)) != 0:
                return False
        done = subprocess.run(
            [self.client, "version"],
            env=os.environ | self.environment,
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def docker(self, *arguments: str) -> str:
        """Run the docker client against this daemon and return its output."""
        return call([self.client, *arguments], env=os.environ | self.environment).strip()
