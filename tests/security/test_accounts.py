"""The passwd and group files of a container that runs: it puts there what it likes, before an exec
under a name.

CVE-2024-9676 (links to devices, FIFOs), and files of the kernel's that whoever starts containers may
read, and the container not: /proc/kmsg forgets what was read.  Nothing but a regular file is opened,
and no more of it is read than its size.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import containerkit as ck
from containerkit.errors import ConfigError

OURS = "printf 'app:x:7:8::/:/bin/sh\\n' >/etc/passwd; printf 'more:x:9:app\\n' >/etc/group"
STRANGE = {
    "a directory": "mkdir /etc/passwd /etc/group",
    "a pipe": "mkfifo /etc/passwd /etc/group",
    "devices": "ln -s /dev/zero /etc/passwd; ln -s /dev/tty /etc/group",
    "a terminal": "ln -s /dev/pts/ptmx /etc/passwd; ln -s /dev/ptmx /etc/group",
    "the kernel's log": "ln -s /proc/kmsg /etc/passwd; ln -s /proc/kmsg /etc/group",
    "memory": "ln -s /proc/1/mem /etc/passwd; ln -s /proc/1/pagemap /etc/group",
    "a magic link": "ln -s /proc/1/root/etc/hosts /etc/passwd; ln -s /proc/1/fd/1 /etc/group",
    "a circle": "ln -s group /etc/passwd; ln -s passwd /etc/group",
    "an open end": "ln -s /nowhere /etc/passwd; ln -s /nowhere /etc/group",
}


@pytest.fixture
def box(engine: ck.Engine, hostile: str) -> Iterator[ck.Container]:
    with engine.start(hostile, ["sleep", "100000"]) as started:
        yield started


def lies(box: ck.Container, script: str) -> None:
    box.exec(["sh", "-c", f"rm -rf /etc/passwd /etc/group; {script}"], check=True)


def test_the_control(box: ck.Container) -> None:
    lies(box, OURS)
    script = "id -u; id -G"
    assert box.exec(["sh", "-c", script], user="app", text=True).stdout.split() == ["7", "8", "9"]


@pytest.mark.parametrize("what", STRANGE)
def test_what_lies_there_is_not_opened(box: ck.Container, what: str) -> None:
    lies(box, STRANGE[what])
    with pytest.raises(ConfigError, match="no user 'app'"):
        box.exec(["true"], user="app")
    assert box.exec(["true"], user="7").exit.ok
    box.top()


def test_a_file_of_kernel_symbols_names_nobody(box: ck.Container) -> None:
    """As user 0 of the host they are numbers; in a message they would be told."""
    lies(box, "ln -s /proc/kallsyms /etc/passwd")
    with pytest.raises(ConfigError) as caught:
        box.exec(["true"], user="app")
    assert "the image names none" in str(caught.value)


def test_more_groups_than_there_can_be(box: ck.Container) -> None:
    lies(
        box,
        "printf 'app:x:7:8::/:/bin/sh\\n' >/etc/passwd; seq 10 70000 | sed 's/.*/a:x:&:app/' >/etc/group",
    )
    with pytest.raises(ConfigError) as caught:
        box.exec(["true"], user="app")
    assert len(str(caught.value)) < 200
