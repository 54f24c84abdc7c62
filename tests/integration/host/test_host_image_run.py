"""Host images through the engine: what its launcher makes of their mounts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from containerkit.engine import Engine
from containerkit.images.host import HostImage, host_image
from tests.integration.host import plain

INTERPRETERS = plain.interpreters()


def said(engine: Engine, image: HostImage | None, *command: str, user: str = "0") -> str:
    result = engine.run(image, command, text=True, user=user)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def venv_at(place: Path) -> Path:
    subprocess.run([INTERPRETERS[0], "-m", "venv", "--without-pip", place], check=True)
    return place / "bin" / "python"


@pytest.mark.parametrize("user", ["0", pytest.param("1000", marks=pytest.mark.needs("ids"))])
def test_the_running_python(engine: Engine, user: str) -> None:
    program = (
        "import sys, ssl; print(sys.prefix, bool(ssl.create_default_context().get_ca_certs()))"
    )
    assert said(engine, None, "python", "-c", program, user=user) == f"{sys.prefix} True\n"


@pytest.mark.needs("ids")
@pytest.mark.parametrize("python", INTERPRETERS)
def test_every_python_and_a_virtual_environment_of_it(engine: Engine, python: str) -> None:
    with plain.directory(0o700) as closed:
        venv = closed / "venv"
        subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
        for executable in (python, str(venv / "bin" / "python")):
            facts = plain.facts_of(executable)
            image = host_image(engine.root, python=facts, site_packages=False)
            program = "import sys, sqlite3; print(sys.prefix)"
            found = said(engine, image, facts.executables[0], "-c", program, user="1000")
            assert found == f"{facts.prefix}\n"


def test_files_and_directories_that_are_asked_for(engine: Engine) -> None:
    with plain.directory() as place:
        (place / "file").write_text("a file")
        (place / "dir").mkdir()
        (place / "dir" / "inner").write_text("inner")
        (place / "neighbour").write_text("secret")
        image = host_image(engine.root, paths=[place / "file", place / "dir"])
        script = f"cat {place}/file {place}/dir/inner; ls {place}; echo new > {place}/dir/inner"
        assert said(engine, image, "sh", "-c", script) == "a fileinnerdir\nfile\n"
        assert (place / "dir" / "inner").read_text() == "inner"
        refused = engine.run(image, ["sh", "-c", f"echo new > {place}/file"], text=True)
        assert "Read-only" in refused.stderr


@pytest.mark.needs("owners")
def test_a_directory_keeps_mode_and_owner(engine: Engine) -> None:
    with plain.directory(0o750) as place:
        os.chown(place, 1000, 1001)
        image = host_image(engine.root, paths=[place])
        assert said(engine, image, "stat", "-c", "%a %u %g", str(place)) == "750 1000 1001\n"
        assert said(engine, image, "stat", "-c", "%a", "/tmp") == "1777\n"


def test_a_wanted_package_without_the_others(engine: Engine) -> None:
    with plain.directory() as place:
        facts = plain.facts_of(str(venv_at(place)))
        site = Path(next(d for d in facts.site_packages() if str(place) in d))
        for name in ("wanted", "unwanted"):
            (site / name).mkdir()
            (site / name / "__init__.py").write_text("")
        image = host_image(engine.root, python=facts, site_packages=False, paths=[site / "wanted"])
        assert said(engine, image, "ls", str(site)) == "wanted\n"
        assert said(engine, image, "python", "-c", "import wanted") == ""


@pytest.mark.needs("ids")
def test_the_engine_root_is_not_seen_from_inside() -> None:
    with plain.directory() as place:
        facts = plain.facts_of(str(venv_at(place)))
        with Engine.open(place / "store") as engine:
            image = host_image(engine.root, python=facts)
            assert said(engine, image, "ls", "-A", str(place / "store")) == ""
            assert said(engine, image, "python", "-c", "print(1)", user="1000") == "1\n"


def test_what_one_container_writes_the_next_does_not_see(engine: Engine) -> None:
    script = "touch /usr/mark /etc/mark /tmp/mark /root/mark; ls /usr/mark"
    assert said(engine, None, "sh", "-c", script) == "/usr/mark\n"
    look = "ls -d /usr/mark /etc/mark /tmp/mark /root/mark 2>/dev/null || true"
    assert said(engine, None, "sh", "-c", look) == ""
    assert not os.path.exists("/usr/mark")


def test_the_environment_of_this_process_is_not_inside(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CK_HOST_SECRET", "of the environment")
    inside = said(
        engine, None, "sh", "-c", "env; cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'"
    )
    assert "CK_HOST_SECRET" not in inside
    assert str(engine.root) not in inside
    assert {line.split("=")[0] for line in said(engine, None, "env").splitlines()} <= {
        "PATH", "LANG", "HOME", "HOSTNAME", "PWD", "TERM"
    }  # fmt: skip
