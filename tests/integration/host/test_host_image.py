"""What a host image gives, and what it keeps out, seen from inside."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerkit.images.host import HostImage, host_image
from containerkit.images.host_python import PythonFacts
from tests.integration.host import plain

USERS = pytest.mark.parametrize("uid", [0, 1000])
INTERPRETERS = plain.interpreters()


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with plain.directory(0o700) as path:
        yield path


@pytest.fixture(scope="module")
def image(root: Path) -> HostImage:
    return host_image(root)


def said(root: Path, image: HostImage, *command: str, uid: int = 0) -> str:
    done = plain.run(root, image, command, uid=uid)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


CHECK = """
import ctypes, encodings, hashlib, json, locale, os, site, sqlite3, ssl, subprocess, sys, zoneinfo
assert ssl.create_default_context().get_ca_certs(), "no certificates"
assert locale.setlocale(locale.LC_ALL, ""), "no locale"
assert sys.getfilesystemencoding() == "utf-8"
assert zoneinfo.ZoneInfo("Europe/Berlin")
for name in {sys.executable, os.path.join(sys.base_prefix, "bin", "python3")}:
    out = subprocess.check_output([name, "-c", "print(6 * 7)"])
    assert out == b"42\\n", out
print(sys.prefix, sys.base_prefix)
"""


# ---- the Python --------------------------------------------------------------------------------


@pytest.mark.needs("mounts")
@pytest.mark.parametrize("python", INTERPRETERS)
@USERS
def test_a_python_runs_as_on_the_host(root: Path, python: str, uid: int) -> None:
    facts = plain.facts_of(python)
    image = host_image(root, python=facts)
    executable = facts.executables[0]
    expected = f"{facts.prefix} {facts.base_prefix}\n"
    assert said(root, image, executable, "-c", CHECK, uid=uid) == expected
    assert image.notes == ()


@pytest.mark.needs("mounts")
@pytest.mark.parametrize("python", INTERPRETERS)
@USERS
def test_a_virtual_environment_runs_as_on_the_host(root: Path, python: str, uid: int) -> None:
    with plain.directory(0o700) as closed:
        venv = closed / "home of somebody" / "venv"
        subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
        facts = plain.facts_of(str(venv / "bin" / "python"))
        Path(next(d for d in facts.site_packages() if str(venv) in d), "ck_mine.py").write_text("")
        image = host_image(root, python=facts)
        expected = f"{venv} {facts.base_prefix}\n"
        program = "import ck_mine\n" + CHECK
        assert said(root, image, "python", "-c", program, uid=uid) == expected
        with pytest.raises(AssertionError, match="ck_mine"):
            bare = host_image(root, python=facts, site_packages=False)
            said(root, bare, "python", "-c", program, uid=uid)


@pytest.mark.needs("mounts")
@pytest.mark.parametrize("python", INTERPRETERS)
def test_without_site_packages_only_the_standard_library_is_there(root: Path, python: str) -> None:
    facts = plain.facts_of(python)
    image = host_image(root, python=facts, site_packages=False)
    program = """if True:
        import os, sys
        left = [p for p in sys.path if p.endswith("-packages") and os.path.isdir(p) and os.listdir(p)]
        assert not left, left
        try:
            import pip
        except ImportError:
            print("standard library only")
    """
    assert said(root, image, facts.executables[0], "-c", program) == "standard library only\n"


@pytest.mark.needs("mounts")
def test_a_package_that_is_asked_for_is_there_without_the_others(root: Path) -> None:
    with plain.directory() as place:
        subprocess.run([INTERPRETERS[0], "-m", "venv", "--without-pip", place], check=True)
        facts = plain.facts_of(str(place / "bin" / "python"))
        site = Path(next(d for d in facts.site_packages() if str(place) in d))
        for name in ("wanted", "unwanted"):
            (site / name).mkdir()
            (site / name / "__init__.py").write_text(f"print('{name}')")
        image = host_image(root, python=facts, site_packages=False, paths=[site / "wanted"])
        assert said(root, image, "python", "-c", "import wanted") == "wanted\n"
        assert plain.run(root, image, ["python", "-c", "import unwanted"]).returncode == 1


@pytest.mark.needs("mounts")
def test_links_to_a_python_resolve_inside(root: Path) -> None:
    """A prefix reached through links, one of them relative, keeps its name."""
    with plain.directory() as place:
        real = place / "store" / "env-1"
        subprocess.run([INTERPRETERS[0], "-m", "venv", "--without-pip", real], check=True)
        (place / "env").symlink_to("store/env-1")
        (place / "bin").mkdir()
        (place / "bin" / "mypython").symlink_to(place / "env" / "bin" / "python")
        facts = plain.facts_of(str(place / "env" / "bin" / "python"))
        facts = facts._replace(executables=(str(place / "bin" / "mypython"), *facts.executables))
        image = host_image(root, python=facts)
        assert said(root, image, str(place / "bin" / "mypython"), "-c", "print(1)") == "1\n"
        found = said(
            root, image, str(place / "env/bin/python"), "-c", "import sys; print(sys.prefix)"
        )
        assert found == f"{place}/env\n"


# ---- the system --------------------------------------------------------------------------------


@pytest.mark.needs("mounts")
@USERS
def test_programs_of_the_host_run(root: Path, image: HostImage, uid: int) -> None:
    assert said(root, image, "sh", "-c", "ls / | grep -c .; id -u; awk 'BEGIN { print 6 * 7 }'",
                uid=uid).split()[1:] == [str(uid), "42"]  # fmt: skip


@pytest.mark.needs("mounts")
def test_links_of_the_system_are_those_of_the_host(root: Path, image: HostImage) -> None:
    """Links near the top of /usr that work on the host work inside, apart from secrets."""
    program = """
