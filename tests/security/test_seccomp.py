"""System calls that a container must not get through with, and programs that must not notice.

Each attack is tried behind a policy with every capability that the caller has, so that the filter is
all that holds; the control is the same without the filter.
"""

from __future__ import annotations

import json
import os
import signal
import struct
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.launch.capabilities import ALL_MASK
from containerkit.launch.ops import Code, Op
from containerkit.launch.syscalls import ARCHITECTURES
from containerkit.model.security import CAPABILITIES
from containerkit.runtime import facts
from tests.security import plans
from tests.security.inside import CHECK, STATUS

MACHINE = os.uname().machine
NUMBERS = ARCHITECTURES[MACHINE].numbers
NEWEST = ARCHITECTURES[MACHINE].newest
POLICIES = ("default", "strict")
EPERM, ENOSYS = -1, -38
HIGH = 1 << 32
ALL = ALL_MASK if os.geteuid() else facts.capabilities()


def text(content: str) -> str:
    return f"hex:{content.encode().hex()}"


# Arguments that do nothing where the call gets through.
REFUSED: dict[str, tuple[int | str, ...]] = {
    "acct": (text("/nowhere"),),
    "add_key": (text("user"), text("mine"), text("secret"), 6, -3),
    "bpf": (0x7FFFFFFF, 0, 0),
    "clock_settime": (0x7FFFFFFF, 0),
    "delete_module": (text("nothing"), 0),
    "fanotify_init": (0x7FFFFFFF, 0),
    "finit_module": (-1, 0, 0),
    "fsopen": (text("nothing"), 0),
    "init_module": (0, 0, text("")),
    "io_uring_setup": (0, 0),
    "kexec_load": (0, 1000, 0, 0),
    "keyctl": (0, -3, 0),
    "mount": (0, text("/nowhere"), 0, 0, 0),
    "mount_setattr": (-1, text(""), 0, 0, 0),
    "move_mount": (-1, text(""), -1, text(""), 0),
    "open_by_handle_at": (-1, "hex:" + "00" * 16, 0),
    "open_tree": (-1, text(""), 0),
    "perf_event_open": (0, 0, -1, -1, 0),
    "pidfd_getfd": (-1, 0, 0),
    "pivot_root": (text("/nowhere"), text("/nowhere")),
    "process_madvise": (-1, 0, 0, 0, 0),
    "quotactl": (0x7FFFFFFF, 0, 0, 0),
    "reboot": (0, 0, 0, 0),
    "request_key": (text("user"), text("mine"), 0, -3),
    "setns": (-1, 0),
    "settimeofday": (1, 0),
    "swapon": (text("/nowhere"), 0),
    "syslog": (-1, 0, 0),
    "umount2": (text("/nowhere"), 0),
    "unshare": (0x04000000,),
    "userfaultfd": (0x7FFFFFFF,),
}
"""By both policies, of a container that has the default capabilities."""

REFUSED_BY_STRICT: dict[str, tuple[int | str, ...]] = {
    "chroot": (text("/nowhere"),),
    "kcmp": (1, 1, 0, 0, 0),
    "mknodat": (-1, text("node"), 0o20666, 0x0103),
    "process_vm_readv": (1, 0, 0, 0, 0, 0),
    "process_vm_writev": (1, 0, 0, 0, 0, 0),
    "ptrace": (0, 0, 0, 0),
}

BY_ARGUMENT: tuple[tuple[str, tuple[int | str, ...]], ...] = (
    ("ioctl", (0, 0x5412, text("x"))),
    ("ioctl", (0, 0x5412 | HIGH, text("x"))),
    ("ioctl", (0, 0x541C | 0x80000000 << 32, text("x"))),
    ("ioctl", (0, 0x5423, text("x"))),
    ("personality", (0x40000,)),
    ("prctl", (35, 1, 0, 0, 0)),
    ("prctl", (35 | 7 * HIGH, 1, 0, 0, 0)),
    ("personality", (0x40000 | HIGH,)),
    ("socket", (40, 1, 0)),
    ("socket", (40 | HIGH, 1, 0)),
    ("socket", (38, 5, 0)),
    ("socket", (38 | HIGH, 5, 0)),
)
BY_ARGUMENT_OF_STRICT: tuple[tuple[str, tuple[int | str, ...]], ...] = (
    ("socketpair", (30, 1, 0, 0)),
    ("socket", (17, 3, 0)),
    ("socket", (16, 3, 0)),
    ("socket", (2**33 + 16, 3, 0)),
)

