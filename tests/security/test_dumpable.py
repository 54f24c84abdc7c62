"""With fs.suid_dumpable=1 a change of ids makes a process dumpable: what is becoming a container is not.

The setting is the whole host's: so the launchers of these tests do what the kernel would.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import containerkit as ck
from tests.support.launchers import Change, build, used

FILE = "ck_ops_cred.c"
PRCTL: Change = (
    FILE,
    "#include <linux/filter.h>\n",
    "#include <linux/filter.h>\n#include <sys/prctl.h>\n",
)
DUMPABLE = "prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);"
REFUSED = "(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) ? -EXDEV : 0)"
SET_IDS = "CK_TRY(ck_set_ids((uint32_t)op->value[0], (uint32_t)op->value[1]));"
ENTER = "child->slots[op->fd[0]], CLONE_NEWUSER));"
IDS: tuple[Change, ...] = (
    PRCTL,
    (FILE, SET_IDS, SET_IDS + DUMPABLE),
    (
        FILE,
        "ck_set_caps(op->value[0], op->value[1])",
        f"{REFUSED} ? -EXDEV : ck_set_caps(op->value[0], op->value[1])",
    ),
)
"""Dumpable by the change of ids; the next step fails if it still is."""
USER: tuple[Change, ...] = (
    PRCTL,
    (FILE, ENTER, ENTER + DUMPABLE),
    (FILE, SET_IDS, f"CK_TRY({REFUSED}); {SET_IDS}"),
)
"""Dumpable by entering a user namespace."""
KEEP_IDS: Change = (FILE, "return ck_not_dumpable(); /* a change", "return 0; /* a change")
KEEP_USER: Change = (FILE, "return ck_not_dumpable();\n", "return 0;\n")


def starts(program: Path, root: Path, busybox: str, security: ck.Security) -> bool:
    """Whether a container starts; it may fail because of the check alone."""
    with used(program), ck.Engine.open(root) as engine:
        try:
            return engine.run(busybox, ["true"], user="1000", security=security).exit.ok
        except ck.LaunchError as error:
            if "cross-device" not in str(error).lower():
                raise
    return False


@pytest.mark.needs("host root")
@pytest.mark.parametrize(
    ("changes", "without", "security"),
    [(IDS, KEEP_IDS, ck.Security()), (USER, KEEP_USER, ck.Security(userns="auto"))],
    ids=["ids", "user namespace"],
)
def test_it_never_is(
    tmp_path: Path,
    engine_root: Path,
    busybox: str,
    changes: tuple[Change, ...],
    without: Change,
    security: ck.Security,
) -> None:
    assert starts(build(tmp_path / "as it is", changes), engine_root, busybox, security)
    worse = build(tmp_path / "without", (*changes, without))
    assert not starts(worse, engine_root, busybox, security)
