"""Files by which the kernel of the whole host is told or asked something: out of reach.

core_pattern, modprobe, uevent_helper, sysrq, binfmt_misc; CVE-2016-9962's neighbours CVE-2017-16539
(scsi), CVE-2018-10892 (acpi), powercap; and by the option of settings: CVE-2022-0811, CVE-2025-52881.
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import ConfigError
from tests.security.inside import calls, outcome

HERE, READ, WRITE = -100, 0, 1

TO_WRITE = (
    b"/proc/sysrq-trigger",
    b"/proc/sys/kernel/core_pattern",
    b"/proc/sys/kernel/modprobe",
    b"/proc/sys/kernel/hotplug",
    b"/proc/sys/kernel/poweroff_cmd",
    b"/proc/sys/kernel/sysrq",
    b"/proc/sys/kernel/randomize_va_space",
    b"/proc/sys/fs/binfmt_misc/register",
    b"/proc/sys/vm/drop_caches",
    b"/proc/irq/default_smp_affinity",
    b"/proc/mtrr",
    b"/proc/scsi/scsi",
    b"/sys/kernel/uevent_helper",
    b"/sys/power/state",
    b"/sys/kernel/mm/ksm/run",
)
TO_READ = (
    b"/proc/kcore",
    b"/proc/kmsg",
    b"/dev/mem",
    b"/dev/kmsg",
    b"/dev/port",
    b"/sys/kernel/debug/sched",
    b"/sys/kernel/tracing/trace",
    b"/sys/firmware/acpi/tables/DSDT",
)


def opening(paths: tuple[bytes, ...], how: int) -> list[str]:
    return calls(*(("openat", HERE, path, how) for path in paths))


def test_the_kernels_switches(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    refused = {-errno.EROFS, -errno.EACCES, -errno.EPERM, -errno.ENOENT}
    assert set(outcome(engine.run(hostile, opening(TO_WRITE, WRITE), security=security))) <= refused
    found = outcome(engine.run(hostile, opening(TO_READ, READ), security=security))
    hidden = engine.run(
        hostile, ["cat", "/proc/kcore", "/proc/keys", "/proc/timer_list"], security=security
    )
    assert set(found[1:]) <= refused
    assert hidden.stdout == b""
    with engine.start(hostile, ["sleep", "100000"], security=security) as box:
        assert set(outcome(box.exec(opening(TO_WRITE, WRITE)))) <= refused
        zeros = box.exec("cut -d ' ' -f 1 /proc/kallsyms | sort -u", text=True).stdout.split()
        assert zeros in ([], ["0" * 16])


def test_nothing_of_the_kernels_is_writable(
    engine: ck.Engine, hostile: str, security: ck.Security
) -> None:
    found = engine.run(
        hostile, ["/attacks/writable", "/proc", "/sys"], text=True, security=security
    )
    assert found.stdout == ""


@pytest.mark.needs("host root")
def test_without_read_only_paths(engine: ck.Engine, hostile: str) -> None:
    """The control."""
    bare = ck.Security(masked_paths=(), read_only_paths=())
    assert outcome(engine.run(hostile, opening(TO_WRITE[1:2], WRITE), security=bare))[0] >= 0
    assert b"/proc/sys/kernel/core_pattern\n" in (
        engine.run(hostile, ["/attacks/writable", "/proc/sys/kernel"], security=bare).stdout
    )
    if Path("/proc/pressure").exists():
        said = engine.run(
            hostile, ["/attacks/writable", "/proc/pressure"], security=bare, text=True
        )
        assert "/proc/pressure/memory" in said.stdout


FOREIGN = (
    ("kernel.core_pattern", "|/tmp/x"),
    ("kernel/core_pattern", "|/tmp/x"),
    ("kernel.modprobe", "/tmp/x"),
    ("kernel.shm_rmid_forced.core_pattern", "1"),
    ("kernel.shmmax\nkernel.core_pattern", "1"),
    ("kernel.shmmax", "1\nkernel.core_pattern=|/tmp/x"),
    ("kernel.shmmax", "1+kernel.core_pattern=|/tmp/x\0"),
    ("net..ipv4.ip_forward", "1"),
    ("net.../kernel/core_pattern", "1"),
    ("net.ipv4.../../kernel/core_pattern", "1"),
    ("net/../kernel/core_pattern", "1"),
    ("net.ipv4.conf.%2e%2e", "1\n"),
    ("fs.mqueue...binfmt_misc.register", "1"),
    ("vm.overcommit_memory", "1"),
    ("", "1"),
    ("net", "1"),
    ("user.max_user_namespaces", "1"),
)


def test_settings_that_are_not_a_containers() -> None:
    for name, value in FOREIGN:
        with pytest.raises(ConfigError):
            ck.Security(sysctls={name: value})


def test_settings_that_are(engine: ck.Engine, hostile: str) -> None:
    """The control: one of its own namespaces, and the host keeps its own."""
    setting = {"net.ipv4.ip_default_ttl": "77"}
    command = ["cat", "/proc/sys/net/ipv4/ip_default_ttl"]
    chosen = ck.Security(sysctls=setting)
    assert engine.run(hostile, command, text=True, security=chosen).stdout == "77\n"
    with open("/proc/sys/net/ipv4/ip_default_ttl", encoding="ascii") as file:
        assert file.read() != "77\n"