import os, sys
for line in sys.argv[1].split("\\n"):
    if not os.path.exists(line):
        print(line)
"""
    links = [
        path
        for top in ("/usr/bin", "/usr/sbin", "/usr/lib/ssl", "/usr/share")
        if os.path.isdir(top)
        for path in (os.path.join(top, name) for name in sorted(os.listdir(top)))
        if os.path.islink(path) and os.path.exists(path) and os.path.realpath(path)[:5] == "/usr/"
    ]
    assert len(links) > 10
    broken = said(root, image, image_python(), "-c", program, "\n".join(links))
    assert broken == ""


def image_python() -> str:
    return PythonFacts.running().executables[0]


@pytest.mark.needs("mounts")
@USERS
def test_writes_stay_in_the_container(root: Path, uid: int) -> None:
    with plain.directory(0o777) as place:
        (place / "mine").write_text("host")
        (place / "mine").chmod(0o666)
        image = host_image(root, paths=[place])
        script = f"echo inside > {place}/mine; cat {place}/mine; touch /tmp/x /var/tmp/y"
        if uid == 0:
            script += "; touch /usr/ck-was-here /etc/ck-was-here /root/ck-was-here; rm /usr/bin/env"
        assert said(root, image, "sh", "-c", script, uid=uid) == "inside\n"
        assert (place / "mine").read_text() == "host"
        assert os.path.exists("/usr/bin/env")
        assert not os.path.exists("/usr/ck-was-here")
    skeleton = root / image._tree / "skeleton"
    assert not [p for p in skeleton.rglob("*") if p.name in ("ck-was-here", "x", "y")]


# ---- what is kept out --------------------------------------------------------------------------


@pytest.mark.needs("mounts")
def test_nothing_else_of_the_host_is_there(root: Path) -> None:
    """Everything outside of the given directories is ours: a short list, seen by root inside."""
    with plain.directory(0o700) as place:
        subprocess.run([INTERPRETERS[0], "-m", "venv", "--without-pip", place / "venv"], check=True)
        (place / "secret").write_text("of a neighbour")
        image = host_image(root, python=plain.facts_of(str(place / "venv" / "bin" / "python")))
        given = [mount.target for mount in image._rootfs.mounts[1:]]
        prune = " -o ".join(f"-path '{target}'" for target in [*given, "/proc", "/dev", "/etc"])
        found = said(root, image, "sh", "-c", f"find / \\( {prune} \\) -prune -o -print")
        ancestors = {str(parent) for target in given for parent in Path(target).parents}
        ours = {"/", "/tmp", "/var", "/var/tmp", "/var/run", "/var/cache", "/var/lib", "/var/log"}
        ours |= {"/root", "/home", "/opt", "/srv", "/mnt", "/run", "/sys"}
        links = {f"/{name}" for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32")}
        extra = set(found.splitlines()) - ours - ancestors - links
        assert not {path for path in extra if not os.path.islink(path)}


@pytest.mark.needs("mounts")
def test_no_secret_of_etc_is_there(root: Path, image: HostImage) -> None:
    names = set(said(root, image, "sh", "-c", "cd /etc; find . -mindepth 1").split("\n"))
    for secret in ("shadow", "gshadow", "sudoers", "ssh", "machine-id", "ssl/private", "environment",
                   "fstab", "docker", "apt", "subuid", "cron.d", "pam.d"):  # fmt: skip
        assert f"./{secret}" not in names
    grep = ["grep", "-rlI", "-e", "PRIVATE KEY", "/etc"]
    assert plain.run(root, image, grep).stdout == ""
    assert len(names) < 3000


@pytest.mark.needs("mounts")
def test_accounts_are_the_images_own(root: Path, image: HostImage) -> None:
    inside = said(root, image, "cat", "/etc/passwd")
    assert inside.splitlines()[0] == "root:x:0:0:root:/root:/bin/sh"
    people = [
        line.split(":")[0]
        for line in Path("/etc/passwd").read_text().splitlines()
        if 1000 <= int(line.split(":")[2]) < 65534
    ]
    assert not [name for name in people if f"{name}:" in inside]


@pytest.mark.needs("mounts")
def test_the_engine_root_is_not_seen_through_a_directory_that_holds_it() -> None:
    with plain.directory() as place:
        subprocess.run([INTERPRETERS[0], "-m", "venv", "--without-pip", place], check=True)
        facts = plain.facts_of(str(place / "bin" / "python"))
        root = place / "store"
        root.mkdir(mode=0o700)
        (root / "secret").write_text("x")
        image = host_image(root, python=facts)
        assert said(root, image, "sh", "-c", f"ls -A {root}") == ""
        assert said(root, image, "python", "-c", "print(1)") == "1\n"
        assert image.notes == (f"{place}: read-only, the engine's root lies in it",)


@pytest.mark.needs("mounts")
def test_a_python_inside_the_engine_root_runs_read_only() -> None:
    with plain.directory(0o700) as root:
        venv = root / "tools" / "venv"
        subprocess.run([INTERPRETERS[0], "-m", "venv", "--without-pip", venv], check=True)
        image = host_image(root, python=plain.facts_of(str(venv / "bin" / "python")))
        assert said(root, image, "python", "-c", "print(1)", uid=1000) == "1\n"
        assert said(root, image, "ls", "-A", str(root)) == "tools\n"
        assert image.notes == (f"{venv}: read-only, it lies in the engine's root",)


@pytest.mark.needs("mounts")
def test_a_python_in_a_home_directory_does_not_give_the_home(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with plain.directory(0o700) as home:
        monkeypatch.setenv("HOME", str(home))
        subprocess.run([INTERPRETERS[0], "-m", "venv", "--without-pip", home], check=True)
        (home / ".ssh").mkdir()
        (home / ".ssh" / "id_rsa").write_text("secret")
        image = host_image(root, python=plain.facts_of(str(home / "bin" / "python")))
        names = said(root, image, "ls", "-A", str(home)).split()
        assert set(names) <= {"bin", "lib", "lib64", "pyvenv.cfg"}
        assert "pyvenv.cfg" in names
        assert said(root, image, "python", "-c", "import sys; print(sys.prefix)") == f"{home}\n"
        assert len(image.notes) == 2  # the home, and pyvenv.cfg as a single file
