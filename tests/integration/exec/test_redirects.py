"""Streams of a command that lead to files, to nowhere, to each other; and text in other encodings."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any, assert_type

import pytest

import containerkit as ck
from containerkit import aio

BOTH = "cat; echo out; echo err >&2; echo last"


def _say(engine: ck.Engine, busybox: str, box: ck.Container, way: str, **how: Any) -> Any:
    """Run BOTH each way; return its outputs."""
    if way == "run":
        return engine.run(busybox, BOTH, **how)
    if way == "exec":
        return box.exec(BOTH, **how)
    with box.popen(BOTH, **how) as process:
        return process.communicate(timeout=60)


WAYS = pytest.mark.parametrize("way", ["run", "exec", "popen"])


@WAYS
def test_files(
    engine: ck.Engine, busybox: str, box: ck.Container, tmp_path: Path, way: str
) -> None:
    (tmp_path / "in").write_bytes(b"read\n")
    control = _say(engine, busybox, box, way)
    assert (control.stdout, control.stderr) == (b"out\nlast\n", b"err\n")
    before = len(os.listdir("/proc/self/fd"))
    with (tmp_path / "in").open() as source, (tmp_path / "out").open("wb") as out:
        error = os.open(tmp_path / "err", os.O_WRONLY | os.O_CREAT, 0o600)
        said = _say(engine, busybox, box, way, stdin=source, stdout=out, stderr=error)
        os.close(error)  # it is the caller's still
    assert (said.stdout, said.stderr, said.returncode) == (b"", b"", 0)
    assert (tmp_path / "out").read_bytes() == b"read\nout\nlast\n"
    assert (tmp_path / "err").read_bytes() == b"err\n"
    assert len(os.listdir("/proc/self/fd")) == before


@WAYS
def test_both_outputs_in_order(
    engine: ck.Engine, busybox: str, box: ck.Container, tmp_path: Path, way: str
) -> None:
    said = _say(engine, busybox, box, way, stderr=subprocess.STDOUT)
    assert (said.stdout, said.stderr) == (b"out\nerr\nlast\n", b"")
    with (tmp_path / "out").open("wb") as out:
        _say(engine, busybox, box, way, stdout=out, stderr=subprocess.STDOUT)
    assert (tmp_path / "out").read_bytes() == b"out\nerr\nlast\n"


@WAYS
def test_nowhere_and_pipes(engine: ck.Engine, busybox: str, box: ck.Container, way: str) -> None:
    devnull, pipe = subprocess.DEVNULL, subprocess.PIPE
    said = _say(engine, busybox, box, way, stdin=pipe, stdout=devnull, stderr=pipe)
    assert (said.stdout, said.stderr) == (b"", b"err\n")
    said = _say(engine, busybox, box, way, stdin=devnull, stdout=devnull, stderr=subprocess.STDOUT)
    assert (said.stdout, said.stderr) == (b"", b"")


@WAYS
def test_what_is_no_stream(
    engine: ck.Engine, busybox: str, box: ck.Container, tmp_path: Path, way: str
) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    for name in ("stdin", "stdout", "stderr"):
        with pytest.raises(ck.ConfigError, match=f"{name} .* is a directory"):
            _say(engine, busybox, box, way, **{name: directory})
        for wrong in (True, -9, 999_999, "out.txt", BytesIO(), 2**70):
            with pytest.raises(ck.ConfigError, match=f"{name} .* is no open file"):
                _say(engine, busybox, box, way, **{name: wrong})
    os.close(directory)
    for name in ("stdin", "stdout"):
        with pytest.raises(ck.ConfigError, match="no open file"):
            _say(engine, busybox, box, way, **{name: subprocess.STDOUT})
    with pytest.raises(ck.ConfigError, match="terminal"):
        _say(engine, busybox, box, way, tty=True, stdout=subprocess.DEVNULL)
    if way != "popen":
        with pytest.raises(ck.ConfigError, match="exclude"):
            _say(engine, busybox, box, way, input=b"x", stdin=subprocess.DEVNULL)


def test_a_socket_is_a_stream(box: ck.Container) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, box.popen("read line; echo got $line", stdin=theirs, stdout=theirs) as one:
        theirs.close()
        assert (one.stdin, one.stdout) == (None, None)
        ours.sendall(b"this\n")
        assert ours.makefile("rb").read() == b"got this\n"
        assert one.wait(60) == 0


@WAYS
def test_encodings(engine: ck.Engine, busybox: str, box: ck.Container, way: str) -> None:
    def said(data: bytes, **how: Any) -> Any:
        with open(os.memfd_create("in"), "w+b") as file:
            file.write(data)
            file.seek(0)
            command = ["cat"]
            if way == "run":
                return engine.run(busybox, command, stdin=file, **how).stdout
            if way == "exec":
                return box.exec(command, stdin=file, **how).stdout
            with box.popen(command, stdin=file, **how) as process:
                return process.stdout.read()

    assert said(b"gr\xfcn") == b"gr\xfcn"
    assert said(b"gr\xfcn", text=True) == "gr\ufffdn"
    assert said(b"gr\xfcn", encoding="latin-1") == "grün"
    assert said(b"gr\xfcn", text=True, errors="backslashreplace") == "gr\\xfcn"
    with pytest.raises(UnicodeDecodeError):
        said(b"gr\xfcn", encoding="utf-8", errors="strict")
    for wrong in ({"encoding": "utf-9"}, {"encoding": "hex"}, {"text": True, "errors": "no"}):
        with pytest.raises(ck.ConfigError, match="no encoding"):
            said(b"", **wrong)
    with pytest.raises(ck.ConfigError, match="without text"):
        said(b"", errors="strict")
    if way == "popen":
        with pytest.raises(ck.ConfigError, match="into lines"):
            said(b"", encoding="utf-16")
    else:
        assert said("grün\n".encode("utf-16"), encoding="utf-16") == "grün\n"


def test_what_is_written_in_another_encoding(box: ck.Container) -> None:
    assert box.exec("od -An -tx1", input="ü", encoding="latin-1").stdout == " fc\n"
    assert box.exec("od -An -tx1", input="ü", text=True).stdout == " c3 bc\n"
    with box.popen(["cat"], encoding="latin-1") as process:
        process.stdin.write("ü\nb\n")
        process.stdin.close()
        assert list(process.stdout) == ["ü\n", "b\n"]
    with pytest.raises(UnicodeEncodeError):
        box.exec(["cat"], input="€", encoding="latin-1")


def test_in_asyncio(shared_root: Path, busybox: str, tmp_path: Path) -> None:
    async def talk() -> None:
        async with aio.Engine.open(shared_root) as engine:
            with (tmp_path / "out").open("wb") as out:
                result = await engine.run(busybox, BOTH, stdout=out, encoding="latin-1")
                assert_type(result, ck.Result[str])
                assert (result.stdout, result.stderr) == ("", "err\n")
            async with engine.start(busybox, ["sleep", "1000"]) as box:
                said = await box.exec(BOTH, stderr=subprocess.STDOUT, encoding="latin-1")
                assert_type(said, ck.Result[str])
                assert said.stdout == "out\nerr\nlast\n"
                async with box.popen(BOTH, stdout=subprocess.DEVNULL) as process:
                    assert process.stdout is None
                    assert (await process.communicate()).stderr == b"err\n"
        assert (tmp_path / "out").read_bytes() == b"out\nlast\n"

    asyncio.run(talk())


def test_types(engine: ck.Engine, busybox: str, box: ck.Container) -> None:
    assert_type(box.exec("true", encoding="ascii"), ck.Result[str])
    assert_type(box.exec("true", stdout=subprocess.DEVNULL), ck.Result[bytes])
    assert_type(engine.run(busybox, "true", encoding="ascii"), ck.Result[str])
    with box.popen("true", encoding="ascii") as process:
        assert_type(process, ck.Process[str])
        assert process.communicate().stdout == ""
