"""Registries that want what is not theirs: logins, this host's neighbours, another image's name.

The registries here are strangers on real sockets of loopback.  Each attack has its control: the same
answers, and the one thing that makes them harmless.
"""

from __future__ import annotations

import base64
import gzip
import json
import socket
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from containerkit.errors import (
    ContainerKitError,
    CorruptContent,
    DigestMismatch,
    InvalidSpec,
    RegistryError,
    SizeMismatch,
    TransportError,
    Unauthorized,
    UnsupportedMediaType,
)
from containerkit.model.reference import Reference
from containerkit.registry.auth import Login
from containerkit.registry.client import RegistryClient
from containerkit.registry.connections import Tls
from containerkit.registry.credentials import Credentials
from containerkit.registry.protocol import same_site
from containerkit.registry.retry import Policy
from containerkit.registry.transport import Transport
from tests.security.stranger import Answer, Stranger
from tests.support import ocibuild
from tests.support.registry import make_certificate
from tests.support.store import Store, opened

USER, PASSWORD = "somebody", "correct-horse-battery"
BASIC = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
ONCE = Policy(tries=1, unreachable_tries=1)
IMAGE = ocibuild.image([{"f": "x"}])
TOKEN = Answer(200, {}, json.dumps({"token": "the-token"}).encode())


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing between: some of these names are not of loopback."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def store(engine_root: Path) -> Iterator[Store]:
    with opened(engine_root, policy=ONCE) as store:
        yield store


def client(*realms: str) -> RegistryClient:
    return RegistryClient(Credentials(use_docker=False), policy=ONCE, realms=realms)


def manifest(client: RegistryClient, reference: str, **options: Any) -> bytes:
    try:
        return client.manifest(Reference.parse(reference), **options)[0]
    finally:
        client.close()


# ---- logins --------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", [Login(USER, PASSWORD), Login("", "", "identity-token")])
def test_a_login_does_not_go_to_a_realm_elsewhere(login: Login) -> None:
    """A token is asked for as nobody; told to, as who we are (the control)."""
    with Stranger() as registry, Stranger("127.0.0.2") as elsewhere:
        elsewhere.answers["/token"] = TOKEN
        for allowed in ((), ("127.0.0.2",)):
            reference = registry.has(IMAGE)
            registry.wants(f'Bearer realm="{elsewhere.base}/token",service="s"')
            assert manifest(client(*allowed), reference, auth=login) == IMAGE.data
        as_nobody, as_somebody = elsewhere.asked
    assert as_nobody.authorization is None
    assert as_nobody.body == b""
    assert as_nobody.method == "GET"
    assert USER not in as_nobody.path
    assert as_somebody.authorization == BASIC or b"identity-token" in as_somebody.body
    assert all(PASSWORD not in str(one) for one in registry.asked)


def test_a_login_goes_to_another_port_of_the_registrys_host() -> None:
    with Stranger() as registry, Stranger() as tokens:
        tokens.answers["/token"] = TOKEN
        reference = registry.has(IMAGE)
        registry.wants(f'Bearer realm="{tokens.base}/token",service="s"')
        assert manifest(client(), reference, auth=(USER, PASSWORD)) == IMAGE.data
    assert [one.authorization for one in tokens.asked] == [BASIC]


def test_a_realm_that_wants_a_login_it_may_not_have_is_named() -> None:
    with Stranger() as registry, Stranger("127.0.0.2") as elsewhere:
        elsewhere.answers["/token"] = Answer(401, {"WWW-Authenticate": "Basic"})
        reference = registry.has(IMAGE)
        registry.wants(f'Bearer realm="{elsewhere.base}/token",service="s"')
        with pytest.raises(Unauthorized, match="token_realms") as caught:
            manifest(client(), reference, auth=(USER, PASSWORD))
    assert "127.0.0.2" in str(caught.value)
    assert all(one.authorization is None for one in elsewhere.asked)


