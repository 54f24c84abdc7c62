"""What an editor, or IPython before anything is run, offers after a dot: asked of jedi itself."""

from __future__ import annotations

import jedi
import pytest

HEAD = "import containerkit as ck\nfrom containerkit import aio\n"
RESULT = {"stdout", "stderr", "exit", "returncode", "check"}
CONTAINER = {"exec", "popen", "logs", "stop", "files", "status", "commit"}
ENGINE = {"run", "start", "images", "containers", "close"}

CASES = {
    "ck.": {"run", "start", "Engine", "Limits", "Mount", "aio", "ContainerKitError"},
    "ck.Engine.": {"open"},
    "ck.Engine.open().": ENGINE,
    "ck.run(None, 'true').": RESULT,
    "ck.start('redis').": CONTAINER,
    "ck.start('redis').exec('true').": RESULT,
    "ck.start('redis').popen('true').": {"stdin", "wait", "communicate", "poll"},
    "ck.Engine.open().images.": {"pull", "get", "list"},
    "ck.Engine.open().containers.": {"create", "get", "list"},
    "with ck.Engine.open() as engine, engine.start('redis') as one:\n    one.": CONTAINER,
    "with ck.start('redis') as one:\n    result = one.exec('true')\n    result.": RESULT,
    "async def f():\n    result = await aio.run(None, 'true')\n    result.": RESULT,
    "async def f():\n    async with aio.Engine.open() as engine:\n        engine.": ENGINE,
    "async def f():\n    async with aio.start('redis') as one:\n        one.": CONTAINER,
    "async def f():\n    one = await aio.start('redis')\n    (await one.exec('true')).": RESULT,
}

INTERNAL = ("ensure", "lease", "undo_at_exit", "communicating")


def completed(text: str) -> set[str]:
    return {one.name for one in jedi.Script(HEAD + text).complete()}


@pytest.mark.parametrize("text", CASES)
def test_what_there_is_is_offered(text: str) -> None:
    found = completed(text)
    assert found >= CASES[text]
    assert not [name for name in found if name.startswith("waiting") or name in INTERNAL]


def test_what_there_is_not_is_not_offered() -> None:
    assert not completed("ck.start('redis').nothing().") & CONTAINER
