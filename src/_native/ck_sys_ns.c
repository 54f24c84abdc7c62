/* ck_sys_ns.c - ck_sys_ns.h's calls; raw where libc would keep state or broadcast to threads. */
#define _GNU_SOURCE
#include "ck_sys_ns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ck_sys.h"

/* <sys/mount.h> and <linux/mount.h> exclude each other in older libcs. */
enum { MS_REC_ = 16384, MS_PRIVATE_ = 1 << 18, MNT_DETACH_ = 2 };

static long result(long value)
{
    return value < 0 ? -(long)errno : value;
}

/* ---- mounts */

int ck_open_tree(int dirfd, const char *path, unsigned flags)
{
    if (!*path)
        flags |= AT_EMPTY_PATH;
    return (int)result(
        syscall(SYS_open_tree, dirfd, path, flags | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
}

int ck_move_mount(int fd, int dirfd, const char *path)
{
    unsigned flags = MOVE_MOUNT_F_EMPTY_PATH;

    if (!*path)
        flags |= MOVE_MOUNT_T_EMPTY_PATH;
    return (int)result(syscall(SYS_move_mount, fd, "", dirfd, path, flags));
}

int ck_fsopen(const char *type)
{
    return (int)result(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));
}

int ck_fsconfig_string(int fs, const char *key, const char *value)
{
    return (int)result(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0));
}

int ck_fsconfig_flag(int fs, const char *key)
{
    return (int)result(syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, key, NULL, 0));
}

int ck_fsconfig_option(int fs, const char *option)
{
    const char *equals = strchr(option, '=');
    char key[64];
    size_t len;

    if (!equals)
        return ck_fsconfig_flag(fs, option);
    len = (size_t)(equals - option);
    if (len >= sizeof key)
        return -EINVAL;
    memcpy(key, option, len);
    key[len] = 0;
    return ck_fsconfig_string(fs, key, equals + 1);
}

int ck_fsmount(int *fs, unsigned attrs)
{
    int fd = ck_steal_fd(fs);
    long mount = result(syscall(SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0));

    if (mount >= 0)
        mount = result(syscall(SYS_fsmount, fd, FSMOUNT_CLOEXEC, attrs));
    close(fd);
    return (int)mount;
}

int ck_mount_set(int fd, uint64_t set, unsigned at_flags)
{
    struct mount_attr attr = {.attr_set = set};

    return (int)result(
        syscall(SYS_mount_setattr, fd, "", at_flags | AT_EMPTY_PATH, &attr, sizeof attr));
}

int ck_mount_private_all(void)
{
    return (int)result(syscall(SYS_mount, NULL, "/", NULL, MS_REC_ | MS_PRIVATE_, NULL));
}

int ck_mount_overlay(const char *target, unsigned long flags, const char *options)
{
    return (int)result(syscall(SYS_mount, "overlay", target, "overlay", flags, options));
}

int ck_umount(const char *path)
{
    return (int)result(syscall(SYS_umount2, path, MNT_DETACH_));
}

int ck_pivot_here(void)
{
    int error = (int)result(syscall(SYS_pivot_root, ".", "."));

    if (!error)
        error = ck_umount("."); /* the old root, stacked on top of the new one */
    return error ? error : (int)result(chdir("/"));
}

/* ---- processes and namespaces */

pid_t ck_clone(const struct ck_clone *args, int *pidfd)
{
    struct clone_args raw = {
        .flags = args->flags | CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)pidfd,
    };

    if (args->cgroup >= 0) {
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = (unsigned)args->cgroup;
    }
    return (pid_t)result(syscall(SYS_clone3, &raw, sizeof raw));
}

