"""Logins: of the process, of docker's config file, of credential helpers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from containerkit.errors import ConfigError
from containerkit.registry.auth import Login
from containerkit.registry.credentials import Credentials

Write = Callable[[Any], Credentials]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a config file and opens it."""

    def make(config: Any) -> Credentials:
        path = tmp_path / "config.json"
        path.write_text(config if isinstance(config, str) else json.dumps(config))
        return Credentials(path)

    return make


def basic(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Return a function that installs a credential helper; its file of calls is returned."""

    def install(name: str, script: str) -> Path:
        calls = tmp_path / f"{name}.calls"
        program = tmp_path / f"docker-credential-{name}"
        program.write_text(f'#!/bin/sh\nread server\necho "$1 $server" >> "{calls}"\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return calls

    return install


SECRET = """echo '{"ServerURL":"x","Username":"me","Secret":"pw"}'"""


def test_no_file_no_login(tmp_path: Path) -> None:
    assert Credentials(tmp_path / "none.json").find("reg.example").login is None


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"reg.example": basic("me:pw")}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert Credentials().find("reg.example").login == Login("me", "pw")
    assert Credentials(use_docker=False).find("reg.example").login is None


@pytest.mark.parametrize(
    "key", ["reg.example:5000", "https://reg.example:5000/v1/", "REG.example:5000"]
)
def test_spellings_of_a_registry(write: Write, key: str) -> None:
    credentials = write({"auths": {key: basic("me:p:w")}})
    assert credentials.find("reg.example:5000").login == Login("me", "p:w")
    assert credentials.find("reg.example").login is None


def test_docker_io_has_an_old_name(write: Write) -> None:
    credentials = write({"auths": {"https://index.docker.io/v1/": basic("me:pw")}})
    assert credentials.find("docker.io").login == Login("me", "pw")


def test_identity_token_and_plain_members(write: Write) -> None:
    credentials = write(
        {
            "auths": {
                "a.example": {
                    **basic("00000000-0000-0000-0000-000000000000:"),
                    "identitytoken": "t",
                },
                "b.example": {"username": "me", "password": "pw"},
                "c.example": {},
            }
        }
    )
    found = credentials.find("a.example").login
    assert found is not None
    assert found.identity_token == "t"
    assert credentials.find("b.example").login == Login("me", "pw")
    assert credentials.find("c.example").login is None


@pytest.mark.parametrize(
    "config",
    ["", "{", "[]", "[" * 99_999, {"auths": {"reg.example": {"auth": "%%%"}}}],
)
def test_a_broken_file_is_named(write: Write, config: Any) -> None:
    with pytest.raises(ConfigError, match=r"config\.json|auth"):
        write(config).find("reg.example")


@pytest.mark.parametrize(
    "config", [{}, {"auths": 7}, {"auths": {"reg.example": 7}}, {"credsStore": 7}]
)
def test_a_strange_file_knows_nothing(write: Write, config: Any) -> None:
    assert write(config).find("reg.example").login is None


def test_a_login_of_this_process_wins(write: Write) -> None:
    credentials = write({"auths": {"reg.example": basic("file:pw")}})
    credentials.login("https://reg.example", username="me", password="x")
    assert credentials.find("reg.example").login == Login("me", "x")
    before = credentials.generation
    credentials.logout("reg.example")
    assert credentials.find("reg.example").login == Login("file", "pw")
    assert credentials.generation > before


@pytest.mark.parametrize("username", ["", "a:b"])
def test_a_user_name_that_can_not_be_sent(username: str) -> None:
    with pytest.raises(ConfigError):
        Credentials().login("reg.example", username=username, password="x")


def test_what_is_no_name_and_password_is_not_taken_for_a_name(write: Write) -> None:
    credentials = write({"auths": {"reg.example": basic("a-token-alone")}})
    with pytest.raises(ConfigError, match="no name and password") as caught:
        credentials.find("reg.example")
    assert "a-token" not in str(caught.value)


def test_a_helper_is_called_for_the_registry_in_use_only(
    write: Write, helper: Callable[[str, str], Path]
) -> None:
    own = helper("own", SECRET)
    other = helper("other", SECRET)
    credentials = write({"credHelpers": {"a.example": "own", "b.example": "other"}})
    assert credentials.find("a.example").login == Login("me", "pw")
    assert credentials.find("c.example").login is None
    assert own.read_text() == "get a.example\n"
    assert not other.exists()


def test_the_default_helper_knows_docker_io_by_its_old_name(
    write: Write, helper: Callable[[str, str], Path]
) -> None:
    calls = helper("store", SECRET)
    write({"credsStore": "store"}).find("docker.io")
    assert calls.read_text() == "get https://index.docker.io/v1/\n"


def test_a_login_of_this_process_calls_no_helper(
    write: Write, helper: Callable[[str, str], Path]
) -> None:
    calls = helper("store", SECRET)
    credentials = write({"credsStore": "store"})
    credentials.login("a.example", username="me", password="x")
    credentials.find("a.example")
    assert not calls.exists()


def test_an_identity_token_from_a_helper(write: Write, helper: Callable[[str, str], Path]) -> None:
    helper("store", """echo '{"Username":"<token>","Secret":"t"}'""")
    assert write({"credsStore": "store"}).find("a.example").login == Login("", "", "t")


def test_a_helper_without_a_login_falls_back_to_the_file(
    write: Write, helper: Callable[[str, str], Path]
) -> None:
    helper("store", "echo credentials not found in native keychain; exit 1")
    credentials = write({"credsStore": "store", "auths": {"a.example": basic("me:pw")}})
    found = credentials.find("a.example")
    assert (found.login, found.problem) == (Login("me", "pw"), None)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo hunter2 >&2; exit 3", "failed with code 3"),
        ("echo hunter2", "something else than a login"),
        ("""echo '{"Username":1,"Secret":2}'""", "something else than a login"),
    ],
)
def test_a_helper_that_fails_is_a_problem_to_report(
    write: Write, helper: Callable[[str, str], Path], script: str, says: str
) -> None:
    helper("store", script)
    found = write({"credsStore": "store"}).find("a.example")
    assert found.login is None
    assert found.problem is not None
    assert says in found.problem
    assert "hunter2" not in found.problem


@pytest.mark.parametrize("name", ["absent", "../evil", "a/b", ""])
def test_a_helper_that_is_not_there(write: Write, name: str) -> None:
    found = write({"credsStore": name}).find("a.example")
    assert found.login is None
    assert (found.problem is None) == (not name)
