"""`Container.exec`: what a caller puts in and gets back."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import (
    CommandNotFound,
    ConfigError,
    InvalidStatus,
    LaunchError,
    NotExecutable,
    ProcessFailed,
)
from containerkit.runtime import facts
from tests.conftest import has_groups
from tests.integration.exec.look import launcher_of


def sh(box: ck.Container, script: str, **choices: object) -> str:
    """Run a script and return what it printed."""
    return str(box.exec(script, text=True, check=True, **choices).stdout)  # type: ignore[call-overload]


# ---- results


def test_output_code_and_digest(box: ck.Container) -> None:
    result = box.exec("echo out; echo err >&2; exit 3")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
    assert result.exit == ck.Exit(code=3)
    assert (result.returncode, result.truncated) == (3, False)
    assert result.argv == ("/bin/sh", "-c", "echo out; echo err >&2; exit 3")
    assert result.image_digest == box.image_digest
    assert result.duration > 0
    assert result.usage.max_rss > 0


def test_a_signal_is_told_as_one(box: ck.Container) -> None:
    result = box.exec(["sh", "-c", "kill -TERM $$"])
    assert result.exit == ck.Exit.by_signal(15)
    assert result.returncode == 128 + 15


def test_text_goes_both_ways(box: ck.Container) -> None:
    result = box.exec(["cat"], input="grün\n", text=True)
    assert result.stdout == "grün\n"
    assert box.exec(["printf", r"a\377b"], text=True).stdout == "a\ufffdb"


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_input_of_any_size_comes_back(box: ck.Container, size: int) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    assert box.exec(["cat"], input=data).stdout == data


def test_without_input_there_is_an_end_of_file(box: ck.Container) -> None:
    assert box.exec(["cat"]).stdout == b""


def test_input_that_nobody_reads_is_no_error(box: ck.Container) -> None:
    assert box.exec(["true"], input=b"x" * 300_000).exit.ok


def test_more_output_than_is_kept(box: ck.Container) -> None:
    result = box.exec("head -c 300000 /dev/zero; echo end >&2", max_output=1000)
    assert (len(result.stdout), result.stderr, result.truncated) == (1000, b"end\n", True)


def test_lines_as_they_come(box: ck.Container) -> None:
    seen: list[tuple[str, bytes]] = []
    box.exec("echo one; printf two", on_output=lambda line: seen.append((line.stream, line.data)))
    assert seen == [("stdout", b"one\n"), ("stdout", b"two")]


def test_check_raises_with_the_result(box: ck.Container) -> None:
    with pytest.raises(ProcessFailed, match="no luck") as caught:
        box.exec("echo no luck >&2; exit 1", check=True)
    assert caught.value.result.returncode == 1


# ---- where and as whom


def test_it_is_in_the_containers_namespaces_and_groups(box: ck.Container) -> None:
    names = "cgroup ipc mnt net pid uts"
    found = sh(box, f"for p in 1 self; do for n in {names}; do readlink /proc/$p/ns/$n; done; done")
    first, own = found.split()[:6], found.split()[6:]
    if not has_groups():  # then this is what its processes are known by
        assert first.pop(0) != own.pop(0)
    assert (first, len(own)) == (own, len(first))
    groups = sh(box, "cat /proc/self/cgroup").splitlines()
    beyond = set(groups) - set(sh(box, "cat /proc/1/cgroup").splitlines())
    assert len(beyond) <= 1  # the exec's own, below the container's
    assert all(group.split(":")[2].startswith("/x") for group in beyond)


def test_the_container_sees_it_and_no_agent(box: ck.Container) -> None:
    assert sh(box, "set -- /proc/[0-9]*; echo $#") == "2\n"  # the first process and the shell


@pytest.mark.needs("ids")
def test_environment_workdir_and_user(engine: ck.Engine, busybox: str) -> None:
    env = {"KEPT": "yes", "GONE": "no"}
    with engine.start(busybox, ["sleep", "9999"], env=env, workdir="/srv", user="1000:50") as box:
        assert sh(box, "echo $KEPT $GONE; pwd; id -u; id -g") == "yes no\n/srv\n1000\n50\n"
        changed = sh(
            box, "echo $KEPT $GONE $NEW; pwd; id -u", env={"GONE": None, "NEW": "1"}, workdir="/",
            user=0,
        )  # fmt: skip
        assert changed == "yes 1\n/\n0\n"
        assert sh(box, "echo $HOSTNAME; hostname").split() == [box.id[:12]] * 2


@pytest.mark.needs("ids")
def test_a_user_that_was_added_since(box: ck.Container) -> None:
    """Names are looked up in the running root, not in the image."""
    with pytest.raises(ConfigError, match="late"):
        box.exec(["id", "-u"], user="late")
    sh(box, "echo late:x:4321:4321::/tmp:/bin/sh >> /etc/passwd")
    assert sh(box, "id -u; echo $HOME", user="late") == "4321\n/tmp\n"


def test_passwd_that_leads_out_is_not_followed(box: ck.Container, tmp_path: Path) -> None:
    secret = tmp_path / "passwd"
    secret.write_text("outside:x:1:1::/:/bin/sh\n")
    sh(box, f"ln -sf /proc/1/root/../../../../../{secret} /etc/passwd")
    with pytest.raises(ConfigError, match="outside"):
        box.exec(["id"], user="outside")


def test_rights_are_the_containers(engine: ck.Engine, box: ck.Container) -> None:
    read = "grep -E 'Cap(Bnd|Eff)|NoNewPrivs' /proc/self/status"
    assert sh(box, read) == sh(box, read.replace("self", "1"))
    assert "NoNewPrivs:\t0" in sh(box, read, privileged=True)
    bounding = int(sh(box, "grep CapBnd /proc/self/status", privileged=True).split()[1], 16)
    assert bounding == facts.capabilities(launcher_of(engine).pid)


def test_it_holds_nothing_of_the_launcher(box: ck.Container) -> None:
    listed = sh(box, "ls -l /proc/$$/fd; true").splitlines()[1:]
    leads = [line.partition(" -> ")[2] for line in listed]
    assert [lead.partition(":")[0] for lead in leads] == ["/dev/null", "pipe", "pipe"]


# ---- failures


def test_a_command_that_is_not_there(box: ck.Container) -> None:
    with pytest.raises(CommandNotFound, match="no-such-thing") as caught:
        box.exec(["no-such-thing"])
    assert caught.value.op == "exec"
    assert caught.value.plan.kind == "exec"


def test_a_file_that_is_no_program(box: ck.Container) -> None:
    with pytest.raises(NotExecutable):
        box.exec(["/etc/passwd"])


def test_a_workdir_that_is_not_there(box: ck.Container) -> None:
    with pytest.raises(LaunchError, match="cannot execute in the container") as caught:
        box.exec(["true"], workdir="/no/such/place")
    assert caught.value.errno == errno.ENOENT


def test_a_plan_too_large_for_a_packet(box: ck.Container) -> None:
    words = [str(number) * 1000 for number in range(100)]
    assert box.exec(["echo", *words], text=True).stdout == " ".join(words) + "\n"


def test_a_container_that_does_not_run(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox, ["true"]) as box:
        with pytest.raises(InvalidStatus):
            box.exec(["true"])
        box.start()
        box.wait(timeout=120)
        with pytest.raises(InvalidStatus, match=r"cannot execute in .* it is stopped") as caught:
            box.exec(["true"])
        assert (caught.value.status, caught.value.allowed) == ("stopped", ("running",))


@pytest.mark.needs("control groups")
def test_a_limit_of_processes_that_is_reached(engine: ck.Engine) -> None:
    """A typed error, and none any more when there is room again.  The agent is one of the six."""
    with engine.start(None, ["sleep", "1000"], limits=ck.Limits(pids=6)) as box:
        script = "sleep 1000 & sleep 1000 & sleep 1000 & echo full; wait"
        with box.popen(["sh", "-c", script]) as full:
            assert full.stdout is not None
            assert next(full.stdout) == b"full\n"
            with pytest.raises(LaunchError) as caught:
                box.exec(["true"])
            assert caught.value.errno == errno.EAGAIN
            full.kill()
            full.wait(timeout=120)
        assert box.exec(["true"]).exit.ok


# ---- from anywhere

OTHER = """
import sys
import containerkit as ck
with ck.Engine.open(sys.argv[1]) as engine:
    box = engine.containers.get(sys.argv[2])
    print(box.exec("echo from afar; readlink /proc/self/ns/pid", text=True).stdout, end="")
