"""What networks and registries do wrong: each ends in the right bytes or in a typed error."""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import threading
from collections.abc import Iterator

import pytest

from containerkit.errors import (
    ContainerKitError,
    DigestMismatch,
    ImageNotFound,
    InvalidSpec,
    RateLimited,
    RegistryError,
    SizeMismatch,
    TransportError,
    Unauthorized,
    UnsupportedMediaType,
)
from containerkit.model.descriptor import DOCKER_SCHEMA_1
from containerkit.model.digest import Digest
from containerkit.registry.connections import Tls
from containerkit.registry.fetch import fetch, read_blob
from containerkit.registry.retry import Policy
from containerkit.registry.transport import Transport
from tests.integration.registry.support import (
    NOISE,
    QUICK,
    at,
    blob_of,
    layer_of,
    noise_image,
    opened,
)
from tests.support.faultproxy import FOREVER, Fault, FaultProxy
from tests.support.registry import PASSWORD, USERNAME, RegistryServer

pytestmark = pytest.mark.needs("docker-registry")

IMAGE = noise_image()
LAYER = layer_of(IMAGE)
WHOLE = blob_of(IMAGE, LAYER)
BLOB = f"GET .*{LAYER.digest}"
MANIFEST = "GET .*/manifests/"
NAME = "faults/app:1"


@pytest.fixture(scope="module")
def upstream(registry: RegistryServer) -> RegistryServer:
    registry.push(NAME, IMAGE)
    return registry


@pytest.fixture
def proxy(upstream: RegistryServer) -> Iterator[FaultProxy]:
    with FaultProxy(upstream.host) as proxy:
        yield proxy


def download(proxy: FaultProxy, *faults: Fault, policy: Policy = QUICK, offset: int = 0) -> bytes:
    """Fetch the layer while the faults happen."""
    for fault in faults:
        proxy.add(fault)
    with opened(policy=policy) as client:
        return b"".join(fetch(client, at(proxy.host, NAME), LAYER, offset=offset))


def ranges(proxy: FaultProxy) -> list[str | None]:
    return [one.headers.get("Range") for one in proxy.requests(BLOB)]


# ---- downloads that go on ----------------------------------------------------------------------


@pytest.mark.parametrize("then", ["close", "reset"])
def test_a_broken_download_goes_on_where_it_stopped(proxy: FaultProxy, then: str) -> None:
    fault = Fault(BLOB, times=2, after=700_000, then="close" if then == "close" else "reset")
    assert download(proxy, fault) == WHOLE
    asked = [int((one or "bytes=0-")[6:-1]) for one in ranges(proxy)]
    assert asked[0] == 0
    assert asked == sorted(asked)
    assert len(asked) == 3
    if then == "close":  # a reset may throw away what was still on the way
        assert asked == [0, 700_000, 1_400_000]


def test_a_server_without_ranges_sends_all_again(proxy: FaultProxy) -> None:
    cut = Fault(BLOB, after=700_000)
    assert download(proxy, cut, Fault(BLOB, times=FOREVER, no_range=True)) == WHOLE
    assert ranges(proxy) == [None, "bytes=700000-"]
    assert download(proxy, offset=1_000_000) == WHOLE[1_000_000:]


def test_a_range_that_is_refused(proxy: FaultProxy) -> None:
    refused = Fault("^GET .*blobs", status=416)
    assert download(proxy, Fault(BLOB, after=700_000), refused) == WHOLE
    assert ranges(proxy) == [None, "bytes=700000-", None]


def test_a_range_that_was_not_asked_for(proxy: FaultProxy) -> None:
    lie = Fault(BLOB, headers={"Content-Range": f"bytes 5-{len(WHOLE) - 1}/{len(WHOLE)}"})
    assert download(proxy, Fault(BLOB, after=700_000), lie) == WHOLE
    assert len(ranges(proxy)) == 3


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_a_server_in_trouble_is_asked_again(proxy: FaultProxy, status: int) -> None:
    assert download(proxy, Fault(BLOB, times=4, status=status)) == WHOLE
    assert len(ranges(proxy)) == 5


