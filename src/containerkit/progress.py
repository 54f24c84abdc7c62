"""Bars for progress events, on a terminal and in a notebook.

Owns: what a pull looks like.  Must not: be needed by anything; events are plain values.
Neighbour: `images.pull` calls the bar with each event, in the thread that called ``pull``.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from containerkit.model.digest import Digest
    from containerkit.model.progress import Progress

__all__ = ["Bar", "bar"]


def bar(*, file: TextIO | None = None, leave: bool = True, disable: bool | None = False) -> Bar:
    """Return a function for ``progress=`` that draws a bar.

    In a notebook it is a widget, elsewhere a line on standard error.  One may serve several pulls,
    one after the other; as a context manager it also clears up after a pull that failed.

    Args:
        file: where to draw; None: standard error, or the notebook.
        leave: keep the finished bar on the screen.
        disable: True draws nothing; None draws only on a terminal.

    Example:
        >>> import containerkit as ck
        >>> engine.images.pull("alpine", progress=ck.progress.bar())  # doctest: +SKIP
    """
    return Bar(file=file, leave=leave, disable=disable)


class Bar:
    """Draws the events it is called with; made by ``bar``."""

    def __init__(self, *, file: TextIO | None, leave: bool, disable: bool | None) -> None:
        self._options: dict[str, Any] = {"leave": leave, "disable": disable}
        if file is not None:
            self._options["file"] = file
        self._drawn: Any = None
        self._layers: dict[Digest, tuple[int, int]] = {}
        self._finished: set[Digest] = set()

    def __call__(self, event: Progress) -> None:
        """Show one event."""
        if event.action == "resolve":
            self.close()
            self._start(event)
        if self._drawn is None:
            self._start(event)
        if event.digest is None:
            if event.action == "done":
                self.close()
            return
        fetched, size = self._layers.get(event.digest, (0, 0))
        size = event.total or size
        # Unpacking follows the download so closely that both are one bar.
        fetched = max(fetched, min(event.current, size))
        self._layers[event.digest] = fetched, size
        if event.action in {"exists", "done"}:
            self._finished.add(event.digest)
        self._show(ended=event.action == "done")

    def close(self) -> None:
        """Finish the bar; the next event begins another."""
        if self._drawn is not None:
            self._drawn.close()
        self._drawn = None
        self._layers.clear()
        self._finished.clear()

    def _start(self, event: Progress) -> None:
        # tqdm costs 30 ms to load: only whoever wants a bar pays.
        make = _line() if "file" in self._options else _line_or_widget()
        self._drawn = make(
            desc=_short(event.reference),
            total=0,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            **self._options,
        )

    def _show(self, *, ended: bool) -> None:
        drawn = self._drawn
        drawn.total = sum(size for _, size in self._layers.values())
        current = sum(fetched for fetched, _ in self._layers.values())
        drawn.set_postfix_str(f"{len(self._finished)}/{len(self._layers)} layers", refresh=False)
        drawn.update(current - drawn.n)
        if ended:
            drawn.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _line() -> Any:
    from tqdm import tqdm

    return tqdm


def _line_or_widget() -> Any:
    """Return tqdm's widget in a notebook that can show it, else its line of text."""
    import warnings

    with warnings.catch_warnings():
        # A notebook without ipywidgets, and tqdm's own note on its choice: text does as well.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

    return tqdm


def _short(reference: str) -> str:
    """Return a reference as people write it, cut to a column."""
    name = reference.removeprefix("docker.io/").removeprefix("library/")
    name, at, digest = name.partition("@")
    return name + at + digest[:19]