NOT_THERE: tuple[tuple[int, tuple[int | str, ...]], ...] = (
    (NUMBERS["clone3"], (0, 0)),
    (NEWEST + 1, (-1, 0, 0, 0)),
    (NEWEST + 2, (-1, 0, 0, 0)),
    (600, ()),
    (0x3FFFFFFF, ()),
    (0x40000000 | 39, ()),
)


Calls = list[tuple[int, tuple[int | str, ...]]]


def numbered(*tables: dict[str, tuple[int | str, ...]]) -> Calls:
    return [(NUMBERS[name], given) for table in tables for name, given in table.items()]


def output(engine: ck.Engine, image: str, seccomp: str, calls: Calls) -> list[int]:
    """Make calls one after another, as root with all capabilities; return what they said."""
    words: list[str] = []
    for number, arguments in calls:
        words += ["--", str(number), *map(str, arguments)]
    security = ck.Security(seccomp=seccomp)
    with plans.replaced(Code.CAPS, Op(Code.CAPS, value=(ALL, ALL))):
        result = engine.run(
            image, ["/attacks/call", *words[1:]], text=True, security=security, user=0
        )
    return [int(line) for line in result.stdout.split()]


@pytest.mark.parametrize("policy", POLICIES)
def test_what_no_container_needs_is_refused(engine: ck.Engine, hostile: str, policy: str) -> None:
    strict = [REFUSED_BY_STRICT] if policy == "strict" else []
    calls = numbered(REFUSED, *strict)
    assert output(engine, hostile, policy, calls) == [EPERM] * len(calls)


@pytest.mark.needs("host root")
def test_without_a_filter_none_of_it_is(engine: ck.Engine, hostile: str) -> None:
    """The control: whatever the kernel says of the nonsense, it does not say EPERM."""
    calls = numbered(REFUSED, REFUSED_BY_STRICT)
    found = output(engine, hostile, "unconfined", calls)
    names = [*REFUSED, *REFUSED_BY_STRICT]
    assert len(found) == len(names)
    refused = {name for name, said in zip(names, found, strict=True) if said == EPERM}
    assert refused <= BY_THE_KERNEL, refused


def held(name: str) -> bool:
    return bool(ALL >> CAPABILITIES.index(name) & 1)


def _by_the_kernel() -> set[str]:
    """Calls that the kernel refuses here by itself: its settings, or what its own container lacks."""
    found = {
        call
        for capability, calls in BY_CAPABILITY.items()
        if not held(capability)
        for call in calls
    }
    for file, call in (
        ("io_uring_disabled", "io_uring_setup"),
        ("kexec_load_disabled", "kexec_load"),
    ):
        path = Path("/proc/sys/kernel", file)
        if path.exists() and path.read_text() != "0\n":
            found.add(call)
    return found


BY_CAPABILITY = {
    "SYS_BOOT": ("reboot", "kexec_load"),
    "SYS_MODULE": ("init_module", "finit_module", "delete_module"),
    "SYS_PACCT": ("acct",),
    "SYS_TIME": ("settimeofday", "clock_settime"),
    "DAC_READ_SEARCH": ("open_by_handle_at",),
}
BY_THE_KERNEL = _by_the_kernel()


@pytest.mark.parametrize("policy", POLICIES)
def test_arguments_whatever_their_high_bits(engine: ck.Engine, hostile: str, policy: str) -> None:
    """CVE-2019-10063: of an int the kernel sees 32 bits."""
    table = (*BY_ARGUMENT, *(BY_ARGUMENT_OF_STRICT if policy == "strict" else ()))
    calls = [(NUMBERS[name], given) for name, given in table]
    assert output(engine, hostile, policy, calls) == [EPERM] * len(calls)


@pytest.mark.needs("host root")
def test_arguments_without_a_filter(engine: ck.Engine, hostile: str) -> None:
    table = [
        (name, given)
        for name, given in (*BY_ARGUMENT, *BY_ARGUMENT_OF_STRICT)
        if name != "prctl" or held("SYS_RESOURCE")  # the kernel asks for that itself
    ]
    found = output(engine, hostile, "unconfined", [(NUMBERS[name], given) for name, given in table])
    assert len(found) == len(table)
    assert EPERM not in found


@pytest.mark.parametrize("flags", [0x10000000, 0x10000000 | HIGH, 0x02000000 | 5 * HIGH])
def test_no_namespaces_by_clone(engine: ck.Engine, hostile: str, flags: int) -> None:
    call: Calls = [(NUMBERS["clone"], (flags | signal.SIGCHLD, 0, 0, 0, 0))]
    for policy in POLICIES:
        assert output(engine, hostile, policy, call) == [EPERM]
    assert max(output(engine, hostile, "unconfined", call)) > 0


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_newer_says_that_it_is_not_there(
    engine: ck.Engine, hostile: str, policy: str
) -> None:
    """A C library falls back to an older call then; EPERM it would take for an answer."""
    assert output(engine, hostile, policy, list(NOT_THERE)) == [ENOSYS] * len(NOT_THERE)
    assert output(engine, hostile, "unconfined", list(NOT_THERE))[0] == -22  # clone3, of no size