def test_a_limit_is_waited_for(proxy: FaultProxy) -> None:
    limit = Fault(BLOB, times=2, status=429, headers={"Retry-After": "0"})
    assert download(proxy, limit) == WHOLE


def test_chunked_transfer(proxy: FaultProxy) -> None:
    fault = Fault(BLOB, chunked=True)
    proxy.add(fault)
    with opened() as client:
        chunks = fetch(client, at(proxy.host, NAME), LAYER, cancelled=threading.Event())
        assert b"".join(chunks) == WHOLE


def test_chunked_transfer_that_breaks(proxy: FaultProxy) -> None:
    assert download(proxy, Fault(BLOB, chunked=True, after=700_000)) == WHOLE
    assert ranges(proxy) == [None, "bytes=700000-"]


def test_progress_keeps_a_download_alive(proxy: FaultProxy) -> None:
    policy = Policy(tries=2, first_delay=0, progress=100_000)
    assert download(proxy, Fault(BLOB, times=8, after=300_000), policy=policy) == WHOLE
    assert len(ranges(proxy)) == 9


# ---- downloads that end ------------------------------------------------------------------------


def test_tries_without_progress_are_bounded(proxy: FaultProxy) -> None:
    with pytest.raises(TransportError, match=r"ended after|broke") as caught:
        download(proxy, Fault(BLOB, times=FOREVER, after=200))
    assert caught.value.retryable
    assert len(ranges(proxy)) == QUICK.tries


def test_trouble_that_stays(proxy: FaultProxy) -> None:
    with pytest.raises(RegistryError, match="answered 500") as caught:
        download(proxy, Fault(BLOB, times=FOREVER, status=500))
    assert (caught.value.status, caught.value.retryable) == (500, True)


@pytest.mark.parametrize(
    ("headers", "retry_after"), [({}, None), ({"Retry-After": "3600"}, 3600.0)]
)
def test_a_limit_that_stays(
    proxy: FaultProxy, headers: dict[str, str | None], retry_after: float | None
) -> None:
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}'
    fault = Fault(BLOB, times=FOREVER, status=429, headers=headers, body=body)
    with pytest.raises(RateLimited, match="TOOMANYREQUESTS: slow down") as caught:
        download(proxy, fault)
    assert caught.value.retry_after == retry_after
    assert len(ranges(proxy)) == (1 if retry_after else QUICK.tries)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_not_repeated(proxy: FaultProxy, status: int) -> None:
    body = b'{"errors":[{"code":"DENIED","message":"not yours"}]}'
    with pytest.raises(Unauthorized, match="DENIED: not yours") as caught:
        download(proxy, Fault(BLOB, times=FOREVER, status=status, body=body))
    assert caught.value.codes == ("DENIED",)
    assert caught.value.request == f"GET {proxy.base}/v2/faults/app/blobs/{LAYER.digest}"
    assert len(ranges(proxy)) == 1


def test_a_wrong_length_is_refused_before_a_byte_is_read(proxy: FaultProxy) -> None:
    for length in (len(WHOLE) - 1, len(WHOLE) + 1):
        fault = Fault(BLOB, length=length, headers={"Content-Length": str(length)})
        with pytest.raises(SizeMismatch, match="announces") as caught:
            download(proxy, fault)
        assert (caught.value.expected, caught.value.actual) == (len(WHOLE), length)


def test_more_bytes_than_promised(proxy: FaultProxy) -> None:
    with pytest.raises(SizeMismatch, match="sends more"):
        download(proxy, Fault(BLOB, chunked=True, edit=lambda body: body + b"x"))


def test_bytes_compressed_on_the_way(proxy: FaultProxy) -> None:
    with pytest.raises(TransportError, match="compressed on the way"):
        download(proxy, Fault(BLOB, times=FOREVER, headers={"Content-Encoding": "gzip"}))