int ck_pidfd_kill(int pidfd, int signal)
{
    return (int)result(syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

int ck_wait_pidfd(int pidfd, int *code, int *signal, struct rusage *usage)
{
    siginfo_t info = {0};
    long error;

    do /* __WALL: the child has no exit signal */
        error =
            result(syscall(SYS_waitid, P_PIDFD, pidfd, &info, WEXITED | WNOHANG | __WALL, usage));
    while (error == -EINTR);
    if (error < 0)
        return (int)error;
    if (!info.si_pid)
        return -EAGAIN;
    *code = info.si_code == CLD_EXITED ? info.si_status : 0;
    *signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
    return 0;
}

int ck_setns(int fd, int kind)
{
    return (int)result(syscall(SYS_setns, fd, kind));
}

int ck_unshare(int flags)
{
    return (int)result(syscall(SYS_unshare, flags));
}

_Noreturn void ck_exit(int code)
{
    for (;;)
        syscall(SYS_exit_group, code);
}

int ck_execve(const char *path, char *const argv[], char *const envp[])
{
    return (int)result(syscall(SYS_execve, path, argv, envp));
}

int ck_execveat(int program, char *const argv[], char *const envp[])
{
    return (int)result(syscall(SYS_execveat, program, "", argv, envp, AT_EMPTY_PATH));
}

int ck_reset_signals(void)
{
    sigset_t none;

    for (int signal = 1; signal < NSIG; signal++)
        if (signal != SIGKILL && signal != SIGSTOP) {
            struct { /* the kernel's own struct: libc refuses its private signals */
                uintptr_t handler;
                unsigned long flags;
                uintptr_t restorer;
                uint64_t mask;
            } reset = {0};
            syscall(SYS_rt_sigaction, signal, &reset, NULL, 8);
        }
    sigemptyset(&none);
    return (int)result(sigprocmask(SIG_SETMASK, &none, NULL));
}

int ck_close_range(unsigned first, int cloexec_only)
{
    return (int)result(syscall(SYS_close_range, first, ~0U, cloexec_only ? 4U : 0U));
}

int ck_dup_to(int fd, int number)
{
    return (int)result(dup2(fd, number));
}

int ck_dup_above(int fd, int least)
{
    return (int)result(fcntl(fd, F_DUPFD_CLOEXEC, least));
}

int ck_set_cloexec(int fd)
{
    return (int)result(fcntl(fd, F_SETFD, FD_CLOEXEC));
}

int ck_is_sealed(int memfd)
{
    const int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;

    return (fcntl(memfd, F_GET_SEALS) & seals) == seals;
}

int ck_setsid(void)
{
    return (int)result(setsid());
}

int ck_take_tty(int fd)
{
    return (int)result(ioctl(fd, TIOCSCTTY, 0));
}

int ck_socketpair(int out[2])
{
    return (int)result(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, out));
}

union control { /* aligned room for the descriptors of one packet */
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int) * 128)];
};

ssize_t ck_send(int fd, const void *buf, size_t len, const int *fds, int n_fds)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    union control control;
    ssize_t sent;

    if (n_fds > 128)
        return -EINVAL;
    if (n_fds > 0) {
        memset(&control.header, 0, sizeof control.header);
        message.msg_control = &control;
        message.msg_controllen = (unsigned)CMSG_SPACE(sizeof(int) * (unsigned)n_fds);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = (unsigned)CMSG_LEN(sizeof(int) * (unsigned)n_fds);
        memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * (unsigned)n_fds);
    }
    do
        sent = result(sendmsg(fd, &message, MSG_NOSIGNAL));
    while (sent == -EINTR);
    return sent;
}

ssize_t ck_receive(int fd, void *buf, size_t len, int *fds, int *n_fds, int wait)
{
    struct iovec part = {.iov_base = buf, .iov_len = len};
    union control control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t got;
    int room = *n_fds;

    *n_fds = 0;
    do
        got = result(recvmsg(fd, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT)));
    while (got == -EINTR);
    if (got < 0)
        return got;
    if (message.msg_controllen >= CMSG_LEN(0) && control.header.cmsg_type == SCM_RIGHTS &&
        control.header.cmsg_level == SOL_SOCKET) { /* the kernel makes one header of them all */
        size_t n = (control.header.cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int received;
            memcpy(&received, CMSG_DATA(&control.header) + i * sizeof(int), sizeof received);
            if (*n_fds < room)
                fds[(*n_fds)++] = received;
            else
                close(received);
        }
    }
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        while (*n_fds > 0)
            close(fds[--*n_fds]);
        return -EMSGSIZE;
    }
    return got;
}