@pytest.mark.skipif(MACHINE != "x86_64", reason="a door of x86-64 alone")
def test_no_calls_of_32_bits(engine: ck.Engine, hostile: str) -> None:
    """socketcall() would pass every rule about families of sockets."""

    def said(security: ck.Security) -> str:
        return engine.run(hostile, ["/attacks/abi32"], text=True, security=security).stdout

    for policy in POLICIES:
        assert said(ck.Security(seccomp=policy)).split() == [str(ENOSYS)] * 3
    control = said(ck.Security(seccomp="unconfined")).split()
    if not control:
        pytest.skip("the kernel has no calls of 32 bits")
    assert control[0] == "1"
    assert str(ENOSYS) not in control


# ---- everywhere the same filter


def filters(text: str) -> tuple[int, int]:
    """Return mode and number of filters in /proc/self/status."""
    lines = dict(line.split(":\t") for line in text.splitlines())
    return int(lines["Seccomp"]), int(lines.get("Seccomp_filters", 1))


OURS = filters(Path("/proc/self/status").read_text())
FILTERED = (2, OURS[1] + 1)


@pytest.mark.parametrize("user", [None, "1000:1000"])
@pytest.mark.parametrize("privileges", [False, True])
def test_first_process_exec_and_health_check(
    engine: ck.Engine, hostile: str, user: str | None, *, privileges: bool
) -> None:
    """One filter, also when it must be loaded by a process that is no root any more."""
    security = ck.Security(no_new_privileges=not privileges)
    check = CHECK
    command = [
        "sh",
        "-c",
        "mkdir -p /tmp; cat /proc/self/status >/tmp/new; mv /tmp/new /tmp/first; exec sleep 1000",
    ]
    with engine.start(
        hostile,
        command,
        security=security,
        user=user,
        init=privileges,
        healthcheck=check,
        mounts=[ck.Mount.tmpfs("/tmp", mode=0o1777)],
    ) as box:
        box.wait_ready(healthy=True)
        for name in ("first", "health"):
            assert filters(box.files.read_text(f"/tmp/{name}")) == FILTERED
        assert filters(box.exec(STATUS, text=True).stdout) == FILTERED
        assert filters(box.exec(STATUS, text=True, user="7").stdout) == FILTERED
        assert filters(box.exec(STATUS, text=True, privileged=True).stdout) == OURS
    unconfined = ck.Security(seccomp="unconfined")
    assert filters(engine.run(hostile, STATUS, text=True, security=unconfined).stdout) == OURS


# ---- policies of one's own


def test_a_profile_in_dockers_format(engine: ck.Engine, hostile: str) -> None:
    calls = [str(NUMBERS["getppid"]), "--", str(NUMBERS["mkdirat"]), "-1", text("x")]
    rules = [
        {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77},
        {"names": ["mkdirat"], "action": "SCMP_ACT_KILL_PROCESS", "args": [
            {"index": 0, "value": 2**32 - 1, "op": "SCMP_CMP_EQ"}]},
    ]  # fmt: skip
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    for given in (profile, json.dumps(profile)):
        security = ck.Security(seccomp=given)
        result = engine.run(hostile, ["/attacks/call", *calls], text=True, security=security)
        assert result.stdout == "-77\n"
        assert result.exit.signal == signal.SIGSYS


