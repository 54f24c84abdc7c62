"""The policies for system calls that have names: "default" and "strict".

Owns them, as data.  "default" allows what Docker's does and no more: less a few ways to type into a
terminal that is not the container's, and sockets that reach the hypervisor or the kernel's crypto.
"strict" is for code nobody trusts: nothing that attaches to other processes, changes roots or makes
nodes, sockets of three families only, and nothing of which the kernel has so much for the whole host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from containerkit.model.seccomp import Condition, Rule, SeccompProfile

_FILES: Final = """
    access cachestat chdir chmod chown close close_range copy_file_range creat dup dup2 dup3
    faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown
    fchownat fcntl fdatasync fgetxattr flistxattr flock fremovexattr
    fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr getxattrat
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lchown lgetxattr link linkat
    listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat
    name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64
    pwritev pwritev2 read readahead readlink readlinkat readv removexattr removexattrat rename
    renameat renameat2 rmdir sendfile setxattr setxattrat splice stat statfs statmount statx symlink symlinkat
    sync sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat utimes vmsplice
    write writev
"""
_MEMORY: Final = """
    brk madvise map_shadow_stack membarrier memfd_secret mincore mlock mlock2 mlockall mprotect
    mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease
    remap_file_pages shmat shmctl shmdt
"""
_PROCESSES: Final = """
    alarm capget capset execve execveat exit exit_group fork get_robust_list get_thread_area getcpu
    getegid geteuid getgid getgroups getitimer getpgid getpgrp getpid getppid getpriority getrandom
    getresgid getresuid getrlimit getrusage getsid gettid getuid kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self nanosleep pause pidfd_open pidfd_send_signal
    prlimit64 restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    sched_yield seccomp set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid
    setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid
    setuid sigaltstack sysinfo tgkill time times tkill uname vfork wait4 waitid
"""
_CLOCKS: Final = """
    adjtimex clock_adjtime clock_getres clock_gettime clock_nanosleep gettimeofday timer_create
    timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime
    timerfd_settime
"""
_WAITING: Final = """
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
    epoll_wait_old eventfd eventfd2 futex futex_requeue futex_wait futex_waitv futex_wake ioprio_get
    ioprio_set mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget
    msgrcv msgsnd poll ppoll pselect6 select semctl semget semop semtimedop signalfd signalfd4
"""
_SOCKETS: Final = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg
    sendmmsg sendmsg sendto setsockopt shutdown
"""
_EVENTS: Final = "io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit"
"""Of these there are so many for all of the host (fs.aio-max-nr): who takes them all, takes a database's."""

_MAPPINGS: Final = "memfd_create mmap shmget"
_HUGE: Final = (("mmap", 3, 0x40000), ("memfd_create", 1, 0x4), ("shmget", 2, 0o4000))
"""MAP_HUGETLB, MFD_HUGETLB, SHM_HUGETLB: the host's reserved pages, which no limit of memory counts."""

_NODES: Final = "mknod mknodat"
_TRACING: Final = "process_vm_readv process_vm_writev ptrace"

_ON_X86: Final = "arch_prctl modify_ldt uretprobe"
"""The last one is made by a probe of the host's in the program, not by the program."""

_BY_CAPABILITY: Final[Mapping[str, str]] = {
    "SYS_ADMIN": """
        fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree setdomainname
        sethostname setns umount2 unshare
    """,
    "SYS_CHROOT": "chroot",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
}
"""What the kernel checks against the container's own namespaces."""

_ON_THE_HOST: Final[Mapping[str, str]] = {
    "BPF": "bpf",
    "DAC_READ_SEARCH": "open_by_handle_at",
    "PERFMON": "perf_event_open",
    "SYSLOG": "syslog",
    "SYS_ADMIN": """
        bpf fanotify_init lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr
        perf_event_open quotactl quotactl_fd syslog
    """,
    "SYS_BOOT": "reboot",
    "SYS_MODULE": "delete_module finit_module init_module",
    "SYS_PACCT": "acct",
    "SYS_RAWIO": "ioperm iopl",
    "SYS_TIME": "clock_settime settimeofday",
    "SYS_TTY_CONFIG": "vhangup",
}
"""What reaches the kernel of the whole host: not opened by a capability over a user namespace."""

