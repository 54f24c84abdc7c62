"""This library inside a container of Docker's with its default rights."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.nested import program
from tests.support import leaks
from tests.support.patience import until

CHECKOUT = Path(program.__file__).parents[3]
IMAGE = "test-nested"

pytestmark = [
    pytest.mark.needs("host root"),
    pytest.mark.needs("dockerd"),
    pytest.mark.needs("docker"),
]


def skeleton() -> bytes:
    """An image without files but the links that lead to what is bound in."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name in ("bin", "sbin", "lib", "lib32", "lib64"):
            path = Path("/", name)
            if path.is_symlink():
                archive.add(path, name)
        passwd = tarfile.TarInfo("etc/passwd")
        content = b"root:x:0:0:root:/root:/bin/sh\n"
        passwd.size = len(content)
        archive.addfile(passwd, io.BytesIO(content))
    return made.getvalue()


class Docker:
    """A dockerd with data, state and socket of its own."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "docker.sock"
        self.log = folder / "log"
        self.groups = f"containerkit-test-docker-{os.getpid()}"
        config = folder / "daemon.json"
        config.write_text("{}\n")
        argv = [
            "unshare",
            "--mount",  # what it leaves mounted goes with it
            "dockerd",
            f"--config-file={config}",
            f"--data-root={folder / 'data'}",
            f"--exec-root={folder / 'exec'}",
            f"--pidfile={folder / 'docker.pid'}",
            f"--host=unix://{self._socket}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--cgroup-parent=/{self.groups}",
            "--storage-driver=vfs",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--log-level=error",
        ]
        environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
            )

    def answers(self) -> bool:
        return self.process.poll() is not None or self("version").returncode == 0

    def __call__(self, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = ["docker", f"--host=unix://{self._socket}", *words]
        return subprocess.run(command, input=data, capture_output=True, check=False)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()
        for mount in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
            for group, _, _ in os.walk(mount / self.groups, topdown=False):
                os.rmdir(group)


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    leaks.BASE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="docker-", dir=leaks.BASE) as folder:
        made = Docker(Path(folder))
        try:
            until(made.answers)
            if made.process.poll() is not None:
                pytest.skip(f"dockerd does not run here: {made.log.read_text()[-300:]}")
            imported = made("import", "-", IMAGE, data=skeleton())
            assert imported.returncode == 0, imported.stderr
            yield made
        finally:
            made.end()


@pytest.mark.parametrize(
    ("scenario", "network"), [("run", "none"), ("kept", "none"), ("image", "host")]
)
def test_what_it_does(docker: Docker, busybox: str, scenario: str, network: str) -> None:
    inside(docker, scenario, busybox, f"--network={network}")


USERS = {"root": (), "somebody": ("--user=1000:1000", "--tmpfs=/tmp:exec,mode=1777")}
ALLOWED = ("--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined")
UNCOVERED = "--security-opt=systempaths=unconfined"


@pytest.mark.parametrize("user", USERS)
def test_namespaces_without_a_proc_of_their_own(docker: Docker, user: str) -> None:
    inside(docker, "covered", "", "--network=none", *ALLOWED, *USERS[user])


@pytest.mark.parametrize("user", USERS)
def test_all_that_is_needed_may_be_had(docker: Docker, busybox: str, user: str) -> None:
    inside(docker, "apart", busybox, "--network=host", *ALLOWED, UNCOVERED, *USERS[user])


def inside(docker: Docker, scenario: str, reference: str, *options: str) -> None:
    """Have a scenario of `program` done in a container of Docker's."""
    wanted = {str(CHECKOUT), sys.prefix, sys.base_prefix, "/usr"}
    binds = [word for path in sorted(wanted) for word in ("--volume", f"{path}:{path}:ro")]
    environment = {"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
    settings = [word for pair in environment.items() for word in ("--env", "=".join(pair))]
    command = [sys.executable, "-m", program.__name__, scenario, "/tmp", reference]
    result = docker("run", "--rm", *options, *binds, *settings, IMAGE, *command)
    assert result.returncode == 0, (result.stdout + result.stderr).decode()
