"""The Python in the documentation runs: a reader types it as it stands.

Each block runs in an empty directory, by itself.  Names that a reader puts in are stood in for here:

- ``registry.example:5000`` is a registry that is open to all, with ``team/tool:1`` and ``busybox``;
- ``private.example:5000`` is one with a login (`USERNAME`, `PASSWORD`) and a certificate of its own,
  which lies as ``ca.pem`` in the directory;
- ``busybox``, of the usual registry, is in the root already, so that nothing is downloaded.

A block of pytest's (it defines a function ``test_…``) is run by pytest.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from tests.support import ocibuild
from tests.support.registry import PASSWORD, USERNAME, RegistryServer

PROJECT = Path(__file__).parents[2]
PAGES = [
    PROJECT / "README.md",
    *sorted((PROJECT / "docs").glob("*.md")),
    *sorted((PROJECT / "docs/guide").glob("*.md")),
]

BLOCK = re.compile(r"(<!-- not run: .*-->\n)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPEN, PRIVATE = "registry.example:5000", "private.example:5000"
REMOTE = re.compile(rf'{re.escape(OPEN)}|{re.escape(PRIVATE)}|"busybox')


def programs(page: Path) -> list[str]:
    """Return the page's blocks of Python, but for those that a comment above takes out."""
    return [block for spared, block in BLOCK.findall(page.read_text("utf-8")) if not spared]


CASES = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(programs(page), 1)
]
LOCAL = [case for case in CASES if not REMOTE.search(str(case.values[0]))]
REMOTES = [case for case in CASES if REMOTE.search(str(case.values[0]))]


@pytest.fixture(scope="module")
def private() -> Iterator[RegistryServer]:
    """A registry with a login and a certificate of its own."""
    if shutil.which("docker-registry") is None:
        pytest.skip("needs the program docker-registry")
    with RegistryServer(auth="basic", tls=True) as server:
        server.push("team/tool:1", ocibuild.busybox())
        yield server


def test_there_are_examples() -> None:
    assert len(programs(PROJECT / "README.md")) >= 2
    assert REMOTES, "no page shows a registry"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_what_is_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = page if not name else page.parent / name
        assert there.exists(), f"{page.name} leads to {target}"
        if anchor:
            assert anchor in _anchors(there), f"{page.name} leads to {target}"


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run(program: list[str], root: Path, place: Path = PROJECT) -> str:
    """Run a program of Python with a root of its own, and return what it prints."""
    environment = os.environ | {"CONTAINERKIT_ROOT": str(root), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, *program],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    missing = re.findall(
        r"^(?:E +)?containerkit\.errors\.MissingFeature: (.*)$",
        done.stderr + done.stdout,
        re.MULTILINE,
    )
    if missing and os.geteuid():  # not everything that is shown is for ordinary users
        pytest.skip(f"needs what an ordinary user lacks here: {missing[-1]}")
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


def run_block(program: str, root: Path, place: Path) -> str:
    if re.search(r"^(async )?def test_", program, re.MULTILINE):
        (place / "test_block.py").write_text(program, "utf-8")
        said = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."], root, place)
        assert " passed" in said
        return said
    return run(["-c", program], root, place)


@pytest.mark.parametrize("program", LOCAL)
def test_example_runs(program: str, shared_root: Path, tmp_path: Path) -> None:
    run_block(program, shared_root, tmp_path)


@pytest.mark.parametrize("program", REMOTES)
def test_example_with_a_registry_runs(
    program: str,
    shared_root: Path,
    tmp_path: Path,
    registry: RegistryServer,
    private: RegistryServer,
    busybox: str,
) -> None:
    registry.push("team/tool:1", ocibuild.busybox())
    with ck.Engine.open(shared_root) as engine:
        engine.images.pull(busybox).tag("busybox")
    assert private.ca is not None
    shutil.copyfile(private.ca, tmp_path / "ca.pem")
    program = program.replace(OPEN, registry.host).replace(PRIVATE, private.host)
    run_block(program, shared_root, tmp_path)


def test_the_login_of_the_pages_is_the_registrys() -> None:
    """A page that logs in to the private registry does it with what that registry takes."""
    logins = [
        login
        for page in PAGES
        for login in re.findall(r'username="(\w*)", password="([\w ]*)"', page.read_text("utf-8"))
    ]
    assert logins
    assert set(logins) == {(USERNAME, PASSWORD)}


def test_a_service_answers_from_its_container(shared_root: Path) -> None:
    said = run(["examples/service.py"], shared_root)
    assert "says <h1>Hello from a container</h1>" in said


def test_of_jobs_at_once_each_ends_its_own_way(shared_root: Path) -> None:
    said = run(["examples/parallel.py"], shared_root)
    ends = {name: end for name, _, end in (line.partition(" ") for line in said.splitlines())}
    assert ends["square"].strip() == "144"
    assert ends["slow"].strip() == "took too long"


def test_code_that_nobody_trusts_gets_nowhere(shared_root: Path) -> None:
    said = run(["examples/sandbox.py"], shared_root)
    ends = {name: end for name, _, end in (line.partition(" ") for line in said.splitlines())}
    assert ends["honest"].strip() == "exited with code 0: 5050"
    assert ends["endless"].strip() == "ran too long"
    assert "(oom)" in ends["greedy"]
    assert ends["chatty"].strip().endswith("1024 characters, truncated")
    assert "PermissionError" in ends["curious"] or "Read-only" in ends["curious"]