"""


def test_from_another_process(engine: ck.Engine, box: ck.Container) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OTHER, engine.root, box.id],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout == "from afar\n" + sh(box, "readlink /proc/self/ns/pid")


def test_many_at_once(box: ck.Container) -> None:
    found: list[str] = []

    def one(number: int) -> None:
        result = box.exec(["sh", "-c", f"cat; echo {number}"], input=f"{number} ", text=True)
        found.append(result.stdout)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(f"{number} {number}\n" for number in range(64))


def test_it_is_an_event(engine: ck.Engine, box: ck.Container) -> None:
    box.exec(["true"])
    with box.popen(["true"]):
        pass
    kinds = [event.kind for event in engine.events(container=box.id) if event.kind == "exec"]
    assert kinds == ["exec"] * 2


def test_a_forked_child_can_execute_too(box: ck.Container) -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, box.exec(["echo", "child"]).stdout)
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    assert os.read(read, 100) == b"child\n"
    os.close(read)


LOWER = """
import resource, sys, containerkit as ck
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
engine = ck.Engine.open(sys.argv[1])
engine.containers.get(sys.argv[2]).start()
"""


def test_limits_are_those_of_the_start(engine: ck.Engine, busybox: str) -> None:
    """Who executes may have higher ones, which the launcher could not set."""
    one = engine.containers.create(busybox, ["sleep", "1000"], lifetime="detached")
    try:
        command = [sys.executable, "-c", LOWER, str(engine.root), one.id]
        subprocess.run(command, check=True, timeout=120)
        assert sh(one, "ulimit -Sn; ulimit -Hn") == "100\n200\n"
        one.stop()
        one.start()
        assert sh(one, "ulimit -Hn") != "200\n"
    finally:
        one.remove(force=True)


def test_a_workdir_is_no_magic_link(box: ck.Container) -> None:
    """Where such a link leads, no path says (CVE-2024-21626)."""
    assert box.exec(["pwd"], workdir="/proc/self/fdinfo", text=True).exit.ok
    for link in ("/proc/self/root", "/proc/self/cwd", "/proc/1/root/tmp"):
        with pytest.raises(LaunchError):
            box.exec(["pwd"], workdir=link)


@pytest.mark.needs("host root")
def test_another_device_is_not_taken_for_null(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "100000"], security=ck.Security.privileged()) as box:
        assert box.exec(["mount", "--bind", "/dev/zero", "/dev/null"]).exit.ok
        with pytest.raises(LaunchError):
            box.exec(["true"])
