"""The bar shows what a pull says, ends with it, and costs nothing before."""

from __future__ import annotations

import io
import subprocess
import sys

from containerkit.model.digest import Digest
from containerkit.model.progress import Progress
from containerkit.progress import bar

REFERENCE = "docker.io/library/alpine:3.20"
ONE, TWO = Digest.of(b"one"), Digest.of(b"two")
PULL = (
    Progress("resolve", REFERENCE),
    Progress("exists", REFERENCE, ONE, 1 << 20, 1 << 20),
    Progress("download", REFERENCE, TWO, 0, 3 << 20),
    Progress("download", REFERENCE, TWO, 1 << 20, 3 << 20),
    Progress("extract", REFERENCE, TWO, 1 << 20, 3 << 20),
    Progress("download", REFERENCE, TWO, 3 << 20, 3 << 20),
    Progress("extract", REFERENCE, TWO, 3 << 20, 3 << 20),
    Progress("verify", REFERENCE, TWO, 3 << 20, 3 << 20),
    Progress("done", REFERENCE, TWO, 3 << 20, 3 << 20),
    Progress("done", REFERENCE),
)


def test_a_pull_ends_at_all_bytes_of_all_layers() -> None:
    screen = io.StringIO()
    show = bar(file=screen)
    for event in PULL:
        show(event)
    last = screen.getvalue().rstrip("\n").rpartition("\r")[2]
    assert last.startswith("alpine:3.20: 100%")
    assert "4.00M/4.00M" in last
    assert "2/2 layers" in last
    assert screen.getvalue().endswith("\n")


def test_one_bar_serves_several_pulls() -> None:
    screen = io.StringIO()
    with bar(file=screen) as show:
        for event in PULL * 2:
            show(event)
    assert screen.getvalue().count("\n") == 2


def test_a_failed_pull_leaves_no_open_bar() -> None:
    screen = io.StringIO()
    with bar(file=screen) as show:
        for event in PULL[:5]:
            show(event)
    assert screen.getvalue().endswith("\n")


def test_a_disabled_bar_draws_nothing() -> None:
    screen = io.StringIO()
    for event in PULL:
        bar(file=screen, disable=True)(event)
    assert not screen.getvalue()


def test_the_default_bar_draws_on_standard_error_and_loads_tqdm_only_then() -> None:
    program = f"""
import sys
import containerkit.progress
show = containerkit.progress.bar()
assert "tqdm" not in sys.modules
from containerkit.model.progress import Progress
show(Progress("resolve", {REFERENCE!r}))
show(Progress("done", {REFERENCE!r}))
assert "tqdm" in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "alpine:3.20" in done.stderr
