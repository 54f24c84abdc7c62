"""What keeps the logins of this machine, and what it may do to us: hang, flood, or talk nonsense.

A helper is a program of the user's; it may be broken, and so may be the file that names it.  A pull
then goes on as nobody, and says why, or fails with an error of ours.
"""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from containerkit.errors import ConfigError, ContainerKitError, Unauthorized
from containerkit.model.reference import Reference
from containerkit.registry import credentials
from containerkit.registry.auth import Login
from containerkit.registry.client import RegistryClient
from containerkit.registry.credentials import Credentials
from containerkit.registry.retry import Policy
from tests.security.stranger import Stranger
from tests.support import ocibuild

ONCE = Policy(tries=1, unreachable_tries=1)
IMAGE = ocibuild.image([{"f": "x"}])
HALF = "\ud800"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where config.json is, beside the helpers."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path


def helper(home: Path, script: str) -> Credentials:
    program = home / "docker-credential-odd"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    (home / "config.json").write_text('{"credsStore": "odd"}')
    return Credentials(home / "config.json")


def pull(known: Credentials, challenge: str = 'Basic realm="x"') -> bytes:
    """Pull from a registry that wants a login; return what it was sent for one."""
    with Stranger() as registry:
        reference = registry.has(IMAGE)
        registry.wants(challenge)
        client = RegistryClient(known, policy=ONCE)
        client.manifest(Reference.parse(reference))
        client.close()
        return (registry.asked[-1].authorization or "").encode()


def test_a_helper_is_asked(home: Path) -> None:
    """The control."""
    known = helper(home, """echo '{"Username":"u","Secret":"s"}'""")
    assert pull(known) == Login("u", "s").basic().encode()


NONSENSE = {
    "half of a pair": f"""echo '{json.dumps({"Username": HALF, "Secret": "s"})}'""",
    "half of a pair as secret": f"""echo '{json.dumps({"Username": "u", "Secret": HALF})}'""",
    "half of a pair as token": f"""echo '{json.dumps({"Username": "<token>", "Secret": HALF})}'""",
    "nothing": "",
    "NULs": r"printf '\0\0'",
    "a list": "echo '[]'",
    "depth": "head -c 100000 /dev/zero | tr '\\0' '['",
    "a signal": "kill -9 $$",
    "a failure": "exit 3",
}


@pytest.mark.parametrize("case", NONSENSE)
def test_a_helper_that_talks_nonsense(case: str, home: Path) -> None:
    with pytest.raises(Unauthorized, match="docker-credential-odd") as caught:
        pull(helper(home, NONSENSE[case]))
    assert "ud800" not in str(caught.value)


def test_a_helper_that_fails_is_asked_once(home: Path) -> None:
    """Not again for what the error says: each time may take half a minute."""
    known = helper(home, f"echo asked >>{home}/asked; exit 3")
    with pytest.raises(Unauthorized, match="failed with code 3"):
        pull(known)
    assert (home / "asked").read_text() == "asked\n"


@pytest.mark.parametrize("where", ["1", "2"])
def test_a_helper_that_floods_is_not_listened_to(where: str, home: Path) -> None:
    """It would go on until we had no memory left."""
    known = helper(home, f"while :; do head -c 1000000 /dev/zero >&{where} || exit; done")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Unauthorized, match="more than 1048576 bytes"):
        pull(known)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


@pytest.mark.parametrize("script", ["exec sleep 1000", "sleep 30 &", "exec sleep 1000 >&- 2>&-"])
def test_a_helper_that_hangs_is_given_up(
    script: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by what it leaves behind, with its output still open; that is not ours to end."""
    monkeypatch.setattr(credentials, "HELPER_TIMEOUT", 0.2)
    with pytest.raises(Unauthorized, match="did not answer"):
        pull(helper(home, script))


CONFIGS = {
    "half of a pair": {"username": HALF, "password": "x"},
    "half of a pair as password": {"username": "u", "password": HALF},
    "half of a pair as token": {"auth": "dTpw", "identitytoken": HALF},
    "another encoding": {"auth": "/////w=="},
}


@pytest.mark.parametrize("challenge", ['Basic realm="x"', 'Bearer realm="http://127.0.0.1:1/t"'])
@pytest.mark.parametrize("case", CONFIGS)
def test_a_file_that_holds_no_text(case: str, challenge: str, home: Path) -> None:
    with Stranger() as registry:
        reference = registry.has(IMAGE)
        registry.wants(challenge)
        document = {"auths": {registry.host: CONFIGS[case]}}
        (home / "config.json").write_text(json.dumps(document))
        client = RegistryClient(Credentials(home / "config.json"), policy=ONCE)
        with pytest.raises(ConfigError, match="login"):
            client.manifest(Reference.parse(reference))


@pytest.mark.parametrize("kind", ["fifo", "directory", "device"])
def test_a_file_that_is_none_is_not_waited_for(kind: str, home: Path) -> None:
    path = home / "config.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(Unauthorized, match="no login is known"):
        pull(Credentials(path))


def test_a_login_is_text() -> None:
    for parts in ((HALF, "x"), ("u", HALF), ("u", "x", HALF)):
        with pytest.raises(ConfigError) as caught:
            Login(*parts)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
    with pytest.raises(ContainerKitError):
        Credentials().login("r.example", username="u", password=HALF)
