"""Many processes pull one image once; a process killed anywhere leaves a store that goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.pull.images import SMALL, check_layered, check_trees, layered, small
from tests.support.faultproxy import Fault, FaultProxy
from tests.support.registry import RegistryServer
from tests.support.store import Store, opened

ROOT = Path(__file__).parents[3]
POINTS = int(os.environ.get("CONTAINERKIT_KILL_POINTS", "20"))
SEED = int(os.environ.get("CONTAINERKIT_KILL_SEED", "1"))


def puller(root: Path, name: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.pull.program", str(root), name],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_many_processes_fetch_and_unpack_everything_once(
    store: Store, registry: RegistryServer
) -> None:
    made = layered()
    name = registry.push("many/a", made).partition("/")[2]
    with FaultProxy(registry.host) as proxy:
        reference = f"{proxy.host}/{name}"
        pullers = [puller(store.root.path, reference, CK_WAIT="1") for _ in range(4)]
        for process in pullers:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in pullers:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        unpacked = [int(process.communicate()[0]) for process in pullers]
        fetched = Counter(seen.path.rpartition("/")[2] for seen in proxy.requests("/blobs/"))
    assert [process.returncode for process in pullers] == [0] * 4
    assert fetched == dict.fromkeys(made.blobs, 1)
    assert sum(unpacked) == len(made.document["layers"])
    check_layered(store, reference)
    assert store.debris() == []


def test_a_pull_goes_on_when_the_one_it_waits_for_is_killed(
    store: Store, registry: RegistryServer
) -> None:
    """The lock of a stopped puller is waited for, that of a killed one is free."""
    made = layered()
    reference = registry.push("waits/a", made)
    killed = puller(store.root.path, reference, CK_WAIT="1")
    assert killed.stdout is not None
    killed.stdout.readline()
    largest = made.document["layers"][1]
    lock = store.root.ingest / largest["digest"].replace(":", "-")
    assert killed.stdin is not None
    killed.stdin.write("go\n")
    killed.stdin.flush()
    while not lock.exists() and killed.poll() is None:
        os.sched_yield()
    killed.send_signal(signal.SIGSTOP)
    waiting = puller(store.root.path, reference, CK_WAIT="1")
    assert waiting.stdout is not None
    waiting.stdout.readline()
    assert waiting.stdin is not None
    waiting.stdin.write("go\n")
    waiting.stdin.flush()
    killed.kill()
    killed.communicate()
    waiting.communicate()
    assert waiting.returncode == 0
    check_layered(store, reference)


def test_an_interrupted_pull_ends_though_the_registry_is_silent(
    store: Store, registry: RegistryServer
) -> None:
    made = layered()
    name = registry.push("silent/a", made).partition("/")[2]
    digest = made.document["layers"][1]["digest"]
    stall = Fault(f"/blobs/{digest}", after=500_000, then="stall")
    with FaultProxy(registry.host, stall) as proxy:
        pulling = puller(store.root.path, f"{proxy.host}/{name}")
        assert proxy.stalled.wait(120)
        pulling.send_signal(signal.SIGINT)
        pulling.communicate()
        assert pulling.returncode == -signal.SIGINT
    assert store.images.list() == ()
    store.images.pull(f"{registry.host}/{name}")
    check_layered(store, f"{registry.host}/{name}")
    store.images.gc()
    assert store.debris() == []


def test_threads_of_one_process_share_a_pull(store: Store, registry: RegistryServer) -> None:
    made = layered()
    name = registry.push("threads/a", made).partition("/")[2]
    with FaultProxy(registry.host) as proxy, ThreadPoolExecutor(4) as pool:
        reference = f"{proxy.host}/{name}"
        assert len(set(pool.map(store.images.pull, [reference] * 4))) == 1
        assert len(proxy.requests("/blobs/")) == len(made.blobs)
    check_layered(store, reference)
    assert store.debris() == []


@pytest.mark.slow
def test_many_processes_do_everything_at_once_while_some_are_killed(
    store: Store, registry: RegistryServer
) -> None:
    """CONTAINERKIT_MIXED_ROUNDS sets how many rounds of four processes."""
    names = [registry.push(f"mixed/{number}", small(number)) for number in range(SMALL)]
    generator = random.Random(SEED)
    for round_number in range(int(os.environ.get("CONTAINERKIT_MIXED_ROUNDS", "2"))):
        command = [sys.executable, "-m", "tests.integration.pull.mixed", str(store.root.path)]
        running = [
            subprocess.Popen([*command, str(4 * round_number + number), *names], cwd=ROOT)
            for number in range(4)
        ]
        for _ in range(generator.randrange(4000)):
            store.images.list()  # as long as it takes: some moment of the others' work
        running[0].kill()
        assert [process.wait() for process in running][1:] == [0, 0, 0]
        store.check_blobs()
        for image in store.images.list():
            with store.images._lease(image):
                check_trees(store, image)
        store.images.gc()
        assert store.debris() == []
    for image in store.images.list():
        image.remove(force=True)
    assert store.is_empty()


@pytest.mark.slow
@pytest.mark.timeout(600 + 20 * POINTS)
def test_killed_at_any_point(registry: RegistryServer, engine_root: Path) -> None:
    """CONTAINERKIT_KILL_POINTS sets how many points, CONTAINERKIT_KILL_SEED which."""
    made = layered()
    name = registry.push("killed/a", made).partition("/")[2]
    resumed = 0
    with FaultProxy(registry.host) as proxy:
        reference = f"{proxy.host}/{name}"
        clean = puller(engine_root.parent / "clean", reference, CK_KILL_AT="0")
        calls = int(clean.communicate()[0].split()[1])
        # A third of all calls are imports and the opening; pulling is what is to be hit.
        generator = random.Random(SEED)
        for number in range(POINTS):
            root = engine_root.parent / f"killed-{number}"
            point = generator.randrange(calls // 4, calls)
            killed = puller(root, reference, CK_KILL_AT=str(point))
            killed.communicate()
            resumed += check_after_kill(root, proxy, reference, killed.returncode, point)
    assert resumed > 0, "no point was in the middle of a download"


def check_after_kill(root: Path, proxy: FaultProxy, reference: str, code: int, point: int) -> int:
    """Open what a killed pull left and pull again; return how many downloads were resumed."""
    # Threads share the calls out differently each time: the last point may not be reached.
    assert code in {-signal.SIGKILL, 0}, point
    with opened(root) as store:
        store.check_blobs()
        if store.images.list():
            check_layered(store, reference)
        partial = [path for path in store.root.ingest.iterdir() if path.name.startswith("sha256-")]
        sizes = {path.name.partition("-")[2]: path.stat().st_size for path in partial}
        del proxy.seen[:]
        store.images.pull(reference)
        check_layered(store, reference)
        resumed = 0
        for seen in proxy.requests("/blobs/"):
            there = sizes.get(seen.path.rpartition(":")[2], 0)
            wanted = f"bytes={there}-" if there else None
            assert seen.headers.get("Range") == wanted, point
            resumed += bool(there)
        store.images.gc()
        assert store.debris() == [], point
        assert len(store.trees()) == 4
        store.images.remove(reference)
        assert store.is_empty(), point
        return resumed
