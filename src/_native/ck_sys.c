#include <errno.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <net/if.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

/* <sys/mount.h> and <linux/mount.h> exclude each other in older libcs. */
enum { MS_BIND_ = 4096, MS_REC_ = 16384, MS_PRIVATE_ = 1 << 18, MNT_DETACH_ = 2 };

/* The result of a libc call in this core's convention. */
static long result(long value)
{
    return value < 0 ? -(long)errno : value;
}

/* In the build of the fault sweeps every call asks first whether it is its turn to fail. */
#ifdef CK_FAULT
int ck_fault(const char *name); /* 0 or a negative errno; tests/faults/ck_fault.c */
#else
#define ck_fault(name) 0
#endif

#define CK_CALL(type, name, parameters, call)                                                      \
    type name parameters;                                                                          \
    type name parameters                                                                           \
    {                                                                                              \
        long said_;                                                                                \
        do {                                                                                       \
            said_ = ck_fault(#name);                                                               \
            said_ = said_ ? said_ : result(call);                                                  \
        } while (said_ == -EINTR);                                                                 \
        return (type)said_;                                                                        \
    }
#include "ck_sys_ns.h" /* here its rows become functions */

/* ---- descriptors and files */

void ck_close_at(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int ck_steal_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

int ck_openat2(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC), .mode = mode, .resolve = resolve};
    int tries = 64; /* EAGAIN: a rename raced with it and the kernel could not be sure */
    long fd;

    do {
        fd = ck_fault("ck_openat2");
        fd = fd ? fd : result(syscall(SYS_openat2, dirfd, path, &how, sizeof how));
    } while (fd == -EINTR || (fd == -EAGAIN && --tries));
    return (int)fd;
}

int ck_write_all(int fd, const void *buf, size_t len)
{
    const char *at = buf;

    while (len > 0) {
        ssize_t n = ck_write(fd, at, len);
        if (n < 0)
            return (int)n;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int ck_make_dir(int dirfd, const char *path, mode_t mode)
{
    int error = ck_mkdirat(dirfd, path, mode);

    return error == -EEXIST ? 1 : error;
}

/* ---- mounts */

int ck_fs_mount(int fs, unsigned attrs)
{
    CK_TRY(ck_fault("ck_fs_mount"));
    CK_TRY(result(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)));
    return (int)result(syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attrs));
}

int ck_new_mount(const char *type, const char *options, uint32_t n, unsigned attrs)
{
    char key[32];

    CK_OPEN(fs, ck_fs_open(type));
    for (; n > 0; n--, options += strlen(options) + 1) {
        const char *equals = strchr(options, '=');
        size_t len = equals ? (size_t)(equals - options) : strlen(options);
        if (len >= sizeof key)
            return -EINVAL;
        memcpy(key, options, len);
        key[len] = 0;
        CK_TRY(ck_fs_set(fs, key, equals ? equals + 1 : NULL));
    }
    return ck_fs_mount(fs, attrs);
}

int ck_pivot_here(void)
{
    CK_TRY(result(syscall(SYS_pivot_root, ".", ".")));
    CK_TRY(ck_umount(".")); /* the old root, stacked on top of the new one */
    return ck_chdir("/");
}

/* ---- processes and namespaces */

pid_t ck_clone(uint64_t flags, int cgroup, int *pidfd)
{
    struct clone_args raw = {.flags = flags | CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)pidfd};
    long pid = ck_fault("ck_clone");

    CK_TRY(pid);
    if (cgroup >= 0) {
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = (unsigned)cgroup;
    }
    pid = result(syscall(SYS_clone3, &raw, sizeof raw));
    if (pid == -ENOSYS && cgroup < 0) /* as the filters of containers have it */
        pid = result(syscall(SYS_clone, raw.flags, 0, pidfd, 0, 0));
    return (pid_t)pid;
}

int ck_wait_pidfd(int pidfd, int *code, int *signal, struct rusage *usage)
{
    siginfo_t info = {0};

    /* __WALL: the child has no exit signal */
    CK_TRY(result(syscall(SYS_waitid, P_PIDFD, pidfd, &info, WEXITED | WNOHANG | __WALL, usage)));
    if (!info.si_pid)
        return -EAGAIN;
    *code = info.si_code == CLD_EXITED ? info.si_status : 0;
    *signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
    return 0;
}