def test_wrong_bytes_of_a_config(proxy: FaultProxy) -> None:
    config = IMAGE.document["config"]
    proxy.add(Fault(f"GET .*{config['digest']}", edit=lambda body: body[::-1]))
    descriptor = type(LAYER)(config["mediaType"], Digest.parse(config["digest"]), config["size"])
    with opened() as client, pytest.raises(DigestMismatch) as caught:
        read_blob(client, at(proxy.host, NAME), descriptor, limit=1 << 20)
    assert caught.value.expected == config["digest"]


def test_silence_ends_after_the_idle_timeout(proxy: FaultProxy) -> None:
    proxy.add(Fault(BLOB, times=FOREVER, after=1000, then="stall"))
    policy = Policy(tries=1)
    for cancelled in (None, threading.Event()):
        with (
            opened(policy=policy, idle_timeout=0.3) as client,
            pytest.raises(TransportError, match="no byte came"),
        ):
            list(fetch(client, at(proxy.host, NAME), LAYER, cancelled=cancelled))


def test_cancelling_ends_a_silent_download(proxy: FaultProxy) -> None:
    proxy.add(Fault(BLOB, times=FOREVER, after=1000, then="stall"))
    cancelled = threading.Event()

    def cancel() -> None:
        proxy.stalled.wait()
        cancelled.set()

    watcher = threading.Thread(target=cancel)
    watcher.start()
    with opened() as client, pytest.raises(TransportError) as caught:
        list(fetch(client, at(proxy.host, NAME), LAYER, cancelled=cancelled))
    watcher.join()
    assert caught.value.errno == errno.ECANCELED


def test_a_download_that_nobody_wants_any_more_lets_its_connection_go(proxy: FaultProxy) -> None:
    with opened() as client:
        chunks = fetch(client, at(proxy.host, NAME), LAYER)
        next(chunks)
        chunks.close()
        assert b"".join(fetch(client, at(proxy.host, NAME), LAYER)) == WHOLE


# ---- manifests ---------------------------------------------------------------------------------


def pull(proxy: FaultProxy, fault: Fault, name: str = NAME) -> bytes:
    proxy.add(fault)
    with opened() as client:
        return client.manifest(at(proxy.host, name))[0]


def test_a_manifest_of_100_mb_is_not_read(proxy: FaultProxy) -> None:
    huge = 100 << 20
    fault = Fault(MANIFEST, length=huge, after=1 << 16, edit=lambda _: b" " * huge, then="stall")
    with pytest.raises(InvalidSpec, match="104857600 bytes, more than 4194304"):
        pull(proxy, fault)


def test_a_manifest_of_unknown_length_is_bounded(proxy: FaultProxy) -> None:
    fault = Fault(MANIFEST, chunked=True, edit=lambda _: b" " * (6 << 20))
    with pytest.raises(InvalidSpec, match="more than 4194304"):
        pull(proxy, fault)


@pytest.mark.parametrize("times", [2, FOREVER])
def test_a_manifest_of_other_bytes(proxy: FaultProxy, times: int) -> None:
    changed = Fault(MANIFEST, times=times, edit=lambda body: body.replace(b'"size":', b'"size": '))
    with pytest.raises(DigestMismatch, match="expected sha256:"):
        pull(proxy, changed, f"faults/app@{IMAGE.digest}")
    # By tag alone, the registry's own promise is held against it.
    with pytest.raises(DigestMismatch) if times > 2 else pytest.raises(ImageNotFound):
        pull(proxy, changed if times > 2 else Fault(MANIFEST, status=404))


def test_a_head_that_names_another_digest(proxy: FaultProxy) -> None:
    other = str(Digest.of(b"other"))
    proxy.add(Fault("HEAD .*/manifests/", headers={"Docker-Content-Digest": other}))
    with opened() as client, pytest.raises(DigestMismatch):
        client.resolve(at(proxy.host, f"faults/app@{IMAGE.digest}"))


