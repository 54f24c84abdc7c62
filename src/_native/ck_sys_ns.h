/* ck_sys_ns.h - system calls of the launcher and its children: mounts, namespaces, processes.
 * Tables as in ck_sys.h. */
#pragma once

#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ck_sys.h"

struct sock_filter;

/* clang-format off */
/* ---- mounts; a path of "" means the descriptor itself */
CK_CALL(int, ck_open_tree, (int dirfd, const char *path, unsigned flags), /* always a clone */
        syscall(SYS_open_tree, dirfd, path, flags | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
                (*path ? 0U : AT_EMPTY_PATH)))
CK_CALL(int, ck_fs_open, (const char *type), syscall(SYS_fsopen, type, FSOPEN_CLOEXEC))
CK_CALL(int, ck_fs_set, (int fs, const char *key, const char *value), /* NULL: a flag */
        syscall(SYS_fsconfig, fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value, 0))
CK_CALL(int, ck_move_mount, (int fd, int dirfd, const char *path),
        syscall(SYS_move_mount, fd, "", dirfd, path, MOVE_MOUNT_F_EMPTY_PATH |
                (*path ? 0U : MOVE_MOUNT_T_EMPTY_PATH)))
CK_CALL(int, ck_mount_set, (int fd, uint64_t set, unsigned at_flags), /* and private, always */
        syscall(SYS_mount_setattr, fd, "", at_flags | AT_EMPTY_PATH,
                &(struct mount_attr){.attr_set = set, .propagation = MS_PRIVATE_},
                sizeof(struct mount_attr)))
CK_CALL(int, ck_mount_map_ids, (int fd, int user, unsigned at_flags), /* of a detached one; private */
        syscall(SYS_mount_setattr, fd, "", at_flags | AT_EMPTY_PATH,
                (&(struct mount_attr){.attr_set = MOUNT_ATTR_IDMAP, .propagation = MS_PRIVATE_,
                                      .userns_fd = (unsigned)user}),
                sizeof(struct mount_attr)))
CK_CALL(int, ck_bind, (const char *from, const char *to), /* attributes are kept */
        syscall(SYS_mount, from, to, NULL, MS_BIND_, NULL))
CK_CALL(int, ck_mount_private_all, (void), /* "/" and below */
        syscall(SYS_mount, NULL, "/", NULL, MS_REC_ | MS_PRIVATE_, NULL))
CK_CALL(int, ck_umount, (const char *path), syscall(SYS_umount2, path, MNT_DETACH_))
/* ---- processes and namespaces */
CK_CALL(int, ck_pidfd_kill, (int pidfd, int signal),
        syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0))
CK_CALL(pid_t, ck_fork, (void), syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0))
CK_CALL(int, ck_kill, (pid_t pid, int signal), kill(pid, signal))
CK_CALL(ssize_t, ck_getdents, (int fd, void *to, size_t n), syscall(SYS_getdents64, fd, to, n))
CK_CALL(pid_t, ck_reap, (int *status), waitpid(-1, status, WNOHANG | __WALL))
CK_CALL(pid_t, ck_wait_any, (int *status), waitpid(-1, status, __WALL))
CK_CALL(int, ck_look_at_end, (int type, int id, siginfo_t *found), /* of a child, left as it is */
        syscall(SYS_waitid, type, id, found, WEXITED | WNOHANG | WNOWAIT | __WALL, NULL))
CK_CALL(int, ck_reap_one, (pid_t pid), waitpid(pid, NULL, WNOHANG | __WALL))
/* One that has ended of those that came to us, which alone have an exit signal: its pid, 0, -ECHILD. */
CK_CALL(pid_t, ck_reap_orphan, (void), waitpid(-1, NULL, WNOHANG))
CK_CALL(int, ck_is_orphan, (pid_t pid), /* or -ECHILD */
        waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOHANG | WNOWAIT))
CK_CALL(int, ck_adopt_orphans, (void), prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
CK_CALL(int, ck_signal_at_parents_end, (int signal), prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0))
CK_CALL(pid_t, ck_getppid, (void), getppid())
CK_CALL(int, ck_chroot, (const char *path), chroot(path))
CK_CALL(int, ck_next_signal, (void), /* of those that are held */
         syscall(SYS_rt_sigtimedwait, (&(uint64_t){~0ULL}), NULL, NULL, 8))
CK_CALL(int, ck_name_process, (const char *name), prctl(PR_SET_NAME, name, 0, 0, 0))
CK_CALL(int, ck_pidfd_open, (pid_t pid), syscall(SYS_pidfd_open, pid, 0))
CK_CALL(pid_t, ck_getpid, (void), getpid())
CK_CALL(int, ck_setns, (int fd, int kind), syscall(SYS_setns, fd, kind))
CK_CALL(int, ck_unshare, (int flags), syscall(SYS_unshare, flags))
CK_CALL(int, ck_execve, (const char *path, char *const argv[], char *const envp[]),
        syscall(SYS_execve, path, argv, envp))
CK_CALL(int, ck_execveat, (int program, char *const argv[], char *const envp[]),
        syscall(SYS_execveat, program, "", argv, envp, AT_EMPTY_PATH))
CK_CALL(int, ck_close_range, (unsigned first, unsigned last, int cloexec_only),
        syscall(SYS_close_range, first, last, cloexec_only ? 4U : 0U))