void ck_wait_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    while (poll(&poll_fd, 1, -1) < 0 && errno == EINTR)
        continue;
}

int ck_epoll(void)
{
    return (int)result(epoll_create1(EPOLL_CLOEXEC));
}

int ck_epoll_set(int epoll, int op, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};

    return (int)result(epoll_ctl(epoll, op, fd, &event));
}

int ck_epoll_wait(int epoll, struct epoll_event *events, int n, int timeout_ms)
{
    int got = (int)result(epoll_wait(epoll, events, n, timeout_ms));

    return got == -EINTR ? 0 : got;
}

uint64_t ck_now(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

void *ck_map(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

void *ck_map_file(int fd, size_t size)
{
    void *at = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);

    return at == MAP_FAILED ? NULL : at;
}

void ck_unmap(void *at, size_t size)
{
    if (at)
        munmap(at, size);
}

/* ---- identity and limits */

int ck_set_groups(size_t n, const uint32_t *groups)
{
    return (int)result(syscall(SYS_setgroups, n, groups));
}

int ck_set_ids(uint32_t uid, uint32_t gid)
{
    long error = result(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));

    if (!error)
        error = result(syscall(SYS_setresgid, gid, gid, gid));
    if (!error)
        error = result(syscall(SYS_setresuid, uid, uid, uid));
    return (int)error;
}

int ck_set_caps(uint64_t permitted, uint64_t inheritable)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    for (int i = 0; i < 2; i++) {
        data[i].permitted = data[i].effective = (uint32_t)(permitted >> (32 * i));
        data[i].inheritable = (uint32_t)(inheritable >> (32 * i));
    }
    return (int)result(syscall(SYS_capset, &header, data));
}

/* What of the permitted set is left, so that it can be made effective again. */
static int raise_permitted(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    int error = (int)result(syscall(SYS_capget, &header, data));

    data[0].effective = data[0].permitted;
    data[1].effective = data[1].permitted;
    return error ? error : (int)result(syscall(SYS_capset, &header, data));
}

int ck_drop_bounding(uint64_t keep)
{
    int error = raise_permitted(); /* dropping needs CAP_SETPCAP in effect */

    for (unsigned cap = 0; !error && cap < 64; cap++) {
        if (keep >> cap & 1)
            continue;
        error = (int)result(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
        if (error == -EINVAL)
            return 0; /* past the last capability this kernel knows */
    }
    return error;
}

int ck_clear_ambient(void)
{
    return (int)result(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
}

int ck_no_new_privs(void)
{
    return (int)result(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

int ck_not_dumpable(void)
{
    return (int)result(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
}

int ck_seccomp(const struct sock_filter *filter, size_t n)
{
    struct sock_fprog program = {.len = (unsigned short)n,
                                 .filter = (struct sock_filter *)(uintptr_t)filter};

    if (n == 0 || n > BPF_MAXINSNS)
        return -EINVAL;
    return (int)result(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

int ck_session_keyring(void)
{
    return (int)result(syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, NULL));
}

int ck_set_rlimit(int resource, uint64_t soft, uint64_t hard)
{
    uint64_t limit[2] = {soft, hard};

    return (int)result(syscall(SYS_prlimit64, 0, resource, limit, NULL));
}

int ck_raise_nofile(void)
{
    uint64_t limit[2];
    long error = result(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, limit));

    return error ? (int)error : ck_set_rlimit(RLIMIT_NOFILE, limit[1], limit[1]);
}

int ck_sethostname(const char *name, size_t len)
{
    return (int)result(sethostname(name, len));
}

mode_t ck_umask(mode_t mask)
{
    return umask(mask);
}

int ck_loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    CK_CLEANUP_FD int fd = (int)result(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));

    if (fd < 0)
        return fd;
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    return (int)result(ioctl(fd, SIOCSIFFLAGS, &request));
}