@pytest.mark.parametrize("init", [False, True])
def test_a_profile_that_refuses_what_the_launcher_calls(
    engine: ck.Engine, hostile: str, init: bool
) -> None:
    """It says what it has to, and marks its descriptors, before the filter is there."""
    names = ["sendmsg"] if init else ["sendmsg", "close_range"]
    rule = {"names": names, "action": "SCMP_ACT_KILL_PROCESS"}
    security = ck.Security(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    attacks = [["/attacks/call", str(NUMBERS["getppid"]), "--", str(NUMBERS[n])] for n in names]
    for attack in attacks:
        result = engine.run(hostile, attack, text=True, security=security, init=init)
        assert result.stdout == f"{int(init)}\n"
        assert result.exit.code == 128 + signal.SIGSYS
    waits = ["/attacks/call", "--", str(NUMBERS["ppoll"]), "0", "0", "0", "0", "0"]
    with engine.start(hostile, waits, security=security, init=init) as box:
        for attack in attacks:
            assert box.exec(attack).exit.code == 128 + signal.SIGSYS


def test_a_finished_program(engine: ck.Engine, hostile: str) -> None:
    refusing = [(0x20, 0, 0, 0), (0x15, 0, 1, NUMBERS["getppid"]), (6, 0, 0, 0x0005004D)]
    program = b"".join(struct.pack("<HBBI", *one) for one in (*refusing, (6, 0, 0, 0x7FFF0000)))
    command = ["/attacks/call", str(NUMBERS["getppid"])]
    security = ck.Security(seccomp=program)
    assert engine.run(hostile, command, text=True, security=security).stdout == "-77\n"
    with pytest.raises(ck.LaunchError, match="filter system calls"):
        engine.run(hostile, command, security=ck.Security(seccomp=bytes(8)))


# ---- programs that must not notice

ORDINARY = """
import asyncio, mmap, multiprocessing, os, select, signal, socket, sqlite3, subprocess, sys, tempfile
import threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

def square(number):
    return number * number

async def through_asyncio():
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close()
    server.close()

def main():
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(square, range(9)))[-1] == 64
    with ProcessPoolExecutor(2) as pool:
        assert list(pool.map(square, range(9)))[-1] == 64
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        queue, lock = context.Queue(), context.Lock()
        process = context.Process(target=queue.put, args=(method,))
        process.start()
        assert queue.get() == method
        process.join()
    asyncio.run(through_asyncio())
    assert subprocess.run(["sh", "-c", "echo $((6*7)) | cat"], capture_output=True).stdout == b"42\\n"
    with tempfile.TemporaryFile() as file:
        file.write(bytes(4096))
        file.flush()
        mmap.mmap(file.fileno(), 4096).close()
        os.posix_fallocate(file.fileno(), 0, 1 << 16)
    os.memfd_create("x"); os.eventfd(0); os.getrandom(4); os.sched_getaffinity(0)
    signal.setitimer(signal.ITIMER_REAL, 1000); signal.alarm(0)
    select.epoll().close()
    sqlite3.connect(":memory:").execute("create table t (x)")
    for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
        socket.socket(family).close()
    left, right = socket.socketpair()
    socket.send_fds(left, [b"x"], [0])
    os.waitpid(os.fork() or os._exit(0), 0); os.setpgid(0, 0) if os.getpid() != 1 else None
    os.pidfd_open(os.getpid()); time.sleep(0); os.nice(1)
    print("ordinary")

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("policy", POLICIES)
def test_an_ordinary_program_does_not_notice(
    engine: ck.Engine, policy: str, tmp_path: Path
) -> None:
    """Threads (clone3 says ENOSYS, and glibc falls back), processes, sockets, files."""
    (tmp_path / "ordinary.py").write_text(ORDINARY)
    result = engine.run(
        None,
        ["python3", "-W", "error", "/src/ordinary.py"],
        text=True,
        security=ck.Security(seccomp=policy),
        mounts=[ck.Mount.bind(tmp_path, "/src", read_only=True)],
    )
    assert result.stdout == "ordinary\n", result.stderr


@pytest.mark.parametrize("policy", POLICIES)
def test_busybox_does_not_notice(engine: ck.Engine, hostile: str, policy: str) -> None:
    script = """
        set -e
        mkdir -p /tmp/a/b && cd /tmp/a && echo one >b/f && cp -a b c && ln -s c d && mv c e
        tar -cf - b | tar -tf - >/dev/null
        find . -name f | xargs cat | sort | uniq | sed s/one/two/
        (sleep 0.01 & wait) ; date >/dev/null; ps >/dev/null; df >/dev/null; touch -d @5 b/f
        dd if=/dev/zero of=z bs=64k count=2 2>/dev/null; chmod 600 z; stat z >/dev/null; sync; gzip z
        timeout 5 true; nproc >/dev/null; id >/dev/null; ulimit -n >/dev/null; time true 2>/dev/null
    """
    security = ck.Security(seccomp=policy)
    result = engine.run(hostile, ["sh", "-c", script], text=True, security=security)
    assert (result.stdout, result.stderr, result.exit.code) == ("two\n", "", 0)


@pytest.mark.parametrize("verdict", [0x00050000 | -ENOSYS, 0x00000000, 0x80000000, 0x7FF00000])
def test_a_filter_that_lets_nothing_through(engine: ck.Engine, busybox: str, verdict: int) -> None:
    """Not even an exit: the process ends all the same."""
    program = struct.pack("<HBBI", 6, 0, 0, verdict)
    result = engine.run(busybox, ["true"], security=ck.Security(seccomp=program), timeout=250)
    assert result.exit.signal
    assert result.exit.cause == "signal"
