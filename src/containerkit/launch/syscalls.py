"""Numbers of system calls, and which of their arguments the kernel reads as 32 bits.

Owns the tables of x86-64 and aarch64 as of Linux 6.13 (arch/x86/entry/syscalls/syscall_64.tbl,
include/uapi/asm-generic/unistd.h).  Must not decide anything; `seccomp` compiles with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

_X86_64: Final = """
    read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction
    rt_sigprocmask rt_sigreturn ioctl pread64 pwrite64 readv writev access pipe select
    sched_yield mremap msync mincore madvise shmget shmat shmctl dup dup2 pause nanosleep
    getitimer alarm setitimer getpid sendfile socket connect accept sendto recvfrom sendmsg
    recvmsg shutdown bind listen getsockname getpeername socketpair setsockopt getsockopt clone
    fork vfork execve exit wait4 kill uname semget semop semctl shmdt msgget msgsnd msgrcv
    msgctl fcntl flock fsync fdatasync truncate ftruncate getdents getcwd chdir fchdir rename
    mkdir rmdir creat link unlink symlink readlink chmod fchmod chown fchown lchown umask
    gettimeofday getrlimit getrusage sysinfo times ptrace getuid syslog getgid setuid setgid
    geteuid getegid setpgid getppid getpgrp setsid setreuid setregid getgroups setgroups
    setresuid getresuid setresgid getresgid getpgid setfsuid setfsgid getsid capget capset
    rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack utime mknod uselib
    personality ustat statfs fstatfs sysfs getpriority setpriority sched_setparam sched_getparam
    sched_setscheduler sched_getscheduler sched_get_priority_max sched_get_priority_min
    sched_rr_get_interval mlock munlock mlockall munlockall vhangup modify_ldt pivot_root
    _sysctl prctl arch_prctl adjtimex setrlimit chroot sync acct settimeofday mount umount2
    swapon swapoff reboot sethostname setdomainname iopl ioperm create_module init_module
    delete_module get_kernel_syms query_module quotactl nfsservctl getpmsg putpmsg afs_syscall
    tuxcall security gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr
    listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr tkill time futex
    sched_setaffinity sched_getaffinity set_thread_area io_setup io_destroy io_getevents
    io_submit io_cancel get_thread_area lookup_dcookie epoll_create epoll_ctl_old epoll_wait_old
    remap_file_pages getdents64 set_tid_address restart_syscall semtimedop fadvise64
    timer_create timer_settime timer_gettime timer_getoverrun timer_delete clock_settime
    clock_gettime clock_getres clock_nanosleep exit_group epoll_wait epoll_ctl tgkill utimes
    vserver mbind set_mempolicy get_mempolicy mq_open mq_unlink mq_timedsend mq_timedreceive
    mq_notify mq_getsetattr kexec_load waitid add_key request_key keyctl ioprio_set ioprio_get
    inotify_init inotify_add_watch inotify_rm_watch migrate_pages openat mkdirat mknodat
    fchownat futimesat newfstatat unlinkat renameat linkat symlinkat readlinkat fchmodat
    faccessat pselect6 ppoll unshare set_robust_list get_robust_list splice tee sync_file_range
    vmsplice move_pages utimensat epoll_pwait signalfd timerfd_create eventfd fallocate
    timerfd_settime timerfd_gettime accept4 signalfd4 eventfd2 epoll_create1 dup3 pipe2
    inotify_init1 preadv pwritev rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init
    fanotify_mark prlimit64 name_to_handle_at open_by_handle_at clock_adjtime syncfs sendmmsg
    setns getcpu process_vm_readv process_vm_writev kcmp finit_module sched_setattr
    sched_getattr renameat2 seccomp getrandom memfd_create kexec_file_load bpf execveat
    userfaultfd membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc
    pkey_free statx io_pgetevents rseq uretprobe uprobe @424 pidfd_send_signal io_uring_setup
    io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount fspick
    pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2
    mount_setattr quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self
    memfd_secret process_mrelease futex_waitv set_mempolicy_home_node cachestat fchmodat2
    map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount lsm_get_self_attr
    lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat removexattrat