enum { KILLED_MS = 1000 };

int ck_kill_and_wait(int pidfd)
{
    int code, signal, error;

    ck_pidfd_kill(pidfd, SIGKILL);
    for (int tries = 0; (error = ck_wait_pidfd(pidfd, &code, &signal, NULL)) == -EAGAIN; tries++)
        if (tries == 2 || ck_wait_for(pidfd, POLLIN, KILLED_MS) <= 0)
            return -EAGAIN;
    return error;
}

_Noreturn void ck_exit(int code)
{
    syscall(SYS_exit_group, code);
    __builtin_trap(); /* a filter of system calls has refused that: nothing can refuse this */
}

/* In the kernel's own terms: libc refuses its private signals.  Meanwhile all are held. */
void ck_set_signals(void (*handler)(int), uint64_t mask)
{
    const uint64_t action[4] = {(uint64_t)(uintptr_t)handler}, all = ~0ULL;

    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8);
    for (int signal = 1; signal < NSIG; signal++) /* it refuses SIGKILL and SIGSTOP */
        syscall(SYS_rt_sigaction, signal, action, NULL, 8);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8);
}

/* Addresses that do not vary, a stack that may be executed, a real-time policy, lazy timers, what is
 * said of huge pages and of merged ones: the containers would inherit it all.  A priority below the
 * usual one holds for them too, as limits do. */
void ck_run_ordinarily(void)
{
    const long policy = syscall(SYS_sched_getscheduler, 0);

    syscall(SYS_personality, 0);
    prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
    prctl(67 /* PR_SET_MEMORY_MERGE, of Linux 6.4 */, 0, 0, 0, 0);
    if (policy == SCHED_FIFO || policy == SCHED_RR || policy == 6 /* SCHED_DEADLINE */)
        syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &(int){0});
    /* ns, the default; under a real-time policy there is none to set */
    prctl(PR_SET_TIMERSLACK, 50000, 0, 0, 0);
    if (getpriority(PRIO_PROCESS, 0) < 0)
        setpriority(PRIO_PROCESS, 0, 0);
}

int ck_open_slave(int master, uint16_t rows, uint16_t columns)
{
    const struct winsize size = {.ws_row = rows, .ws_col = columns};

    CK_TRY(result(ioctl(master, TIOCSPTLCK, &(int){0})));
    CK_TRY(result(ioctl(master, TIOCSWINSZ, &size)));
    return ck_open_peer(master);
}

enum { CONTROL_FDS = 128 };

union control { /* aligned room for the descriptors of one packet */
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int) * CONTROL_FDS)];
};

CK_CALL(ssize_t, ck_sendmsg, (int fd, const struct msghdr *message, int flags),
        sendmsg(fd, message, flags))
CK_CALL(ssize_t, ck_recvmsg, (int fd, struct msghdr *message, int flags),
        recvmsg(fd, message, flags))