CK_CALL(int, ck_dup_to, (int fd, int number), dup2(fd, number))
CK_CALL(int, ck_dup_above, (int fd, int least), fcntl(fd, F_DUPFD_CLOEXEC, least))
CK_CALL(int, ck_set_cloexec, (int fd), fcntl(fd, F_SETFD, FD_CLOEXEC))
CK_CALL(int, ck_seals, (int memfd), fcntl(memfd, F_GET_SEALS))
CK_CALL(int, ck_setsid, (void), setsid())
CK_CALL(int, ck_open_peer, (int master), /* the slave */
        ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC))
CK_CALL(int, ck_take_tty, (int fd), ioctl(fd, TIOCSCTTY, 0))
CK_CALL(int, ck_lead_group, (void), /* in its terminal's foreground, if it has one */
        setpgid(0, 0) < 0 ? -1 : (tcsetpgrp(0, getpid()), 0))
CK_CALL(int, ck_pipe, (int out[2]), pipe2(out, O_CLOEXEC))
CK_CALL(int, ck_set_nonblocking, (int fd), fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK))
CK_CALL(int, ck_socketpair, (int out[2]), /* of packets */
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, out))
CK_CALL(int, ck_accept, (int listener), accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK))
CK_CALL(int, ck_epoll, (void), epoll_create1(EPOLL_CLOEXEC))
CK_CALL(int, ck_epoll_set, (int epoll, int op, int fd, uint32_t events, uint64_t data),
        epoll_ctl(epoll, op, fd, &(struct epoll_event){.events = events, .data.u64 = data}))
CK_CALL(int, ck_epoll_wait, (int epoll, struct epoll_event *events, int n, int timeout_ms),
         epoll_wait(epoll, events, n, timeout_ms))
CK_CALL(int, ck_shutdown, (int socket, int how), shutdown(socket, how))
CK_CALL(int, ck_wait_for, (int fd, short events, int timeout_ms), /* 0: it timed out */
         poll(&(struct pollfd){.fd = fd, .events = events}, 1, timeout_ms))
/* ---- identity and limits */
CK_CALL(int, ck_set_groups, (size_t n, const uint32_t *groups), syscall(SYS_setgroups, n, groups))
CK_CALL(int, ck_set_euid, (uid_t uid), getuid() ? 0 : syscall(SYS_setresuid, -1, uid, -1))
CK_CALL(int, ck_no_new_privs, (void), prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
CK_CALL(int, ck_not_dumpable, (void), prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
CK_CALL(int, ck_session_keyring, (void), syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL))
CK_CALL(int, ck_set_rlimit, (int resource, uint64_t soft, uint64_t hard),
        syscall(SYS_prlimit64, 0, resource, ((uint64_t[]){soft, hard}), NULL))
CK_CALL(int, ck_get_rlimit, (int resource, uint64_t limit[2]),
        syscall(SYS_prlimit64, 0, resource, NULL, limit))
CK_CALL(int, ck_unmap, (void *at, size_t size), munmap(at, size))
CK_CALL(int, ck_sethostname, (const char *name), sethostname(name, strlen(name)))
CK_CALL(mode_t, ck_umask, (mode_t mask), umask(mask))
/* clang-format on */

int ck_make_dir(int dirfd, const char *path, mode_t mode);        /* 1: it was there */
int ck_fs_mount(int fs, unsigned attrs);
/* A mount of a new file system, in one; options are n strings one behind the other: "key=value" or "flag". */
int ck_new_mount(const char *type, const char *options, uint32_t n, unsigned attrs);
int ck_pivot_here(void);                             /* cwd becomes the root, the old one is detached */
/* Like fork, with exit signal 0; cgroup: a directory for CLONE_INTO_CGROUP, -1: none. */
pid_t ck_clone(uint64_t flags, int cgroup, int *pidfd);
/* -EAGAIN: it hangs in the kernel, or somebody who traces it holds its end: it is not waited for. */
int ck_kill_and_wait(int pidfd);
int ck_wait_pidfd(int pidfd, int *code, int *signal, struct rusage *usage); /* 0 or -EAGAIN … */
_Noreturn void ck_exit(int code);
void ck_run_ordinarily(void); /* whatever personality and priority the embedding program has */
void ck_set_signals(void (*handler)(int), uint64_t mask); /* of all; NULL: the default */
int ck_open_slave(int master, uint16_t rows, uint16_t columns);
int ck_peer_uid(int socket, uid_t *uid);
ssize_t ck_send(int fd, const void *buf, size_t len, const int *fds, int n_fds);
ssize_t ck_receive(int fd, void *buf, size_t len, int *fds, int *n_fds, int wait);
uint64_t ck_now(clockid_t clock);                    /* ns */
void *ck_map(int fd, size_t size); /* private: a file, read-only; -1: memory.  NULL on failure */
int ck_set_ids(uint32_t uid, uint32_t gid);          /* permitted capabilities stay in effect */
int ck_set_fs_ids(uint32_t uid, uint32_t gid);       /* those in effect, too */
int ck_set_caps(uint64_t bounding, uint64_t permitted); /* and effective; inheritable, ambient: none */
int ck_seccomp(const struct sock_filter *filter, size_t n);
int ck_loopback_up(void);
