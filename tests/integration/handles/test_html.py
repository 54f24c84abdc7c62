"""Handles and their lists in a notebook: one table, a tuple all the same, in both faces."""

from __future__ import annotations

import pickle
from pathlib import Path

import containerkit as ck
from containerkit import aio
from tests.unit.model.test_html import ALLOWED, Parsed


def test_a_container_and_a_list_of_them(engine: ck.Engine) -> None:
    with engine.start(None, ["sleep", "600"], name="shown", labels={"a": "<script>"}) as box:
        for page in (box._repr_html_(), engine.containers.list()._repr_html_()):  # type: ignore[attr-defined]
            parsed = Parsed(page)
            assert parsed.tags <= ALLOWED
            assert "shown" in parsed.text
            assert "running" in parsed.text
        found = engine.containers.list()
        assert found == (box,)
        assert isinstance(found, tuple)
        assert pickle.loads(pickle.dumps(found)) == found
    assert "removed" in Parsed(box._repr_html_()).text


async def _both(root: Path) -> list[str]:
    async with aio.Engine.open(root) as engine, engine.start(None, ["sleep", "600"]) as box:
        images = await engine.images.list()
        boxes = await engine.containers.list()
        pages: list[str] = [one._repr_html_() for one in (images, boxes)]  # type: ignore[union-attr]
        return [box._repr_html_(), *pages]


def test_asyncio_shows_the_same(engine_root: Path) -> None:
    import asyncio

    box, images, boxes = asyncio.run(_both(engine_root))
    assert "running" in box
    assert "running" in boxes
    assert Parsed(images).text == "none"