ssize_t ck_send(int fd, const void *buf, size_t len, const int *fds, int n_fds)
{
    const size_t size = sizeof(int) * (size_t)n_fds;
    struct iovec part = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    union control control = {.header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};

    if (n_fds > CONTROL_FDS)
        return -EINVAL;
    if (n_fds > 0) {
        message.msg_control = &control;
        message.msg_controllen = control.header.cmsg_len = (unsigned)CMSG_LEN(size);
        memcpy(CMSG_DATA(&control.header), fds, size);
    }
    return ck_sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

ssize_t ck_receive(int fd, void *buf, size_t len, int *fds, int *n_fds, int wait)
{
    struct iovec part = {.iov_base = buf, .iov_len = len};
    union control control = {.header = {0}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control};
    ssize_t got;

    /* the kernel makes one header of them all, and closes what it has no room for */
    message.msg_controllen = (unsigned)CMSG_LEN(sizeof(int) * (size_t)*n_fds);
    *n_fds = 0;
    got = ck_recvmsg(fd, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
    CK_TRY(got == -ENOMEM && !wait ? -EAGAIN : got); /* it stays there, and is asked for again */
    if (message.msg_controllen >= CMSG_LEN(0) && control.header.cmsg_type == SCM_RIGHTS) {
        *n_fds = (int)((control.header.cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(&control.header), sizeof(int) * (size_t)*n_fds);
    }
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        while (*n_fds > 0)
            close(fds[--*n_fds]);
        return -EMSGSIZE;
    }
    return got;
}

int ck_peer_uid(int socket, uid_t *uid)
{
    struct ucred peer;
    socklen_t size = sizeof peer;

    CK_TRY(result(getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size)));
    *uid = peer.uid;
    return 0;
}

uint64_t ck_now(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

void *ck_map(int fd, size_t size)
{
    const int prot = fd < 0 ? PROT_READ | PROT_WRITE : PROT_READ;
    void *at = MAP_FAILED;

    if (!ck_fault("ck_map"))
        at = mmap(NULL, size, prot, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_PRIVATE, fd, 0);
    return at == MAP_FAILED ? NULL : at;
}

/* ---- identity and limits */

int ck_set_ids(uint32_t uid, uint32_t gid)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    CK_TRY(result(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)));
    CK_TRY(result(syscall(SYS_setresgid, gid, gid, gid)));
    CK_TRY(result(syscall(SYS_setresuid, uid, uid, uid)));
    CK_TRY(result(syscall(SYS_capget, &header, data)));
    for (int i = 0; i < 2; i++) /* a filter, and dropping, need them in effect too */
        data[i].effective = data[i].permitted;
    return (int)result(syscall(SYS_capset, &header, data));
}

/* Neither call says whether it was refused (setfsuid(2)). */
int ck_set_fs_ids(uint32_t uid, uint32_t gid)
{
    CK_TRY(result(prctl(PR_SET_SECUREBITS, 1 << SECURE_NO_SETUID_FIXUP, 0, 0, 0)));
    syscall(SYS_setfsgid, gid);
    syscall(SYS_setfsuid, uid);
    return (uint32_t)syscall(SYS_setfsgid, -1) == gid && (uint32_t)syscall(SYS_setfsuid, -1) == uid
               ? 0
               : -EPERM;
}

int ck_set_caps(uint64_t bounding, uint64_t permitted)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    for (unsigned cap = 0; cap < 64; cap++) {
        long error = bounding >> cap & 1 ? 0 : result(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
        if (error == -EINVAL) /* past the last capability this kernel knows */
            break;
        CK_TRY(error);
    }
    for (int i = 0; i < 2; i++, permitted >>= 32) /* none inheritable: so none is ambient */
        data[i] = (struct __user_cap_data_struct){(uint32_t)permitted, (uint32_t)permitted, 0};
    return (int)result(syscall(SYS_capset, &header, data));
}

int ck_seccomp(const struct sock_filter *filter, size_t n)
{
    struct sock_fprog program = {.len = (unsigned short)n,
                                 .filter = (struct sock_filter *)(uintptr_t)filter};

    if (n == 0 || n > BPF_MAXINSNS)
        return -EINVAL;
    return (int)result(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

int ck_limit_devices(int group, const void *program, size_t size)
{
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
                           .insns = (uint64_t)(uintptr_t)program,
                           .insn_cnt = (uint32_t)(size / sizeof(struct bpf_insn)),
                           .license = (uint64_t)(uintptr_t)""};
    union bpf_attr attach = {.target_fd = (uint32_t)group,
                             .attach_type = BPF_CGROUP_DEVICE,
                             .attach_flags = BPF_F_ALLOW_OVERRIDE};

    CK_TRY(ck_fault("ck_limit_devices"));
    CK_OPEN(fd, result(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load)));
    attach.attach_bpf_fd = (uint32_t)fd;
    return (int)result(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach));
}

int ck_loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo"};

    CK_OPEN(fd, result(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    return (int)result(ioctl(fd, SIOCSIFFLAGS, &request));
}
