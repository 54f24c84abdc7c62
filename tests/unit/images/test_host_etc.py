"""The /etc of a host image: what is copied of a host's, and that no secret is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from containerkit.images.host_build import Skeleton
from containerkit.images.host_etc import COPIED, DENIED, FILE_MAX, denied, fill, links_into_etc


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with /etc and /usr/bin, both empty."""
    for name in ("etc", "usr/bin"):
        (tmp_path / "host" / name).mkdir(parents=True)
    return tmp_path / "host"


def put(host: Path, name: str, text: str = "content", mode: int = 0o644) -> None:
    path = host / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def link(host: Path, name: str, text: str) -> None:
    (host / name).parent.mkdir(parents=True, exist_ok=True)
    (host / name).symlink_to(text)


def made(host: Path, tmp_path: Path) -> Path:
    fill(Skeleton(tmp_path / "image"), str(host))
    return tmp_path / "image" / "etc"


def test_an_empty_host_still_has_accounts_and_name_service(host: Path, tmp_path: Path) -> None:
    etc = made(host, tmp_path)
    assert (etc / "passwd").read_text().startswith("root:x:0:0:root:/root:")
    assert "hosts: files dns" in (etc / "nsswitch.conf").read_text()
    assert {path.name for path in etc.iterdir()} == {
        "passwd", "group", "nsswitch.conf", "hosts", "hostname", "resolv.conf", "mtab"
    }  # fmt: skip


def test_accounts_of_the_host_do_not_come_along(host: Path, tmp_path: Path) -> None:
    put(host, "etc/passwd", "somebody:x:1000:1000::/home/somebody:/bin/sh\n")
    put(host, "etc/resolv.conf", "nameserver 192.0.2.1\n")
    etc = made(host, tmp_path)
    assert "somebody" not in (etc / "passwd").read_text()
    assert (etc / "resolv.conf").read_text() == ""


def test_what_programs_need_is_copied_with_its_links(host: Path, tmp_path: Path) -> None:
    put(host, "etc/ssl/certs/ca.pem", "CERTIFICATE")
    link(host, "etc/ssl/certs/0123abcd.0", "ca.pem")
    link(host, "etc/alternatives/awk", "/usr/bin/mawk")
    link(host, "etc/localtime", "/usr/share/zoneinfo/UTC")
    put(host, "etc/java-21-openjdk/security/java.policy", "grant {}")
    etc = made(host, tmp_path)
    assert (etc / "ssl/certs/0123abcd.0").read_text() == "CERTIFICATE"
    assert (etc / "alternatives/awk").readlink() == Path("/usr/bin/mawk")
    assert (etc / "localtime").readlink() == Path("/usr/share/zoneinfo/UTC")
    assert (etc / "java-21-openjdk/security/java.policy").read_text() == "grant {}"
    assert (etc / "ssl/certs/ca.pem").stat().st_mode & 0o7777 == 0o644


def test_what_links_near_the_top_of_usr_lead_to_is_copied(host: Path, tmp_path: Path) -> None:
    put(host, "etc/tool/settings", "a = 1")
    link(host, "usr/share/tool/settings", "/etc/tool/settings")
    put(host, "etc/other.conf", "b = 2")
    link(host, "usr/lib/other.conf", "../../etc/other.conf")
    put(host, "etc/unrelated", "c = 3")
    assert links_into_etc(str(host)) == ["other.conf", "tool/settings"]
    etc = made(host, tmp_path)
    assert (etc / "tool/settings").read_text() == "a = 1"
    assert (etc / "other.conf").read_text() == "b = 2"
    assert not (etc / "unrelated").exists()


def test_a_link_inside_etc_brings_what_it_leads_to(host: Path, tmp_path: Path) -> None:
    put(host, "etc/big/real", "x")
    link(host, "etc/alternatives/conf", "/etc/big/real")
    link(host, "etc/alternatives/loop", "loop")
    link(host, "etc/alternatives/secret", "../shadow")
    put(host, "etc/shadow", "root:$6$:::::::", mode=0o644)
    etc = made(host, tmp_path)
    assert (etc / "big/real").read_text() == "x"
    assert not (etc / "shadow").exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("shadow", "denied"),
        ("ssh/ssh_host_rsa_key", "denied"),
        ("ssl/private/server.pem", "denied"),
        ("environment", "denied"),
        ("maven/settings.xml", "denied"),
        ("ssl/certs/server.key", "denied"),
        ("tool/password.txt", "denied"),
    ],
)
def test_a_link_does_not_bring_what_is_denied(
    host: Path, tmp_path: Path, name: str, why: str
) -> None:
    assert denied(name), why
    put(host, f"etc/{name}", "secret")
    link(host, "usr/lib/wanted", f"/etc/{name}")
    etc = made(host, tmp_path)
    assert not [path for path in etc.rglob("*") if path.is_file() and "secret" in path.read_text()]


def test_only_what_everybody_may_read_is_copied(host: Path, tmp_path: Path) -> None:
    put(host, "etc/ssl/certs/closed.pem", "secret", mode=0o640)
    put(host, "etc/fonts/closed/inner", "secret")
    (host / "etc/fonts/closed").chmod(0o700)
    etc = made(host, tmp_path)
    assert not (etc / "ssl/certs/closed.pem").exists()
    assert not (etc / "fonts/closed").exists()


def test_a_private_key_is_known_by_its_content(host: Path, tmp_path: Path) -> None:
    put(host, "etc/ssl/certs/both.pem", "CERTIFICATE\n-----BEGIN RSA PRIVATE KEY-----\n")
    put(host, "etc/ssl/certs/good.pem", "CERTIFICATE\n")
    etc = made(host, tmp_path)
    assert [path.name for path in (etc / "ssl/certs").iterdir()] == ["good.pem"]


def test_large_and_special_files_are_left_out(host: Path, tmp_path: Path) -> None:
    put(host, "etc/fonts/large")
    os.truncate(host / "etc/fonts/large", FILE_MAX + 1)
    os.mkfifo(host / "etc/fonts/pipe", 0o666)
    (host / "etc/fonts/pipe").chmod(0o666)
    assert list((made(host, tmp_path) / "fonts").iterdir()) == []


def test_the_two_lists_do_not_contradict() -> None:
    assert not [name for name in COPIED if denied(name)]
    assert not [pattern for pattern in DENIED if pattern.startswith("/")]


@pytest.mark.parametrize("name", ["alternatives/awk", "ssl/certs/Secure_Global_CA.pem", "services"])
def test_ordinary_names_are_not_denied(name: str) -> None:
    assert not denied(name)
