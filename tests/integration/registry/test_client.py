"""The client against a real registry: names, manifests, blobs, ranges, TLS, tokens, passwords."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerkit.errors import (
    BlobNotFound,
    ImageNotFound,
    InvalidSpec,
    SizeMismatch,
    TransportError,
    Unauthorized,
)
from containerkit.model.descriptor import Descriptor
from containerkit.model.digest import Digest
from containerkit.model.image_config import ImageConfig
from containerkit.model.manifest import Index, Manifest, parse_manifest
from containerkit.model.platform import Platform
from containerkit.registry.credentials import Credentials
from containerkit.registry.fetch import fetch, read_blob
from tests.integration.registry.support import at, blob_of, layer_of, noise_image, opened
from tests.support import ocibuild
from tests.support.faultproxy import FaultProxy
from tests.support.registry import PASSWORD, USERNAME, RegistryServer

pytestmark = pytest.mark.needs("docker-registry", "openssl")

IMAGE = noise_image()


@pytest.fixture(scope="module")
def with_passwords() -> Iterator[RegistryServer]:
    with RegistryServer(auth="basic") as server:
        server.push("private/app:1", IMAGE)
        yield server


@pytest.fixture(scope="module")
def with_tokens() -> Iterator[RegistryServer]:
    with RegistryServer(auth="token") as server:
        server.push("public/app:1", IMAGE)
        server.push("private/app:1", IMAGE)
        yield server


@pytest.fixture(scope="module")
def with_tls() -> Iterator[RegistryServer]:
    with RegistryServer(tls=True) as server:
        server.push("app:1", IMAGE)
        yield server


# ---- names and content -------------------------------------------------------------------------


@pytest.mark.parametrize("schema", ["oci", "docker"])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_an_image_of_every_kind(
    registry: RegistryServer, schema: ocibuild.Schema, compression: ocibuild.Compression
) -> None:
    image = ocibuild.image(
        [{"a": "1"}, {"b": "2"}], config={"Cmd": ["x"]}, compression=compression, schema=schema
    )
    reference = at(registry.host, "kinds/app:1")
    registry.push("kinds/app:1", image)
    with opened() as client:
        resolved = client.resolve(reference)
        data, descriptor = client.manifest(reference)
        assert resolved == descriptor
        assert (data, str(descriptor.digest)) == (image.data, image.digest)
        manifest = parse_manifest(data, descriptor.media_type)
        assert isinstance(manifest, Manifest)
        for layer in manifest.layers:
            assert b"".join(fetch(client, reference, layer)) == blob_of(image, layer)
        config = read_blob(client, reference, manifest.config, limit=1 << 20)
        assert ImageConfig.parse(config).cmd == ("x",)


def test_an_index_by_tag_and_by_digest(registry: RegistryServer) -> None:
    children = [
        ocibuild.image([{"a": platform}], platform=platform)
        for platform in ("linux/amd64", "linux/arm/v7")
    ]
    name = "index/app:1"
    registry.push(name, ocibuild.index(children))
    reference = at(registry.host, name)
    with opened() as client:
        data, descriptor = client.manifest(reference)
        index = parse_manifest(data, descriptor.media_type)
        assert isinstance(index, Index)
        chosen = index.select(Platform.parse("linux/arm/v7"))
        child, found = client.manifest(reference, descriptor=chosen)
        assert (child, found.digest) == (children[1].data, chosen.digest)
        pinned = reference.with_digest(descriptor.digest)
        assert client.manifest(pinned)[0] == data
        assert client.resolve(pinned) == descriptor


def test_an_index_that_is_wrong_about_its_child(registry: RegistryServer) -> None:
    name = registry.push("index/wrong:1", IMAGE).partition("/")[2]
    reference = at(registry.host, name)
    digest = Digest.parse(IMAGE.digest)
    with opened() as client:
        with pytest.raises(SizeMismatch, match="the index says 1 bytes"):
            client.manifest(reference, descriptor=Descriptor(IMAGE.media_type, digest, 1))
        docker = ocibuild.TYPES["docker"]["manifest"]
        wrong = Descriptor(docker, digest, len(IMAGE.data))
        with pytest.raises(InvalidSpec, match="the index calls it"):
            client.manifest(reference, descriptor=wrong)


@pytest.mark.needs("skopeo", "umoci")
def test_an_image_that_other_tools_made_and_pushed(
    registry: RegistryServer, tmp_path: Path
) -> None:
    layout, rootfs = tmp_path / "layout", tmp_path / "file"
    rootfs.write_text("content")
    for command in (
        ["umoci", "init", "--layout", str(layout)],
        ["umoci", "new", "--image", f"{layout}:1"],
        ["umoci", "insert", "--image", f"{layout}:1", str(rootfs), "/file"],
        ["umoci", "config", "--image", f"{layout}:1", "--config.user", "7", "--config.env", "A=b"],
        [
            *("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:1"),
            f"docker://{registry.host}/tools/app:1",
        ],
    ):
        subprocess.run(command, check=True, capture_output=True)
    reference = at(registry.host, "tools/app:1")
    with opened() as client:
        data, descriptor = client.manifest(reference)
        manifest = parse_manifest(data, descriptor.media_type)
        assert isinstance(manifest, Manifest)
        config = ImageConfig.parse(read_blob(client, reference, manifest.config, limit=1 << 20))
        assert (config.user, "A=b" in config.env) == ("7", True)
        assert len(config.diff_ids) == len(manifest.layers)


def test_a_layout_of_ours_is_read_by_other_tools(tmp_path: Path) -> None:
    layout = ocibuild.write_layout(tmp_path / "layout", {"1": ocibuild.image([{"a": "1"}])})
    listed = subprocess.run(
        ["umoci", "ls", "--layout", str(layout)], capture_output=True, check=True
    )
    assert listed.stdout.split() == [b"1"]


def test_what_is_not_there(registry: RegistryServer) -> None:
    registry.push("there:1", IMAGE)
    absent = Descriptor("x/y", Digest.of(b"absent"), 6)
    with opened() as client:
        for name in ("there:2", "nowhere:1", f"there@{absent.digest}"):
            for ask in (client.resolve, client.manifest):
                with pytest.raises(ImageNotFound, match=r"answered 404 \((MANIFEST|NAME)_UNKNOWN"):
                    ask(at(registry.host, name))
        with pytest.raises(BlobNotFound, match="BLOB_UNKNOWN"):
            list(fetch(client, at(registry.host, "there:1"), absent))


def test_a_blob_from_the_middle(registry: RegistryServer) -> None:
    registry.push("middle:1", IMAGE)
    reference, layer = at(registry.host, "middle:1"), layer_of(IMAGE)
    whole = blob_of(IMAGE, layer)
    with opened() as client:
        with client.blob(reference, layer, offset=1_000_000) as stream:
            assert stream.offset == 1_000_000
            assert b"".join(stream) == whole[1_000_000:]
        for offset in (0, 1, len(whole) - 1, len(whole)):
            assert b"".join(fetch(client, reference, layer, offset=offset)) == whole[offset:]
        with pytest.raises(InvalidSpec, match="cannot go on"):
            list(fetch(client, reference, layer, offset=len(whole) + 1))


def test_chunks_are_small_and_the_connection_serves_again(registry: RegistryServer) -> None:
    registry.push("chunks:1", IMAGE)
    reference, layer = at(registry.host, "chunks:1"), layer_of(IMAGE)
    with opened() as client:
        gc.collect()  # what other tests have left to it
        before = connections(registry)
        for _ in range(5):
            sizes = [len(chunk) for chunk in fetch(client, reference, layer)]
            assert (max(sizes) <= 256 << 10, sum(sizes)) == (True, layer.size)
        assert connections(registry) == before + 1


def connections(registry: RegistryServer) -> int:
    """Count the sockets of this process that lead to the registry."""
    local = f"{registry.port:04X}"
    with open("/proc/self/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table][1:]
    return sum(1 for row in rows if row[2].endswith(f":{local}") and row[3] == "01")


def test_a_small_blob_has_a_limit(registry: RegistryServer) -> None:
    registry.push("limit:1", IMAGE)
    with opened() as client, pytest.raises(InvalidSpec, match="more than 1000"):
        read_blob(client, at(registry.host, "limit:1"), layer_of(IMAGE), limit=1000)


def test_several_threads_share_a_client(with_tokens: RegistryServer) -> None:
    assert with_tokens.tokens is not None
    reference, layer = at(with_tokens.host, "public/app:1"), layer_of(IMAGE)
    whole, results = blob_of(IMAGE, layer), []
    asked = len(with_tokens.tokens.asked)
    with opened() as client:

        def work() -> None:
            results.append(b"".join(fetch(client, reference, layer)) == whole)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [True] * 6
    assert len(with_tokens.tokens.asked) == asked + 1


# ---- who we are --------------------------------------------------------------------------------


def test_passwords(with_passwords: RegistryServer) -> None:
    reference = at(with_passwords.host, "private/app:1")
    with opened() as client:
        with pytest.raises(Unauthorized, match=r"answered 401.*no login is known for 127\.0\.0\.1"):
            client.manifest(reference)
        with pytest.raises(Unauthorized, match="the login of 'tester'") as caught:
            client.manifest(reference, auth=(USERNAME, "hunter2"))
        assert "hunter2" not in str(caught.value)
        assert caught.value.status == 401
        assert client.manifest(reference, auth=(USERNAME, PASSWORD))[0] == IMAGE.data
        # The login of one call is not that of the next.
        with pytest.raises(Unauthorized):
            client.manifest(reference)
        client.credentials.login(with_passwords.host, username=USERNAME, password=PASSWORD)
        assert client.resolve(reference).size == len(IMAGE.data)
        client.credentials.logout(with_passwords.host)
        with pytest.raises(Unauthorized):
            client.resolve(reference)


def test_a_helper_that_failed_is_named_when_it_matters(
    with_passwords: RegistryServer, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"credsStore": "absent-helper"}')
    credentials = Credentials(tmp_path / "config.json")
    with (
        opened(credentials=credentials) as client,
        pytest.raises(Unauthorized, match="docker-credential-absent-helper can not be started"),
    ):
        client.resolve(at(with_passwords.host, "private/app:1"))


def test_tokens(with_tokens: RegistryServer) -> None:
    tokens = with_tokens.tokens
    assert tokens is not None
    public, private = (at(with_tokens.host, f"{name}/app:1") for name in ("public", "private"))
    with opened() as client:
        start = len(tokens.asked)
        assert client.manifest(public)[0] == IMAGE.data
        assert client.manifest(public)[0] == IMAGE.data
        assert len(tokens.asked) == start + 1
        assert tokens.asked[-1].authorization is None
        assert tokens.asked[-1].fields["scope"] == ["repository:public/app:pull"]
        with pytest.raises(Unauthorized, match="no login is known"):
            client.manifest(private)
        with pytest.raises(Unauthorized, match=r"token|tester"):
            client.manifest(private, auth=(USERNAME, "hunter2"))
        assert client.manifest(private, auth=(USERNAME, PASSWORD))[0] == IMAGE.data
        client.credentials.login(with_tokens.host, username=USERNAME, password=PASSWORD)
        assert client.manifest(private)[0] == IMAGE.data
        assert str(tokens.asked[-1].authorization).startswith("Basic ")


def test_a_token_that_lapses_is_replaced(with_tokens: RegistryServer) -> None:
    tokens = with_tokens.tokens
    assert tokens is not None
    reference = at(with_tokens.host, "public/app:1")
    with opened() as client:
        tokens.lifetime = -3600
        with pytest.raises(Unauthorized):
            client.manifest(reference)
        tokens.lifetime = 300
        assert client.manifest(reference)[0] == IMAGE.data


def test_an_identity_token(with_tokens: RegistryServer, tmp_path: Path) -> None:
    assert with_tokens.tokens is not None
    config = tmp_path / "config.json"
    config.write_text(
        f'{{"auths": {{"{with_tokens.host}": {{"auth": "eDo=", "identitytoken": "identity"}}}}}}'
    )
    with opened(credentials=Credentials(config)) as client:
        assert client.manifest(at(with_tokens.host, "private/app:1"))[0] == IMAGE.data
    assert with_tokens.tokens.asked[-1].method == "POST"


# ---- TLS ---------------------------------------------------------------------------------------


def test_a_certificate_of_nobody(with_tls: RegistryServer) -> None:
    reference = at(with_tls.host, "app:1")
    with opened() as client:
        with pytest.raises(TransportError, match=r"certificate is not trusted.*ca=") as caught:
            client.manifest(reference)
        assert not caught.value.retryable
        with pytest.raises(TransportError):
            client.manifest(reference, insecure=False)


def test_a_certificate_authority_of_the_caller(with_tls: RegistryServer) -> None:
    assert with_tls.ca is not None
    reference, layer = at(with_tls.host, "app:1"), layer_of(IMAGE)
    for ca in (with_tls.ca, Path(with_tls.ca), Path(with_tls.ca).read_text()):
        with opened() as client:
            assert client.manifest(reference, ca=ca)[0] == IMAGE.data
            whole = b"".join(fetch(client, reference, layer, ca=ca, cancelled=threading.Event()))
            assert whole == blob_of(IMAGE, layer)


def test_any_certificate_when_asked_for(with_tls: RegistryServer) -> None:
    with opened() as client:
        assert client.manifest(at(with_tls.host, "app:1"), insecure=True)[0] == IMAGE.data


def test_a_certificate_authority_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("nothing")
    with opened() as client:
        for ca in (tmp_path / "ca", tmp_path / "absent"):
            with pytest.raises(TransportError, match=r"cannot (use ca|read certificates)"):
                client.resolve(at("reg.invalid", "app:1"), ca=ca)


def test_plain_http_is_not_spoken_when_it_must_not(registry: RegistryServer) -> None:
    registry.push("plain:1", IMAGE)
    reference = at(registry.host, "plain:1")
    with opened() as client:
        with pytest.raises(TransportError, match="TLS"):
            client.manifest(reference, insecure=False)
        assert client.manifest(reference, insecure=True)[0] == IMAGE.data


def test_nobody_listens() -> None:
    with opened() as client:
        with pytest.raises(TransportError, match="refused") as caught:
            client.resolve(at("127.0.0.1:1", "app:1"))
        assert caught.value.retryable
        with pytest.raises(TransportError, match="host name is unknown"):
            client.resolve(at("registry.invalid", "app:1"))


# ---- proxies and forks -------------------------------------------------------------------------


def test_a_proxy_of_the_environment(
    registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultProxy(registry.host) as proxy, opened() as client:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.base)
        registry.push("proxied:1", IMAGE)
        # Loopback is never asked for through a proxy.
        assert client.manifest(at(registry.host, "proxied:1"))[0] == IMAGE.data
        assert proxy.seen == []
        # The proxy knows no tunnels, so what is left is plain HTTP.
        reference = at("registry.example", "proxied:1")
        assert client.manifest(reference, insecure=True)[0] == IMAGE.data
        assert str(proxy.seen[-1]) == "GET http://registry.example/v2/proxied/manifests/1"
        with pytest.raises(TransportError, match="proxy"):
            client.manifest(reference)


FORK = """
import os, sys
from containerkit.model.reference import Reference
from containerkit.registry.client import RegistryClient
client, reference = RegistryClient(), Reference.parse(sys.argv[1])
first = client.manifest(reference)
child = os.fork()
for _ in range(20):
    assert client.manifest(reference) == first
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_process_does_not_disturb_its_parent(registry: RegistryServer) -> None:
    name = registry.push("fork:1", IMAGE)
    subprocess.run([sys.executable, "-W", "error", "-c", FORK, name], check=True)