@pytest.mark.parametrize(
    "fault",
    [
        Fault("HEAD", status=405),
        Fault("HEAD", status=404),
        Fault("HEAD", headers={"Docker-Content-Digest": None}),
        Fault("HEAD", headers={"Docker-Content-Digest": "sha256:../../x"}),
        Fault("HEAD", headers={"Content-Type": "text/html"}),
    ],
)
def test_a_head_that_says_too_little(proxy: FaultProxy, fault: Fault) -> None:
    proxy.add(fault)
    with opened() as client:
        resolved = client.resolve(at(proxy.host, NAME))
    assert (str(resolved.digest), resolved.size) == (IMAGE.digest, len(IMAGE.data))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(MANIFEST, headers={"Content-Type": DOCKER_SCHEMA_1[1]}), UnsupportedMediaType),
        (
            Fault(MANIFEST, headers={"Content-Type": "application/vnd.oci.image.index.v1+json"}),
            InvalidSpec,
        ),
        (Fault(MANIFEST, status=200, body=b"<html>sign in</html>"), InvalidSpec),
        (Fault(MANIFEST, status=404, body=b"<html>"), ImageNotFound),
        (Fault(MANIFEST, status=418), RegistryError),
        (Fault(MANIFEST, status=301, headers={"Location": "http://[::1"}), RegistryError),
        (Fault(MANIFEST, times=FOREVER, status=302, headers={"Location": "?"}), RegistryError),
        (Fault("GET .*/v2/", times=FOREVER, after=0, length=5), TransportError),
    ],
)
def test_answers_that_are_no_manifest(
    proxy: FaultProxy, fault: Fault, error: type[ContainerKitError]
) -> None:
    with pytest.raises(error, match="cannot"):
        pull(proxy, fault)


def test_a_manifest_is_asked_for_again(proxy: FaultProxy) -> None:
    proxy.add(Fault(MANIFEST, after=100))
    assert pull(proxy, Fault(MANIFEST, times=2, status=503)) == IMAGE.data
    assert len(proxy.requests(MANIFEST)) == 4


# ---- redirects and realms ----------------------------------------------------------------------


def test_credentials_do_not_follow_a_redirect() -> None:
    location = {"Location": ""}
    with (
        RegistryServer(auth="basic") as server,
        FaultProxy(None, Fault("GET /elsewhere", status=200, body=WHOLE)) as elsewhere,
        FaultProxy(server.host) as front,
    ):
        server.push(NAME, IMAGE)
        location["Location"] = f"{elsewhere.base}/elsewhere?signature=1"
        front.add(Fault(f"{BLOB}$", times=FOREVER, status=307, headers=dict(location)))
        with opened() as client:
            client.credentials.login(front.host, username=USERNAME, password=PASSWORD)
            reference = at(front.host, NAME)
            assert client.manifest(reference)[0] == IMAGE.data
            assert b"".join(fetch(client, reference, LAYER)) == WHOLE
    assert "Authorization" in front.requests(BLOB)[-1].headers
    assert len(elsewhere.seen) == 1
    assert "Authorization" not in elsewhere.seen[0].headers


def test_a_place_we_were_redirected_to_has_no_say_in_who_we_are() -> None:
    realm = {"WWW-Authenticate": 'Basic realm="x", Bearer realm="http://127.0.0.1:1/token"'}
    with (
        FaultProxy(None, Fault("GET", times=FOREVER, status=401, headers=realm)) as elsewhere,
        FaultProxy(
            None,
            Fault("GET /v2/$", status=200),
            Fault("GET", times=FOREVER, status=307, headers={"Location": elsewhere.base}),
        ) as front,
        opened() as client,
    ):
        client.credentials.login(front.host, username=USERNAME, password=PASSWORD)
        client.credentials.login(elsewhere.host, username=USERNAME, password=PASSWORD)
        with pytest.raises(Unauthorized):
            client.manifest(at(front.host, NAME))
        assert all("Authorization" not in one.headers for one in elsewhere.seen)