_NAMESPACES: Final = 0x7E020080
"""CLONE_NEWNS, NEWTIME, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (linux/sched.h)."""

_CLONE_PARENT: Final = 0x8000
"""The parent of an exec is the launcher: it would get a child that it does not know."""

_PERSONALITIES: Final = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
"""PER_LINUX, PER_LINUX32, both with UNAME26, and "tell me" (linux/personality.h)."""

_TERMINALS: Final = (0x5412, 0x541C, 0x5423)
"""TIOCSTI, TIOCLINUX, TIOCSETD (asm-generic/ioctls.h): typing for others, changing the discipline."""

_PR_SET_MM = 35
"""Moves where a process's own code, arguments and environment are said to be (prctl(2))."""

_AF_UNIX, _AF_ALG, _AF_VSOCK = 1, 38, 40
_FAMILIES: Final = (_AF_UNIX, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6 (linux/socket.h)."""


def _words(*tables: str) -> tuple[str, ...]:
    return tuple(" ".join(tables).split())


def _only(name: str, index: int, values: tuple[int, ...]) -> list[Rule]:
    """Allow a call with these values of an argument."""
    return [Rule((name,), conditions=(Condition(index, "eq", value),)) for value in values]


def _but(name: str, index: int, values: tuple[int, ...]) -> list[Rule]:
    """Allow a call with all but these values of an argument."""
    refused = [
        Rule((name,), "errno", conditions=(Condition(index, "eq", value),)) for value in values
    ]
    return [*refused, Rule((name,))]


def _without(name: str, index: int, flags: int, capabilities: frozenset[str] = frozenset()) -> Rule:
    """Allow a call with none of these bits in an argument."""
    condition = Condition(index, "masked_eq", 0, mask=flags)
    return Rule((name,), conditions=(condition,), capabilities=capabilities)


def _clone(refused: int, capabilities: frozenset[str] = frozenset()) -> Rule:
    """Allow clone(2) with none of these flags."""
    return _without("clone", 0, refused, capabilities)


def _default() -> list[Rule]:
    plain = _words(_FILES, _MEMORY, _PROCESSES, _CLOCKS, _WAITING, _SOCKETS, _NODES, _TRACING)
    return [
        Rule((*plain, *_words(_MAPPINGS, _EVENTS), "socketpair")),
        Rule(_words(_ON_X86), arches=frozenset({"amd64"})),
        *_but("ioctl", 1, _TERMINALS),
        *_but("prctl", 0, (_PR_SET_MM,)),
        *_but("socket", 0, (_AF_ALG, _AF_VSOCK)),
        *_only("personality", 0, _PERSONALITIES),
        *(
            Rule(_words(names), capabilities=frozenset({capability}))
            for capability, names in _BY_CAPABILITY.items()
        ),
        _clone(_CLONE_PARENT, frozenset({"SYS_ADMIN"})),
        *(
            Rule(_words(names), capabilities=frozenset({capability}), host=True)
            for capability, names in _ON_THE_HOST.items()
        ),
        _clone(_NAMESPACES | _CLONE_PARENT),
    ]


def _strict() -> list[Rule]:
    plain = _words(_FILES, _MEMORY, _PROCESSES, _CLOCKS, _WAITING, _SOCKETS)
    return [
        Rule(plain),
        Rule(("arch_prctl", "uretprobe"), arches=frozenset({"amd64"})),
        *_but("ioctl", 1, _TERMINALS),
        *_but("prctl", 0, (_PR_SET_MM,)),
        *_only("socket", 0, _FAMILIES),
        *_only("socketpair", 0, (_AF_UNIX,)),
        *_only("personality", 0, (0x0, 0xFFFFFFFF)),
        *(_without(name, index, flag) for name, index, flag in _HUGE),
        _clone(_NAMESPACES | _CLONE_PARENT),
    ]


POLICIES: Final[Mapping[str, SeccompProfile]] = {
    "default": SeccompProfile(_default()),
    "strict": SeccompProfile(_strict()),
}