@pytest.mark.parametrize(
    ("registry", "realm", "same"),
    [
        ("https://registry-1.docker.io", "https://auth.docker.io/token", True),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", True),
        ("https://ghcr.io", "https://ghcr.io/token", True),
        ("https://registry.example.org", "https://sso.example.org:8443/t", True),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", True),
        ("http://127.0.0.1:5000", "http://127.0.0.2:5000/token", False),
        ("http://127.0.0.1:5000", "http://localhost:5000/token", False),
        ("http://10.0.0.1", "http://99.0.0.1", False),
        ("http://[::1]:5000", "http://[::2]:5000", False),
        ("https://docker.io", "https://docker.io.evil.example", False),
        ("https://registry.good.example", "https://evil.example", False),
        ("https://good.co.uk", "https://evil.co.uk", False),
        ("https://a.good.co.uk", "https://b.good.co.uk", True),
        ("https://good.azurecr.io", "https://evil.azurecr.io", False),
        ("https://registry.io", "https://auth.io", False),
        ("http://registry:5000", "http://tokens:5000", False),
        ("https://good.example", "https://good.example.", True),
        ("https://good.example", "nothing", False),
        ("", "", False),
    ],
)
def test_hosts_of_one_owner(registry: str, realm: str, same: bool) -> None:
    assert same_site(registry, realm) is same
    assert same_site(realm, registry) is same


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_login_does_not_follow_a_redirect(status: int) -> None:
    """Neither to another host nor to another port; back to the registry it does (the control)."""
    with Stranger() as registry, Stranger() as port, Stranger("127.0.0.2") as host:
        for place in (port, host, registry):
            reference = registry.has(IMAGE)
            registry.wants('Basic realm="x"')
            name = "/v2/app/manifests/1"
            no = registry.answers[name]
            assert isinstance(no, list)
            place.answers["/elsewhere"] = no[1]
            registry.answers[name] = [
                no[0],
                Answer(status, {"Location": f"{place.base}/elsewhere"}),
            ]
            assert manifest(client(), reference, auth=(USER, PASSWORD)) == IMAGE.data
    assert [one.authorization for one in port.asked] == [None]
    assert [one.authorization for one in host.asked] == [None]
    there = [one.authorization for one in registry.asked if one.path == "/elsewhere"]
    assert there == [BASIC]


def test_nothing_leads_from_tls_to_plain_http(tmp_path: Path) -> None:
    """The control is the same answer with an address that is TLS too."""
    pair = make_certificate(tmp_path)
    ca = str(pair[0])
    with Stranger(certificate=pair) as registry, Stranger() as plain:
        reference = registry.has(IMAGE)
        plain.answers[""] = registry.answers["/v2/app/manifests/1"]
        name = "/v2/app/manifests/1"
        kept = registry.answers[name]
        for location in (f"{plain.base}/x", "http:/x", "//u:p@127.0.0.1/x", "ftp://127.0.0.1/x"):
            registry.answers[name] = Answer(307, {"Location": location})
            with pytest.raises(ContainerKitError):
                manifest(client(), reference, ca=ca)
        realm = f'Bearer realm="{plain.base}/token"'
        registry.answers[name] = Answer(401, {"WWW-Authenticate": realm})
        with pytest.raises(RegistryError, match="plain HTTP"):
            manifest(client(), reference, ca=ca, auth=(USER, PASSWORD))
        registry.answers["/there"] = kept
        registry.answers[name] = Answer(307, {"Location": "/there"})
        assert manifest(client(), reference, ca=ca) == IMAGE.data
    assert plain.asked == []


# ---- places of ours ------------------------------------------------------------------------------