def test_a_token_that_is_refused_in_the_middle_is_replaced() -> None:
    with RegistryServer(auth="token") as server, FaultProxy(server.host) as front:
        server.push("public/app:1", IMAGE)
        assert server.tokens is not None
        realm = f'Bearer realm="{server.tokens.base}/token",service="tests"'
        front.add(Fault(BLOB, after=700_000))
        front.add(Fault(BLOB, status=401, headers={"WWW-Authenticate": realm}))
        with opened() as client:
            reference = at(front.host, "public/app:1")
            client.resolve(reference)
            assert b"".join(fetch(client, reference, LAYER)) == WHOLE
        assert len(server.tokens.asked) == 2
        sent = [one.headers["Authorization"] for one in front.requests(BLOB)]
        assert sent[0] == sent[1] != sent[2]


@pytest.mark.parametrize(
    "realm",
    ["http://169.254.169.254/latest", "file:///etc/passwd", "http://u:p@127.0.0.1/", "tests"],
)
def test_a_realm_that_is_none_of_the_registrys_business(realm: str) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'}
    with (
        FaultProxy(None, Fault("", times=FOREVER, status=401, headers=challenge)) as front,
        opened(policy=Policy(tries=1, unreachable_tries=1)) as client,
        pytest.raises((RegistryError, TransportError), match="cannot"),
    ):
        client.manifest(at(front.host, NAME))


def test_the_noise_is_noise() -> None:
    assert NOISE in WHOLE


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_public_registry_can_not_send_us_to_this_host(host: str) -> None:
    transport = Transport(user_agent="containerkit-tests")
    with FaultProxy(None, Fault("", times=FOREVER, status=200)) as inside:
        port = inside.host.rpartition(":")[2]
        with pytest.raises(TransportError, match="may not choose") as caught:
            transport.send(
                "GET", f"http://{host}:{port}/", headers={}, tls=Tls(), chosen_by="http://8.8.8.8"
            )
        assert not caught.value.retryable
        assert inside.seen == []
        neighbour = "http://127.0.0.1:1"
        with transport.send(
            "GET", f"http://{host}:{port}/", headers={}, tls=Tls(), chosen_by=neighbour
        ) as answer:
            assert answer.status == 200
    transport.close()


# ---- nobody answers ----------------------------------------------------------------------------


def accepted(server: socket.socket) -> int:
    """Return how many connections wait at *server*, and close them."""
    server.setblocking(False)
    for number in itertools.count():
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return number
    raise AssertionError