"""

_AARCH64: Final = """
    io_setup io_destroy io_submit io_cancel io_getevents setxattr lsetxattr fsetxattr getxattr
    lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr
    getcwd lookup_dcookie eventfd2 epoll_create1 epoll_ctl epoll_pwait dup dup3 fcntl
    inotify_init1 inotify_add_watch inotify_rm_watch ioctl ioprio_set ioprio_get flock mknodat
    mkdirat unlinkat symlinkat linkat renameat umount2 mount pivot_root nfsservctl statfs
    fstatfs truncate ftruncate fallocate faccessat chdir fchdir chroot fchmod fchmodat fchownat
    fchown openat close vhangup pipe2 quotactl getdents64 lseek read write readv writev pread64
    pwrite64 preadv pwritev sendfile pselect6 ppoll signalfd4 vmsplice splice tee readlinkat
    newfstatat fstat sync fsync fdatasync sync_file_range timerfd_create timerfd_settime
    timerfd_gettime utimensat acct capget capset personality exit exit_group waitid
    set_tid_address unshare futex set_robust_list get_robust_list nanosleep getitimer setitimer
    kexec_load init_module delete_module timer_create timer_gettime timer_getoverrun
    timer_settime timer_delete clock_settime clock_gettime clock_getres clock_nanosleep syslog
    ptrace sched_setparam sched_setscheduler sched_getscheduler sched_getparam sched_setaffinity
    sched_getaffinity sched_yield sched_get_priority_max sched_get_priority_min
    sched_rr_get_interval restart_syscall kill tkill tgkill sigaltstack rt_sigsuspend
    rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigreturn
    setpriority getpriority reboot setregid setgid setreuid setuid setresuid getresuid setresgid
    getresgid setfsuid setfsgid times setpgid getpgid getsid setsid getgroups setgroups uname
    sethostname setdomainname getrlimit setrlimit getrusage umask prctl getcpu gettimeofday
    settimeofday adjtimex getpid getppid getuid geteuid getgid getegid gettid sysinfo mq_open
    mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr msgget msgctl msgrcv msgsnd
    semget semctl semtimedop semop shmget shmctl shmat shmdt socket socketpair bind listen
    accept connect getsockname getpeername sendto recvfrom setsockopt getsockopt shutdown
    sendmsg recvmsg readahead brk munmap mremap add_key request_key keyctl clone execve mmap
    fadvise64 swapon swapoff mprotect msync mlock munlock mlockall munlockall mincore madvise
    remap_file_pages mbind get_mempolicy set_mempolicy migrate_pages move_pages
    rt_tgsigqueueinfo perf_event_open accept4 recvmmsg @260 wait4 prlimit64 fanotify_init
    fanotify_mark name_to_handle_at open_by_handle_at clock_adjtime syncfs setns sendmmsg
    process_vm_readv process_vm_writev kcmp finit_module sched_setattr sched_getattr renameat2
    seccomp getrandom memfd_create bpf execveat userfaultfd membarrier mlock2 copy_file_range
    preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx io_pgetevents rseq kexec_file_load
    @424 pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount
    fsopen fsconfig fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2
    process_madvise epoll_pwait2 mount_setattr quotactl_fd landlock_create_ruleset
    landlock_add_rule landlock_restrict_self memfd_secret process_mrelease futex_waitv
    set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake futex_wait
    futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal
    setxattrat getxattrat listxattrat removexattrat
