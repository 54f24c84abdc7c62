"""A Jupyter kernel with containers in it: cells, an interrupt, a restart, a shutdown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import containerkit as ck

SECONDS = 200

CLIENT = """
import queue, sys
from jupyter_client import KernelManager

root, image = sys.argv[1:]


def listen(told, enough, seconds=60):
    '''Return what a cell prints, or its error, until there is enough of it.'''
    said = ""
    while True:
        message = client.get_iopub_msg(timeout=seconds)
        if message["parent_header"].get("msg_id") != told:
            continue
        kind, content = message["msg_type"], message["content"]
        said += {"stream": content.get("text"), "error": content.get("ename")}.get(kind) or ""
        if enough(said) or (kind, content.get("execution_state")) == ("status", "idle"):
            return said.strip()


def never(said):
    return False


def cell(text):
    print(listen(client.execute(text), never), flush=True)


def interrupted(text):
    '''Execute what says "begun", and interrupt it then.'''
    told = client.execute(text)
    listen(told, lambda said: "begun" in said)
    manager.interrupt_kernel()
    print(listen(told, never), flush=True)


def ready():
    '''Wait for the kernel, and until what it publishes arrives here: that is subscribed to.'''
    client.wait_for_ready(timeout=60)
    while True:
        try:
            return listen(client.execute(""), never, seconds=1)
        except queue.Empty:
            continue


manager = KernelManager()
manager.start_kernel()
client = manager.blocking_client()
client.start_channels()
ready()

opening = f"import containerkit as ck; engine = ck.Engine.open({root!r})"
start = f"box = engine.start({image!r}, ['sleep', '1000']); print(box.status)"
cell(opening)
cell(start)
cell("print(box.exec(['echo', 'hi'], text=True).stdout)")
cell(f'''
from containerkit import aio
async with aio.Engine.open({root!r}) as own:
    print((await own.run({image!r}, ["echo", "ho"], text=True)).stdout)
''')
interrupted('''
say = lambda _: print("begun", flush=True)
box.exec(["sh", "-c", "echo begun; sleep 1000"], on_output=say)
''')
cell("print(box.status, len(box.top()))")
cell("import os; print(os.waitpid(-1, os.WNOHANG))")
manager.restart_kernel(now=True)
ready()
cell(opening)
cell("print(engine.containers.list())")
cell(start)
manager.shutdown_kernel()
client.stop_channels()
"""

SAID = """
running
hi
ho
KeyboardInterrupt
running 1
ChildProcessError

()
running
"""


def test_a_jupyter_kernel(engine_root: Path, busybox: str) -> None:
    """A cell's interrupt ends what it waits for and no more; a kernel's end takes its containers."""
    pytest.importorskip("ipykernel")
    with ck.Engine.open(engine_root) as engine:
        engine.images.pull(busybox)
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(engine_root), busybox],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, SAID), done.stderr
    with ck.Engine.open(engine_root):
        assert os.listdir(engine_root / "owners") == []
        assert os.listdir(engine_root / "containers") == []