@pytest.mark.parametrize(
    ("insecure", "first", "tries"),
    [(None, "http", 4), (True, "http", 4), (False, "https", 2)],
)
def test_a_registry_that_accepts_and_is_silent(
    insecure: bool | None, first: str, tries: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, opened(answer_timeout=0.1) as client:
        reference = at(f"127.0.0.1:{server.getsockname()[1]}", NAME)
        with pytest.raises(TransportError, match="does not answer") as caught:
            client.manifest(reference, insecure=insecure)
        assert accepted(server) == tries
    assert caught.value.errno == errno.ETIMEDOUT
    assert caught.value.request.startswith(f"GET {first}:")
    hint = caught.value.hint or ""
    assert "hangs" in hint
    assert ("insecure=True" in hint) == (first == "https")


def test_an_answer_that_has_begun_may_take_its_time(proxy: FaultProxy) -> None:
    proxy.add(Fault(BLOB, times=FOREVER, after=1000, then="stall"))
    with (
        opened(answer_timeout=0.1, idle_timeout=60) as client,
        client.blob(at(proxy.host, NAME), LAYER) as stream,
    ):
        assert len(next(stream)) == 1000
        later = threading.Timer(0.5, proxy.release)  # five times what the beginning may take
        later.start()
        with pytest.raises(TransportError, match=r"ended after|connection broke"):
            next(stream)
        later.join()


def test_a_registry_that_restarts_between_two_requests_is_waited_for(
    upstream: RegistryServer,
) -> None:
    policy = Policy(first_delay=0, refused_tries=1)  # one that never answered is not waited for
    with contextlib.ExitStack() as stack, opened(policy=policy) as client:
        with FaultProxy(upstream.host) as before:
            reference = at(before.host, NAME)
            client.manifest(reference)

        class Restart(threading.Event):
            """Has the registry back as soon as somebody waits."""

            def wait(self, timeout: float | None = None) -> bool:
                del timeout
                if not restarted:
                    port = int(before.host.rpartition(":")[2])
                    restarted.append(stack.enter_context(FaultProxy(upstream.host, port=port)))
                return False

        restarted: list[FaultProxy] = []
        assert b"".join(fetch(client, reference, LAYER, cancelled=Restart())) == WHOLE
        assert len(restarted[0].requests(BLOB)) == 1


def test_a_registry_that_never_listened_is_not_waited_for_as_long() -> None:
    with FaultProxy(None) as gone:
        host = gone.host

    class Waits(threading.Event):
        count = 0

        def wait(self, timeout: float | None = None) -> bool:
            del timeout
            self.count += 1
            return False

    waits = Waits()
    with opened() as client, pytest.raises(TransportError, match="nobody listens") as caught:
        client.manifest(at(host, NAME), cancelled=waits)
    assert caught.value.errno == errno.ECONNREFUSED
    assert waits.count == QUICK.refused_tries - 1


# ---- plain HTTP and TLS ------------------------------------------------------------------------

PLAIN_TO_TLS = {
    "Go": b"Client sent an HTTP request to an HTTPS server.\n",
    "nginx": b"<center>The plain HTTP request was sent to HTTPS port</center>",
    "Apache": b"Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
    "Tomcat": b"Bad Request\r\nThis combination of host and port requires TLS.\r\n",
}


def test_a_400_is_not_taken_for_tls(proxy: FaultProxy) -> None:
    """Of a registry that has another objection, whatever it is asked."""
    proxy.add(Fault("", status=400, body=b"no such host here", times=FOREVER))
    for insecure in (None, True):
        with opened() as client, pytest.raises(RegistryError, match="answered 400") as caught:
            client.manifest(at(proxy.host, NAME), insecure=insecure)
        assert not isinstance(caught.value, TransportError)
        assert caught.value.status == 400


@pytest.mark.parametrize("body", PLAIN_TO_TLS.values(), ids=PLAIN_TO_TLS)
def test_a_redirect_that_leads_to_tls_by_plain_http(proxy: FaultProxy, body: bytes) -> None:
    with FaultProxy(None, Fault("", status=400, body=body, times=FOREVER)) as other:
        where = {"Location": f"{other.base}/blob"}
        with pytest.raises(TransportError, match="was sent plain HTTP, and speaks TLS") as caught:
            download(proxy, Fault(BLOB, status=307, headers=where, times=FOREVER))
    assert "https" in (caught.value.hint or "")


def test_tls_at_a_port_of_plain_http(upstream: RegistryServer) -> None:
    with opened() as client, pytest.raises(TransportError, match="speaks no TLS") as caught:
        client.manifest(at(upstream.host, NAME), insecure=False)
    assert "insecure=True" in (caught.value.hint or "")
    assert not caught.value.retryable


def test_plain_http_at_a_port_of_tls() -> None:
    with RegistryServer(tls=True) as server, opened() as client:
        server.push(NAME, IMAGE)
        with pytest.raises(TransportError, match="certificate is not trusted") as caught:
            client.manifest(at(server.host, NAME))
        assert "insecure=True" in (caught.value.hint or "")
        assert client.manifest(at(server.host, NAME), insecure=True)[0] == IMAGE.data


def test_a_registry_that_begins_to_speak_tls(upstream: RegistryServer) -> None:
    with opened() as client:
        with FaultProxy(upstream.host) as before:
            reference = at(before.host, NAME)
            client.manifest(reference, insecure=True)
        port = int(before.host.rpartition(":")[2])
        tls = Fault("", status=400, body=PLAIN_TO_TLS["Go"], times=FOREVER)
        with FaultProxy(None, tls, port=port) as now:
            with pytest.raises(TransportError, match="plain HTTP, and speaks TLS"):
                client.manifest(reference, insecure=True)
            # The scheme was asked for again at each try; the first request knew it still.
            assert len(now.requests("GET /v2/$")) == QUICK.tries - 1