class Listener:
    """Counts who connects, and keeps the first bytes that come; never answers."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.connections = 0
        self.received = b""
        self._socket = socket.create_server((address, 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.connections += 1
                self.received += connection.recv(100)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


def named(monkeypatch: pytest.MonkeyPatch, *addresses: list[str]) -> None:
    """Let inner.test resolve to these addresses, the last ones for ever."""
    real = socket.getaddrinfo
    left = list(addresses)

    def resolve(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host != "inner.test":
            return real(host, port, *rest, **more)
        found = left.pop(0) if len(left) > 1 else left[0]
        return [answer for one in found for answer in real(one, port, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_public_registry_does_not_even_connect_us_to_this_host(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name, which it chose too; neither a request nor a greeting of TLS comes there."""
    named(monkeypatch, ["127.0.0.1"])
    transport = Transport(user_agent="tests", idle_timeout=5)
    with Listener() as inside:
        url = f"{scheme}://inner.test:{inside.port}/latest/meta-data"
        with pytest.raises(TransportError, match="may not choose"):
            transport.send("GET", url, headers={}, tls=Tls(), chosen_by="https://8.8.8.8")
    transport.close()
    assert (inside.connections, inside.received) == (0, b"")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_name_that_changes_its_mind_is_sent_nothing(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    transport = Transport(user_agent="tests", idle_timeout=5)
    with Listener() as inside:
        url = f"{scheme}://inner.test:{inside.port}/latest/meta-data"
        with pytest.raises(TransportError, match="may not choose"):
            transport.send("GET", url, headers={}, tls=Tls(), chosen_by="https://8.8.8.8")
    transport.close()
    assert inside.received == b""


def test_a_registry_of_this_host_may_name_another_place_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control of the two above."""
    named(monkeypatch, ["127.0.0.1"])
    transport = Transport(user_agent="tests")
    with Stranger() as inside:
        inside.answers[""] = Answer()
        url = f"http://inner.test:{inside.host.rpartition(':')[2]}/x"
        with transport.send(
            "GET", url, headers={}, tls=Tls(), chosen_by="http://127.0.0.1:1"
        ) as answer:
            assert answer.status == 200
    transport.close()


@pytest.mark.parametrize(
    "place",
    [
        "169.254.169.254",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::169.254.169.254]",
        "2852039166",
        "0xa9fea9fe",
        "169.254.43518",
    ],
)
def test_nobody_sends_us_to_the_metadata_service(place: str) -> None:
    """Not even a registry of this host; however the address is written."""
    with Stranger() as registry:
        reference = registry.has(IMAGE)
        registry.answers["/v2/app/manifests/1"] = Answer(
            307, {"Location": f"http://{place}/latest/meta-data"}
        )
        with pytest.raises((TransportError, RegistryError)) as caught:
            manifest(client(), reference)
    assert not caught.value.retryable


def test_a_proxy_is_not_asked_for_the_metadata_service(monkeypatch: pytest.MonkeyPatch) -> None:
    with Stranger() as proxy:
        proxy.answers[""] = Answer()
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, proxy.base)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        transport = Transport(user_agent="tests")

        def send(place: str) -> None:
            transport.send(
                "GET", f"http://{place}/x", headers={}, tls=Tls(), chosen_by="http://8.8.8.8"
            ).finish()

        for place in ("169.254.169.254", "10.0.0.1"):
            with pytest.raises(TransportError, match="may not choose"):
                send(place)
        send("93.184.216.34")  # the control
        transport.close()
    assert proxy.paths() == ["http://93.184.216.34/x"]


def test_a_public_name_with_an_address_of_this_host_stays_public(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else its owner could add one, and then send us to this host."""
    named(monkeypatch, ["8.8.8.8", "127.0.0.1"])
    transport = Transport(user_agent="tests")
    with Listener() as inside, pytest.raises(TransportError, match="may not choose"):
        transport.send(
            "GET",
            f"http://127.0.0.1:{inside.port}/",
            headers={},
            tls=Tls(),
            chosen_by="http://inner.test",
        )
    transport.close()
    assert inside.connections == 0


# ---- what it sends -------------------------------------------------------------------------------


def forever(piece: bytes = b" " * 65536) -> Iterator[bytes]:
    while True:
        yield piece


def test_answers_without_an_end(store: Store) -> None:
    """Each is given up when enough of it was read; the server sees us hang up, or it never ended."""
    with Stranger() as registry:
        reference = registry.has(IMAGE)
        good = dict(registry.answers)
        config = f"/v2/app/blobs/{IMAGE.document['config']['digest']}"
        kind = {"Content-Type": IMAGE.media_type}
        endless: list[tuple[str, Answer, type[ContainerKitError]]] = [
            ("/v2/app/manifests/1", Answer(200, kind, forever()), InvalidSpec),
            ("/v2/app/manifests/1", Answer(500, {}, forever()), RegistryError),
            (config, Answer(200, {}, forever()), SizeMismatch),
            (config, Answer(404, {}, forever()), ContainerKitError),
        ]
        for path, answer, error in endless:
            registry.answers = {**good, path: answer}
            with pytest.raises(error):
                store.images.pull(reference)
            store.images.gc()
            assert store.is_empty()
        registry.answers = {**good, "/token": Answer(200, {}, forever())}
        registry.wants(f'Bearer realm="{registry.base}/token"')
        with pytest.raises(RegistryError, match="usable token"):
            store.images.pull(reference)
        registry.answers = good
        store.images.pull(reference)  # the control


def test_a_manifest_that_is_compressed_on_the_way_is_not_read() -> None:
    with Stranger() as registry:
        reference = registry.has(IMAGE)
        headers = {"Content-Type": IMAGE.media_type, "Content-Encoding": "gzip"}
        registry.answers["/v2/app/manifests/1"] = Answer(200, headers, gzip.compress(IMAGE.data))
        with pytest.raises(TransportError, match="compressed on the way"):
            manifest(client(), reference)


def test_foreign_layers_are_not_fetched(store: Store) -> None:
    """Nobody is asked at the addresses that an image names, with or without a login."""
    with Stranger() as registry, Stranger("127.0.0.2") as elsewhere:
        [layer] = IMAGE.document["layers"]
        digest = layer["digest"]
        elsewhere.answers["/layer"] = Answer(200, {}, IMAGE.blobs[digest])
        urls = [f"{elsewhere.base}/layer", "http://169.254.169.254/", "file:///etc/passwd"]
        reference = registry.has(IMAGE.changed(layers=[layer | {"urls": urls}]))
        missing = registry.answers.pop(f"/v2/app/blobs/{digest}")
        with pytest.raises(ContainerKitError):
            store.images.pull(reference, auth=(USER, PASSWORD))
        for kind in (
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ):
            foreign = layer | {"urls": urls, "mediaType": kind}
            with pytest.raises(UnsupportedMediaType, match="does not fetch"):
                store.images.pull(registry.has(IMAGE.changed(layers=[foreign]), tag="2"))
        registry.answers[f"/v2/app/blobs/{digest}"] = missing
        store.images.pull(reference)  # the control: what the registry itself has
    assert elsewhere.connections == 0


# ---- one digest, two meanings --------------------------------------------------------------------


OCI_INDEX = ocibuild.TYPES["oci"]["index"]
OCI_MANIFEST = ocibuild.TYPES["oci"]["manifest"]


def both() -> dict[str, Any]:
    inner = IMAGE.descriptor() | {"platform": {"os": "linux", "architecture": "amd64"}}
    return {**IMAGE.document, "manifests": [inner]}


def without_type() -> dict[str, Any]:
    return {name: value for name, value in IMAGE.document.items() if name != "mediaType"}


CONFUSED: dict[str, tuple[Any, str]] = {
    "manifest and index at once": (both(), OCI_MANIFEST),
    "index and manifest at once": (both() | {"mediaType": OCI_INDEX}, OCI_INDEX),
    "manifest called an index": (IMAGE.document, OCI_INDEX),
    "manifest without a type called an index": (without_type(), OCI_INDEX),
    "index called a manifest": (ocibuild.index([IMAGE]).document, OCI_MANIFEST),
    "type of its own differs": (IMAGE.document, ocibuild.TYPES["docker"]["manifest"]),
    "members twice": (b'{"schemaVersion":2,"layers":[],"layers":[],"config":{}}', OCI_MANIFEST),
    "members in another case": (IMAGE.document | {"Layers": []}, OCI_MANIFEST),
    "manifest of the first schema": (IMAGE.document | {"fsLayers": []}, OCI_MANIFEST),
    "schema version": (IMAGE.document | {"schemaVersion": 3}, OCI_MANIFEST),
}


@pytest.mark.parametrize("case", CONFUSED)
def test_a_document_that_is_two_things_is_none(case: str, store: Store) -> None:
    document, media_type = CONFUSED[case]
    with Stranger() as registry:
        registry.has(IMAGE)
        reference = registry.says(document, media_type, tag="2")
        with pytest.raises((InvalidSpec, UnsupportedMediaType)):
            store.images.pull(reference)
        assert store.is_empty()
        store.images.pull(f"{registry.host}/app:1")  # the control


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../../etc/passwd",
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 63 + "/",
        "sha256:" + "A" * 64,
        "sha256:" + "0" * 64 + "\n",
        "md5:" + "0" * 32,
        "../../x:" + "0" * 64,
        "sha256:" + "\uff10" * 64,
        "",
        7,
        None,
    ],
)
@pytest.mark.parametrize("where", ["config", "layer", "index"])
def test_a_digest_is_no_path(digest: object, where: str, store: Store) -> None:
    if where == "config":
        made = IMAGE.changed(config=IMAGE.document["config"] | {"digest": digest})
    elif where == "layer":
        made = IMAGE.changed(layers=[IMAGE.document["layers"][0] | {"digest": digest}])
    else:
        index = ocibuild.index([IMAGE])
        entry = index.document["manifests"][0] | {"digest": digest}
        made = index.changed(manifests=[entry])
    with Stranger() as registry:
        with pytest.raises(InvalidSpec, match="digest"):
            store.images.pull(registry.has(made))
        assert all(".." not in path for path in registry.paths())
    assert store.is_empty()


