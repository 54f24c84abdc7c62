/* ck_sys_ns.h - system calls of the launcher and its children: mounts, namespaces, processes.
 * Same convention as ck_sys.h: >= 0 or a negative errno. */
#ifndef CK_SYS_NS_H
#define CK_SYS_NS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

struct epoll_event;
struct sock_filter;

/* ---- mounts */
int ck_open_tree(int dirfd, const char *path, unsigned flags); /* CLONE and CLOEXEC are added */
int ck_move_mount(int fd, int dirfd, const char *path);        /* path "" = dirfd itself */
int ck_fsopen(const char *type);
int ck_fsconfig_string(int fs, const char *key, const char *value);
int ck_fsconfig_flag(int fs, const char *key);
int ck_fsconfig_option(int fs, const char *option); /* "key=value" or "flag" */
int ck_fsmount(int *fs, unsigned attrs);            /* creates, closes *fs, returns the mount */
int ck_mount_set(int fd, uint64_t set, unsigned at_flags);
int ck_mount_private_all(void);                     /* "/" and below */
int ck_mount_overlay(const char *target, unsigned long flags, const char *options);
int ck_umount(const char *path);                    /* detached */
int ck_pivot_here(void);                            /* cwd becomes the root, the old one is detached */

/* ---- processes and namespaces */
struct ck_clone {
    uint64_t flags;   /* CLONE_NEW* */
    int cgroup;       /* directory for CLONE_INTO_CGROUP, -1: none */
};
pid_t ck_clone(const struct ck_clone *args, int *pidfd); /* like fork; exit signal 0 */
int ck_pidfd_kill(int pidfd, int signal);
int ck_wait_pidfd(int pidfd, int *code, int *signal, struct rusage *usage); /* 0 or -EAGAIN … */
int ck_setns(int fd, int kind);
int ck_unshare(int flags);
_Noreturn void ck_exit(int code);
int ck_execve(const char *path, char *const argv[], char *const envp[]);
int ck_execveat(int program, char *const argv[], char *const envp[]);
int ck_reset_signals(void);
int ck_close_range(unsigned first, int cloexec_only);
int ck_dup_to(int fd, int number);
int ck_dup_above(int fd, int least);
int ck_set_cloexec(int fd);
int ck_is_sealed(int memfd);                        /* nobody can change it any more */
int ck_setsid(void);
int ck_take_tty(int fd);
int ck_socketpair(int out[2]);                      /* SEQPACKET */
ssize_t ck_send(int fd, const void *buf, size_t len, const int *fds, int n_fds);
ssize_t ck_receive(int fd, void *buf, size_t len, int *fds, int *n_fds, int wait);
void ck_wait_readable(int fd);
int ck_epoll(void);
int ck_epoll_set(int epoll, int op, int fd, uint32_t events, uint64_t data);
int ck_epoll_wait(int epoll, struct epoll_event *events, int n, int timeout_ms);
uint64_t ck_now(clockid_t clock);                   /* ns */
void *ck_map(size_t size);                          /* NULL on failure */
void *ck_map_file(int fd, size_t size);             /* private, read-only */
void ck_unmap(void *at, size_t size);

/* ---- identity and limits */
int ck_set_groups(size_t n, const uint32_t *groups);
int ck_set_ids(uint32_t uid, uint32_t gid);         /* permitted capabilities survive */
int ck_set_caps(uint64_t permitted, uint64_t inheritable);
int ck_drop_bounding(uint64_t keep);
int ck_clear_ambient(void);
int ck_no_new_privs(void);
int ck_not_dumpable(void);
int ck_seccomp(const struct sock_filter *filter, size_t n);
int ck_session_keyring(void);
int ck_set_rlimit(int resource, uint64_t soft, uint64_t hard);
int ck_raise_nofile(void);
int ck_sethostname(const char *name, size_t len);
mode_t ck_umask(mode_t mask);
int ck_loopback_up(void);

#endif
