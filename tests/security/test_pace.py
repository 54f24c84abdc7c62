"""Registries that keep us waiting, and registries that talk without end about nothing.

Both are held to what an answer may be: the least rate over a window of waiting, and the most that may
come beside the content.  The control of the first is the same answer at any rate; that of the second
the same answer with an end.
"""

from __future__ import annotations

import hashlib
import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import containerkit as ck
from containerkit.errors import ConfigError, ContainerKitError, RegistryError, TransportError
from containerkit.model.descriptor import Descriptor
from containerkit.model.digest import Digest
from containerkit.model.engine_config import Pace
from containerkit.model.reference import Reference
from containerkit.registry import fetch as fetch_module
from containerkit.registry import pace, retry
from containerkit.registry.client import RegistryClient
from containerkit.registry.credentials import Credentials
from containerkit.registry.failures import TooMuch, TooSlow
from containerkit.registry.fetch import fetch
from containerkit.registry.pace import MAX_OTHER, Meter
from containerkit.registry.retry import Policy
from tests.security.stranger import Answer, Stranger
from tests.support import ocibuild
from tests.support.store import opened

ONCE = Policy(tries=1, unreachable_tries=1)
IMAGE = ocibuild.image([{"f": "x"}])
NAME = "/v2/app/manifests/1"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# ---- the rule --------------------------------------------------------------------------------------


def test_a_rate_is_of_the_time_spent_on_waiting() -> None:
    meter = Meter(Pace(rate=100, window=10))
    meter.take(1, 50.0)  # until the first byte an answer may take: other limits are for that
    for _ in range(9):
        meter.take(100, 1.0)
    with pytest.raises(TooSlow, match="less than 100 a second"):
        meter.take(98, 1.0)


def test_a_window_that_was_fast_enough_is_forgotten() -> None:
    meter = Meter(Pace(rate=100, window=10))
    meter.take(1, 0.0)
    meter.take(1 << 19, 10.0)
    meter.wait(9.0)  # by who looks whether anything comes
    with pytest.raises(TooSlow):
        meter.take(5, 1.0)


def test_any_rate_will_do_when_none_is_asked_for() -> None:
    meter = Meter(Pace(rate=0, window=10))
    for _ in range(100):
        meter.take(1, 50.0)


def test_what_is_no_content_is_bounded() -> None:
    meter = Meter(Pace())

    def content() -> bytes:
        meter.take((1 << 20) + 1000, 0.0)
        return bytes(1 << 20)

    for _ in range(100):  # content may come without end
        meter.read(1 << 20, content)
    meter = Meter(Pace())
    with pytest.raises(TooMuch):
        meter.take(MAX_OTHER + 1, 0.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"download_rate": -1},
        {"download_rate": 1.5},
        {"download_rate": "fast"},
        {"download_rate": True},
        {"download_window": 0},
        {"download_window": float("nan")},
        {"download_window": float("inf")},
        {"download_window": "long"},
    ],
)
def test_a_pace_that_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="download_"):
        ck.EngineConfig(**wrong)


def test_a_pace_is_a_size_a_second() -> None:
    config = ck.EngineConfig(download_rate="10KiB", download_window=5)
    assert config.pace() == Pace(10 << 10, 5)


# ---- too slow --------------------------------------------------------------------------------------

IMAGE_OF_MUCH = ocibuild.image([{"f": bytes(hashlib.shake_128(b"").digest(1 << 20))}])
"""More than comes with one read, whoever is slow."""

HASTY = Pace(rate=1 << 20, window=0.5)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock finds it a minute later."""
    minutes = itertools.count(0, 60)
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: next(minutes)))
    monkeypatch.setattr(retry, "pause", lambda *_: None)


def client(pace: Pace) -> RegistryClient:
    return RegistryClient(Credentials(use_docker=False), policy=ONCE, pace=pace)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_blob_that_trickles_is_given_up(chunked: bool, slow: None) -> None:
    """However it is waited for; with any rate allowed it comes to its end (the control)."""
    [layer] = IMAGE_OF_MUCH.document["layers"]
    data = IMAGE_OF_MUCH.blobs[layer["digest"]]
    descriptor = Descriptor(layer["mediaType"], Digest.parse(layer["digest"]), layer["size"])
    headers = {"Transfer-Encoding": "chunked"} if chunked else {}
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data) if chunked else data
    with Stranger() as registry:
        reference = Reference.parse(registry.has(IMAGE_OF_MUCH))
        for cancelled in (None, threading.Event()):
            answer = Answer(200, headers, iter([body]))
            registry.answers[f"/v2/app/blobs/{descriptor.digest}"] = answer
            with pytest.raises(TransportError, match=r"too slow.*download_rate") as caught:
                list(fetch(client(HASTY), reference, descriptor, cancelled=cancelled))
            assert caught.value.retryable
            answer = Answer(200, headers, iter([body]))
            registry.answers[f"/v2/app/blobs/{descriptor.digest}"] = answer
            got = fetch(client(Pace(0, 0.5)), reference, descriptor, cancelled=cancelled)
            assert b"".join(got) == data


def test_a_wait_for_more_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of who looks for bytes before it reads them, to see a cancellation meanwhile."""
    minutes = itertools.count(0, 60)
    monkeypatch.setattr(fetch_module, "time", SimpleNamespace(monotonic=lambda: next(minutes)))
    [layer] = IMAGE_OF_MUCH.document["layers"]
    descriptor = Descriptor(layer["mediaType"], Digest.parse(layer["digest"]), layer["size"])
    with Stranger() as registry:
        reference = Reference.parse(registry.has(IMAGE_OF_MUCH))
        event = threading.Event()
        with pytest.raises(TransportError, match="too slow"):
            list(fetch(client(HASTY), reference, descriptor, cancelled=event))
        got = fetch(client(Pace(0, 0.5)), reference, descriptor, cancelled=event)  # the control
        assert sum(map(len, got)) == descriptor.size


