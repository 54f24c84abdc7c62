"""`Engine.run`: what a caller puts in and gets back."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import MissingFeature, ProcessFailed
from tests.support.patience import cut_short


def sh(engine: ck.Engine, image: str, script: str, **options: object) -> str:
    """Run a script and return what it printed."""
    result = engine.run(image, ["sh", "-c", script], text=True, check=True, **options)  # type: ignore[call-overload]
    assert isinstance(result.stdout, str)
    return result.stdout


# ---- results


@pytest.mark.parametrize("text", [False, True])
def test_output_and_code(engine: ck.Engine, busybox: str, *, text: bool) -> None:
    result: ck.Result[bytes] | ck.Result[str]
    script = ["sh", "-c", "echo out; echo err >&2; exit 3"]
    result = engine.run(busybox, script, text=True) if text else engine.run(busybox, script)
    wanted = ("out\n", "err\n") if text else (b"out\n", b"err\n")
    assert (result.stdout, result.stderr) == wanted
    assert result.exit == ck.Exit(code=3)
    assert (result.returncode, result.exit.ok, result.truncated) == (3, False, False)
    assert result.image_digest.startswith("sha256:")


def test_a_signal_is_told_as_one(engine: ck.Engine, busybox: str) -> None:
    result = engine.run(busybox, ["sh", "-c", "sh -c 'kill -TERM $$'; exit $?"])
    assert result.returncode == 128 + 15
    killed = engine.run(busybox, ["sh", "-c", "ulimit -t 1; while :; do :; done"])
    assert (killed.exit.signal, killed.exit.cause) == (9, "signal")


def test_check_raises_with_the_result(engine: ck.Engine, busybox: str) -> None:
    with pytest.raises(ProcessFailed, match="no luck") as caught:
        engine.run(busybox, ["sh", "-c", "echo no luck >&2; exit 1"], check=True)
    assert caught.value.result.returncode == 1


@pytest.mark.parametrize("size", [0, 1, 200_000])
def test_input_of_any_size_comes_back(engine: ck.Engine, busybox: str, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    assert engine.run(busybox, ["cat"], input=data[:size]).stdout == data[:size]


def test_input_that_nobody_reads_is_no_error(engine: ck.Engine, busybox: str) -> None:
    assert engine.run(busybox, ["true"], input=b"x" * 300_000).exit.ok


def test_without_input_there_is_an_end_of_file(engine: ck.Engine, busybox: str) -> None:
    assert engine.run(busybox, ["cat"]).stdout == b""


def test_output_that_is_not_utf8(engine: ck.Engine, busybox: str) -> None:
    result = engine.run(busybox, ["printf", r"a\377b"], text=True)
    assert result.stdout == "a\ufffdb"


def test_more_output_than_is_kept(engine: ck.Engine, busybox: str) -> None:
    script = "head -c 300000 /dev/zero; echo end >&2"
    result = engine.run(busybox, ["sh", "-c", script], max_output=1000)
    assert (len(result.stdout), result.stderr, result.truncated) == (1000, b"end\n", True)
    assert result.exit.ok


def test_lines_as_they_come(engine: ck.Engine, busybox: str) -> None:
    seen: list[tuple[str, bytes]] = []
    script = ["sh", "-c", "echo one; echo two >&2; printf three"]
    engine.run(busybox, script, on_output=lambda entry: seen.append((entry.stream, entry.data)))
    assert [data for stream, data in seen if stream == "stdout"] == [b"one\n", b"three"]
    assert ("stderr", b"two\n") in seen


def test_an_error_in_the_callback_ends_the_container(engine: ck.Engine, busybox: str) -> None:
    def refuse(_: ck.LogEntry) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        engine.run(busybox, ["sh", "-c", "echo one; sleep 1000"], on_output=refuse)


# ---- time


def test_timeout_kills_all_and_keeps_what_was_said(engine: ck.Engine, busybox: str) -> None:
    script = "trap '' TERM INT HUP; (trap '' TERM; sleep 1000) & echo started; sleep 1000"
    timeouts = []

    def run(seconds: float) -> None:
        timeouts.append(seconds)
        engine.run(busybox, ["sh", "-c", script], text=True, timeout=seconds)

    error = cut_short(run, lambda error: error.result.stdout)
    assert f"still ran after {timeouts[-1]} s" in str(error)
    assert error.result.stdout == "started\n"
    assert error.result.exit.cause == "timeout"


def test_the_container_ends_with_its_first_process(engine: ck.Engine, busybox: str) -> None:
    """A process left in the background does not hold the output open for ever."""
    assert engine.run(busybox, ["sh", "-c", "sleep 1000 & echo done"]).stdout == b"done\n"


# ---- options


def test_environment(engine: ck.Engine, busybox: str) -> None:
    env: dict[str, str | None] = {"A": "1", "PATH": "/bin:/usr/bin", "HOSTNAME": None}
    lines = sh(engine, busybox, "env", env=env).splitlines()
    assert "A=1" in lines
    assert "PATH=/bin:/usr/bin" in lines
    assert not [line for line in lines if line.startswith("HOSTNAME=")]


def test_working_directory_is_made(engine: ck.Engine, busybox: str) -> None:
    assert sh(engine, busybox, "pwd", workdir="/made/for/this") == "/made/for/this\n"


WITH_IDS = pytest.mark.needs("ids")


@pytest.mark.parametrize(
    ("user", "wanted"),
    [
        (None, "0 0 0"),
        pytest.param("app", "1000 1000 1000 1001", marks=WITH_IDS),
        pytest.param("1000", "1000 1000 1000 1001", marks=WITH_IDS),
        pytest.param("app:extra", "1000 1001 1001", marks=WITH_IDS),
        pytest.param("1234:5678", "1234 5678 5678", marks=WITH_IDS),
        pytest.param(4321, "4321 0 0", marks=WITH_IDS),
    ],
)
def test_users_are_those_of_the_image(
    engine: ck.Engine, busybox: str, user: str | int | None, wanted: str
) -> None:
    assert sh(engine, busybox, "echo $(id -u) $(id -g) $(id -G)", user=user) == wanted + "\n"


def test_hostname(engine: ck.Engine, busybox: str) -> None:
    script = "hostname; cat /etc/hostname"
    assert sh(engine, busybox, script, hostname="box.example") == "box.example\nbox.example\n"
    assert socket.gethostname() != "box.example"


def test_entrypoint_and_command(engine: ck.Engine, busybox: str) -> None:
    result = engine.run(busybox, ["a", "b c"], entrypoint=["echo", "-n"], text=True)
    assert result.stdout == "a b c"


def test_a_command_as_text_goes_to_a_shell(engine: ck.Engine, busybox: str) -> None:
    assert engine.run(busybox, "echo $((6 * 7)) | cat", text=True).stdout == "42\n"


# ---- mounts and secrets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "given").write_text("from the host")
    return tmp_path


def test_bind_mounts(engine: ck.Engine, busybox: str, folder: Path) -> None:
    mounts = [ck.Mount.bind(folder, "/data"), ck.Mount.bind(folder / "given", "/etc/one", True)]
    script = "cat /data/given /etc/one; echo new > /data/made"
    assert sh(engine, busybox, script, mounts=mounts) == "from the hostfrom the host"
    assert (folder / "made").read_text() == "new\n"


def test_read_only_bind(engine: ck.Engine, busybox: str, folder: Path) -> None:
    mounts = [ck.Mount.bind(folder, "/data", read_only=True)]
    result = engine.run(busybox, ["touch", "/data/no"], mounts=mounts, text=True)
    assert result.returncode == 1
    assert "Read-only file system" in result.stderr
    assert not (folder / "no").exists()


def test_tmpfs(engine: ck.Engine, busybox: str) -> None:
    mounts = [ck.Mount.tmpfs("/scratch", size="1m", mode=0o750)]
    script = "stat -c %a /scratch; head -c 2000000 /dev/zero > /scratch/f; stat -c %s /scratch/f"
    result = engine.run(busybox, ["sh", "-c", script], mounts=mounts, text=True)
    assert result.stdout == f"750\n{1 << 20}\n"


def test_a_missing_source_is_an_error(engine: ck.Engine, busybox: str, tmp_path: Path) -> None:
    with pytest.raises(ck.ConfigError, match="does not exist"):
        engine.run(busybox, ["true"], mounts=[ck.Mount.bind(tmp_path / "none", "/data")])
    assert not (tmp_path / "none").exists()


@pytest.mark.needs("ids")
def test_secrets(engine: ck.Engine, busybox: str, folder: Path) -> None:
    secrets: dict[str, bytes | str | Path] = {
        "word": "sesame", "key": b"\0\1", "file": folder / "given",
    }  # fmt: skip
    script = (
        "cat /run/secrets/word /run/secrets/file; stat -c %a,%s,%u /run/secrets/key; env; mount"
    )
    out = sh(engine, busybox, script, secrets=secrets, user="app")
    assert out.startswith("sesamefrom the host400,2,1000\n")
    assert "sesame" not in out[6:]


# ---- network


def test_no_network_by_default(engine: ck.Engine, busybox: str) -> None:
    assert sh(engine, busybox, "ls /sys/class/net") == "lo\n"
    assert "127.0.0.1" in sh(engine, busybox, "ip addr show lo; ping -c1 127.0.0.1")


def test_the_network_of_the_host(engine: ck.Engine, busybox: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert f":{port:04X} " in sh(engine, busybox, "cat /proc/net/tcp", network="host")
        assert f":{port:04X} " not in sh(engine, busybox, "cat /proc/net/tcp")


@pytest.mark.parametrize("network", ["bridge", "other"])
def test_networks_that_do_not_exist_yet(engine: ck.Engine, busybox: str, network: str) -> None:
    with pytest.raises(MissingFeature):
        engine.run(busybox, ["true"], network=network)


# ---- what a container writes


def test_what_one_writes_the_next_does_not_see(engine: ck.Engine, busybox: str) -> None:
    sh(engine, busybox, "echo x > /bin/new; rm /bin/cat; mv /etc/passwd /etc/other")
    assert sh(engine, busybox, "test ! -e /bin/new && test -x /bin/cat && cat /etc/passwd")


def test_nothing_remains_in_the_root(engine: ck.Engine, busybox: str) -> None:
    sh(engine, busybox, "echo x > /new")
    left = (path for path in (engine.root / "containers").iterdir() if path.name[0] != ".")
    assert not {path.name: os.listdir(path) for path in left}


def test_many_at_once(engine: ck.Engine, busybox: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        done = pool.map(lambda n: sh(engine, busybox, f"echo {n}"), range(40))
        assert list(done) == [f"{n}\n" for n in range(40)]