def test_a_name_by_digest_is_that_document(store: Store) -> None:
    other = ocibuild.image([{"f": "other"}])
    with Stranger() as registry:
        registry.has(other)
        name = f"/v2/app/manifests/{IMAGE.digest}"
        registry.answers[name] = Answer(
            200,
            {"Content-Type": other.media_type, "Docker-Content-Digest": IMAGE.digest},
            other.data,
        )
        with pytest.raises(DigestMismatch):
            store.images.pull(f"{registry.host}/app@{IMAGE.digest}")
        assert store.is_empty()
        registry.has(IMAGE)
        store.images.pull(f"{registry.host}/app@{IMAGE.digest}")  # the control


def test_an_index_and_its_manifest_agree(store: Store) -> None:
    index = ocibuild.index([IMAGE])
    [entry] = index.document["manifests"]
    wrong: list[tuple[dict[str, Any], type[ContainerKitError]]] = [
        ({"size": len(IMAGE.data) + 1}, SizeMismatch),
        ({"mediaType": ocibuild.TYPES["docker"]["manifest"]}, InvalidSpec),
        ({"mediaType": OCI_INDEX}, InvalidSpec),
    ]
    with Stranger() as registry:
        registry.has(IMAGE)
        for members, error in wrong:
            reference = registry.has(index.changed(manifests=[entry | members]), tag="i")
            with pytest.raises(error):
                store.images.pull(reference)
            assert store.is_empty()
        store.images.pull(registry.has(index, tag="i"))  # the control