@pytest.mark.parametrize("status", [200, 500])
def test_a_document_that_trickles_is_given_up(status: int, slow: None) -> None:
    """A manifest, or the words of an error, of which the status is enough."""
    with Stranger() as registry:
        reference = Reference.parse(registry.has(IMAGE))
        kind = {"Content-Type": IMAGE.media_type}
        registry.answers[NAME] = Answer(status, kind, iter([IMAGE.data + b" " * (1 << 20)]))
        with pytest.raises(RegistryError) as caught:
            client(HASTY).manifest(reference)
    assert isinstance(caught.value, TransportError) == (status == 200)


def test_an_engine_has_a_pace(engine_root: Path, slow: None) -> None:
    """What is slow is asked for again, as what broke is; then it is an error."""
    for rate in (1 << 20, 0):
        config = ck.EngineConfig(download_rate=rate, download_window=0.5)
        with Stranger() as registry, ck.Engine.open(engine_root, config=config) as engine:
            reference = registry.has(IMAGE_OF_MUCH)
            if rate:
                with pytest.raises(TransportError, match="too slow"):
                    engine.images.pull(reference)
                assert sum("blobs" in path for path in registry.paths()) > 2
            else:
                engine.images.pull(reference)  # the control


# ---- too much --------------------------------------------------------------------------------------


@contextmanager
def saying(head: bytes, piece: bytes, times: int | None = None, tail: bytes = b"") -> Iterator[str]:
    """A registry that says this to everything but a ping, the piece for ever or so many times."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    answer(connection)
                except OSError:
                    continue

    def answer(connection: socket.socket) -> None:
        asked = connection.recv(65536)
        if b" /v2/ " in asked.partition(b"\r\n")[0]:
            connection.sendall(OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n")
            return
        connection.sendall(head)
        done = 0
        while times is None or done < times:
            connection.sendall(piece * 500)
            done += 500
        connection.sendall(tail)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}/app:1"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


LENGTH = b"Content-Length: %d\r\n\r\n" % len(IMAGE.data)
WHOLE = OK + LENGTH + IMAGE.data
CHUNK = b"%x\r\n%s\r\n0\r\n" % (len(IMAGE.data), IMAGE.data)
REDIRECT = (
    b"HTTP/1.1 307 x\r\nLocation: /v2/\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
)

WORDY: dict[str, tuple[bytes, bytes, bytes]] = {
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", WHOLE),
    "trailers": (CHUNKED + CHUNK, b"x: y\r\n", b"\r\n"),
    "chunks of a byte": (CHUNKED, b"1\r\n \r\n", CHUNK + b"\r\n"),
}


@pytest.mark.parametrize("case", WORDY)
def test_talk_without_end_is_given_up(case: str) -> None:
    """It would be read for ever, in a loop below us that nothing ends; some of it is read (the control)."""
    head, piece, tail = WORDY[case]
    with saying(head, piece) as reference, pytest.raises(TransportError, match="no content"):
        client(Pace()).manifest(Reference.parse(reference))
    with saying(head, piece, 1000, tail) as reference:
        data, _ = client(Pace()).manifest(Reference.parse(reference))
    assert data.strip() == IMAGE.data


def test_a_redirect_that_does_not_end_is_not_read() -> None:
    """It says that it is short, and that it is chunked: the latter counts."""
    with saying(REDIRECT, b"1\r\n \r\n") as reference, pytest.raises(ContainerKitError):
        client(Pace()).manifest(Reference.parse(reference))


SIZES = [b"-5", b"-" + b"f" * 20, b"f" * 20, b"zz", b"", b"1" * 70000, b"0x", b"+1"]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: repr(size[:8]))
def test_a_chunk_of_any_size_is_an_error_of_ours(size: bytes) -> None:
    answer = CHUNKED + size + b"\r\nabc"
    with saying(answer, b"", 1) as reference, pytest.raises(ContainerKitError):
        client(Pace()).manifest(Reference.parse(reference))


def test_nothing_is_left_of_a_pull_that_was_given_up(engine_root: Path) -> None:
    with opened(engine_root, policy=ONCE) as store:
        for head, piece, _ in WORDY.values():
            with saying(head, piece) as reference, pytest.raises(ContainerKitError):
                store.images.pull(reference)
        store.images.gc()
        assert store.is_empty(), store.debris()