"""


class Architecture(NamedTuple):
    """One native ABI.

    Attributes:
        name: as ``platform.machine()`` has it.
        audit: AUDIT_ARCH_* (linux/audit.h), what a filter finds in ``seccomp_data.arch``.
        numbers: of its calls, by name.
        newest: the highest number known; what is above came with a later kernel.
        docker: its name in Docker's profiles, in the lists of ``arches``.
    """

    name: str
    audit: int
    numbers: Mapping[str, int]
    newest: int
    docker: str


def _numbered(table: str) -> dict[str, int]:
    """Number the words of a table on from 0; ``@N`` goes on from N."""
    found: dict[str, int] = {}
    number = 0
    for word in table.split():
        if word.startswith("@"):
            number = int(word[1:])
        else:
            found[word] = number
            number += 1
    return found


def _architecture(name: str, audit: int, table: str, docker: str) -> Architecture:
    numbers = _numbered(table)
    return Architecture(name, audit, numbers, max(numbers.values()), docker)


ARCHITECTURES: Final = {
    "x86_64": _architecture("x86_64", 0xC000003E, _X86_64, "amd64"),
    "aarch64": _architecture("aarch64", 0xC00000B7, _AARCH64, "arm64"),
}

_INTS: Final = """
    accept:0 accept4:03 access:1 add_key:4 alarm:0 arch_prctl:0 bind:02 bpf:02 cachestat:03
    chmod:1 chown:12 clock_adjtime:0 clock_getres:0 clock_gettime:0 clock_nanosleep:01
    clock_settime:0 close:0 close_range:012 connect:02 copy_file_range:025 creat:1
    delete_module:1 dup:0 dup2:01 dup3:012 epoll_create:0 epoll_create1:0 epoll_ctl:012
    epoll_pwait:023 epoll_pwait2:02 epoll_wait:023 eventfd:0 eventfd2:01 execveat:04 exit:0
    exit_group:0 faccessat:02 faccessat2:023 fadvise64:03 fallocate:01 fanotify_init:01
    fanotify_mark:013 fchdir:0 fchmod:01 fchmodat:02 fchmodat2:023 fchown:012 fchownat:0234
    fcntl:01 fdatasync:0 fgetxattr:0 finit_module:02 flistxattr:0 flock:01 fremovexattr:0
    fsconfig:014 fsetxattr:04 fsmount:012 fsopen:1 fspick:02 fstat:0 fstatfs:0 fsync:0
    ftruncate:0 futex:125 futex_requeue:123 futex_wait:35 futex_waitv:124 futex_wake:23
    futimesat:0 get_robust_list:0 getdents:02 getdents64:02 getgroups:0 getitimer:0
    getpeername:0 getpgid:0 getpriority:01 getrandom:2 getrlimit:0 getrusage:0 getsid:0
    getsockname:0 getsockopt:012 getxattrat:02 inotify_add_watch:02 inotify_init1:0
    inotify_rm_watch:01 io_setup:0 io_uring_enter:0123 io_uring_register:013 io_uring_setup:0
    ioctl:01 ioperm:2 iopl:0 ioprio_get:01 ioprio_set:012 kcmp:012 kexec_file_load:01 keyctl:0
    kill:01 landlock_add_rule:013 landlock_create_ruleset:2 landlock_restrict_self:01 lchown:12
    linkat:024 listen:01 listmount:3 listxattrat:02 lseek:02 lsetxattr:4 lsm_get_self_attr:03
    lsm_list_modules:2 lsm_set_self_attr:023 madvise:2 map_shadow_stack:2 mbind:5 membarrier:012
    memfd_create:1 memfd_secret:0 migrate_pages:0 mkdir:1 mkdirat:02 mknod:12 mknodat:023
    mlock2:2 mlockall:0 modify_ldt:0 mount_setattr:02 move_mount:024 move_pages:05
    mq_getsetattr:0 mq_notify:0 mq_open:12 mq_timedreceive:0 mq_timedsend:03 msgctl:01 msgget:01
    msgrcv:04 msgsnd:03 msync:2 name_to_handle_at:04 newfstatat:03 open:12 open_by_handle_at:02
    open_tree:02 openat:023 openat2:0 perf_event_open:123 personality:0 pidfd_getfd:012
    pidfd_open:01 pidfd_send_signal:013 pipe2:1 pkey_free:0 pkey_mprotect:3 poll:12 ppoll:1
    prctl:0 pread64:0 preadv2:5 prlimit64:01 process_madvise:034 process_mrelease:01
    process_vm_readv:0 process_vm_writev:0 pselect6:0 pwrite64:0 pwritev2:5 quotactl:02
    quotactl_fd:012 read:0 readahead:0 readlink:2 readlinkat:03 reboot:012 recvfrom:03
    recvmmsg:023 recvmsg:02 removexattrat:02 renameat:02 renameat2:024 request_key:3 rseq:123
    rt_sigaction:0 rt_sigprocmask:0 rt_sigqueueinfo:01 rt_tgsigqueueinfo:012
    sched_get_priority_max:0 sched_get_priority_min:0 sched_getaffinity:01 sched_getattr:023
    sched_getparam:0 sched_getscheduler:0 sched_rr_get_interval:0 sched_setaffinity:01
    sched_setattr:02 sched_setparam:0 sched_setscheduler:01 seccomp:01 select:0 semctl:012
    semget:012 semop:02 semtimedop:02 sendfile:01 sendmmsg:023 sendmsg:02 sendto:035
    set_mempolicy:0 setdomainname:1 setfsgid:0 setfsuid:0 setgid:0 setgroups:0 sethostname:1
    setitimer:0 setns:01 setpgid:01 setpriority:012 setregid:01 setresgid:012 setresuid:012
    setreuid:01 setrlimit:0 setsockopt:0124 setuid:0 setxattr:4 setxattrat:02 shmat:02 shmctl:01
    shmget:02 shutdown:01 signalfd:0 signalfd4:03 socket:012 socketpair:012 splice:025
    statmount:3 statx:023 swapon:1 symlinkat:1 sync_file_range:03 syncfs:0 sysfs:0 syslog:02
    tee:013 tgkill:012 timer_create:0 timer_delete:0 timer_getoverrun:0 timer_gettime:0
    timer_settime:01 timerfd_create:01 timerfd_gettime:0 timerfd_settime:01 tkill:01 umask:0
    umount2:1 unlinkat:02 userfaultfd:0 ustat:0 utimensat:03 vmsplice:03 wait4:02 waitid:013
    write:0
"""

INT_ARGUMENTS: Final[Mapping[str, frozenset[int]]] = {
    name: frozenset(map(int, indices))
    for name, _, indices in (word.partition(":") for word in _INTS.split())
}
"""Arguments of C type int, or another of at most 32 bits: the kernel looks at their low half only
(include/linux/syscalls.h), so a filter that compared all 64 could be passed by setting high ones
(CVE-2019-10063)."""