@pytest.mark.parametrize("where", ["config", "manifest"])
def test_what_is_here_has_the_size_that_it_is_said_to_have(where: str, store: Store) -> None:
    """The registry is not asked for it again, so nothing else would notice."""
    config, index = IMAGE.document["config"], ocibuild.index([IMAGE])
    [entry] = index.document["manifests"]
    with Stranger() as registry:
        store.images.pull(registry.has(IMAGE))
        if where == "config":
            lying = IMAGE.changed(config=config | {"size": config["size"] + 1})
        else:
            lying = index.changed(manifests=[entry | {"size": entry["size"] + 1}])
        with pytest.raises(SizeMismatch, match="said to have"):
            store.images.pull(registry.has(lying, tag="2"))
        store.images.pull(registry.has(index, tag="3"))  # the control


def test_a_layer_is_the_one_that_the_config_says(store: Store) -> None:
    """By what it unpacks to, too: another layer under the right digest of the wrong tar."""
    other = ocibuild.layer({"f": "other"})
    config = IMAGE.blobs[IMAGE.document["config"]["digest"]]
    with Stranger() as registry:
        with pytest.raises(DigestMismatch):
            store.images.pull(registry.has(ocibuild.image_of(config, [other])))
        store.images.gc()
        assert store.is_empty()
        store.images.pull(registry.has(IMAGE, tag="2"))  # the control


