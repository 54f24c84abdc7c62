#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

/* <sys/mount.h> and <linux/mount.h> exclude each other in older libcs. */
enum { MS_REC_ = 16384, MS_PRIVATE_ = 1 << 18, MNT_DETACH_ = 2 };

/* The result of a libc call in this core's convention. */
static long result(long value)
{
    return value < 0 ? -(long)errno : value;
}

#define CK_CALL(type, name, parameters, call)                                                      \
    type name parameters;                                                                          \
    type name parameters                                                                           \
    {                                                                                              \
        return (type)result(call);                                                                 \
    }
#define CK_RETRY(type, name, parameters, call)                                                     \
    type name parameters;                                                                          \
    type name parameters                                                                           \
    {                                                                                              \
        long value;                                                                                \
        do                                                                                         \
            value = result(call);                                                                  \
        while (value == -EINTR);                                                                   \
        return (type)value;                                                                        \
    }
#include "ck_sys_ns.h" /* here its rows become functions */

/* ---- descriptors and files */

void ck_close_at(int *fd)
{
    if (*fd >= 0)
        close(*fd);
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
    long fd;

    do /* EAGAIN: a rename raced with the walk and the kernel could not be sure */
        fd = result(syscall(SYS_openat2, dirfd, path, &how, sizeof how));
    while (fd == -EINTR || fd == -EAGAIN);
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

/* ---- mounts */

int ck_new_mount(const char *type, const char *options, uint32_t n, unsigned attrs)
{
    CK_CLEANUP_FD int fs = (int)result(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));
    char key[32];

    CK_TRY(fs);
    for (; n > 0; n--, options += strlen(options) + 1) {
        const char *equals = strchr(options, '=');
        size_t len = equals ? (size_t)(equals - options) : strlen(options);
        if (len >= sizeof key)
            return -EINVAL;
        memcpy(key, options, len);
        key[len] = 0;
        CK_TRY(
            (int)result(syscall(SYS_fsconfig, fs, equals ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG,
                                key, equals ? equals + 1 : NULL, 0)));
    }
    CK_TRY((int)result(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)));
    return (int)result(syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attrs));
}

int ck_takes_option(const char *type, const char *key, const char *value)
{
    CK_CLEANUP_FD int fs = (int)result(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));

    return fs >= 0 && syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0) == 0;
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

_Noreturn void ck_exit(int code)
{
    for (;;)
        syscall(SYS_exit_group, code);
}

void ck_reset_signals(void)
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
    sigprocmask(SIG_SETMASK, &none, NULL);
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
        sent = result(sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
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

int ck_set_ids(uint32_t uid, uint32_t gid)
{
    long error = result(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));

    if (!error)
        error = result(syscall(SYS_setresgid, gid, gid, gid));
    if (!error)
        error = result(syscall(SYS_setresuid, uid, uid, uid));
    return (int)error;
}

int ck_set_caps(uint64_t permitted)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};

    for (int i = 0; i < 2; i++)
        data[i].permitted = data[i].effective = (uint32_t)(permitted >> (32 * i));
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

int ck_seccomp(const struct sock_filter *filter, size_t n)
{
    struct sock_fprog program = {.len = (unsigned short)n,
                                 .filter = (struct sock_filter *)(uintptr_t)filter};

    if (n == 0 || n > BPF_MAXINSNS)
        return -EINVAL;
    return (int)result(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
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
