"""The pauses before restarts, as the launcher reckons them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "src" / "_native"
PROGRAM = """\
#include <inttypes.h>
#include <stdio.h>
#include "ck_pause.h"

int main(void)
{
    uint64_t pause = 0, ran;

    while (scanf("%" SCNu64, &ran) == 1) {
        pause = ck_next_pause(pause, ran * 1000000);
        printf("%" PRIu64 "\\n", pause / 1000000);
    }
    return 0;
}
"""


@pytest.mark.parametrize(
    ("ran", "pauses"),
    [
        ([0, 0, 9999], [100, 200, 400]),
        ([0] * 12, [100 << n for n in range(10)] + [60000, 60000]),
        ([0, 0, 0, 10000, 0], [100, 200, 400, 100, 200]),
        ([20000, 20000], [100, 100]),
    ],
)
def test_pauses(tmp_path: Path, ran: list[int], pauses: list[int]) -> None:
    """Milliseconds: how long each run took, and the pause after it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    (tmp_path / "main.c").write_text(PROGRAM)
    program = tmp_path / "pauses"
    subprocess.run(
        [compiler, f"-I{NATIVE}", "-o", program, tmp_path / "main.c"], check=True, timeout=60
    )
    done = subprocess.run(
        [program],
        input=" ".join(map(str, ran)),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert [int(line) for line in done.stdout.split()] == pauses