def test_a_blob_is_not_taken_for_what_it_is_not(store: Store) -> None:
    """The config's bytes as a layer, a layer's as the config, an image as its own config."""
    [layer] = IMAGE.document["layers"]
    config = IMAGE.document["config"]
    swapped = IMAGE.changed(
        config=config | {"digest": layer["digest"], "size": layer["size"]},
        layers=[layer | {"digest": config["digest"], "size": config["size"]}],
    )
    with Stranger() as registry:
        with pytest.raises(InvalidSpec):
            store.images.pull(registry.has(swapped))
        mixed = IMAGE.changed(layers=[layer | {"digest": config["digest"], "size": config["size"]}])
        with pytest.raises(CorruptContent):
            store.images.pull(registry.has(mixed, tag="2"))
        store.images.gc()
        assert store.is_empty()


# ---- secrets -------------------------------------------------------------------------------------


def test_no_error_shows_a_secret() -> None:
    """Whatever goes wrong after the login was sent: text, attributes and traceback are without it."""
    secrets = (PASSWORD, BASIC.removeprefix("Basic "), "the-token", "sig=secret")
    shown: list[str] = []
    with Stranger() as registry:
        for answer in (
            Answer(401, {"WWW-Authenticate": "Basic"}),
            Answer(403, {}, PASSWORD.encode()[:4]),
            Answer(404),
            Answer(429),
            Answer(500),
            Answer(200, {"Content-Type": "text/html"}, b"<html>"),
            Answer(307, {"Location": "http://169.254.169.254/?sig=secret"}),
            Answer(307, {"Location": f"http://{USER}:{PASSWORD}@127.0.0.1:1/?sig=secret"}),
            Answer(307, {"Location": "http://127.0.0.1:1/?sig=secret"}),
        ):
            for challenge in ("Basic", f'Bearer realm="{registry.base}/token?sig=secret"'):
                registry.answers["/token"] = TOKEN
                reference = registry.has(IMAGE)
                registry.answers["/v2/app/manifests/1"] = [
                    Answer(401, {"WWW-Authenticate": challenge}),
                    answer,
                ]
                asked = client()
                asked.credentials.login(registry.host, username=USER, password=PASSWORD)
                shown += [repr(asked.credentials), repr(asked)]
                with pytest.raises(ContainerKitError) as caught:
                    manifest(asked, reference)
                error = caught.value
                shown += [str(error), repr(error), repr(error.__dict__), repr(error.args)]
                shown.append("".join(traceback.format_exception(error)))
        assert any(one.authorization == BASIC for one in registry.asked)  # the control
    shown.append(repr(Login(USER, PASSWORD, "the-token")))
    assert not [text for text in shown for secret in secrets if secret in text]
