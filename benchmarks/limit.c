/* limit.c - the physical limit of a container start: the system calls of containerkit's launcher
 * for one `run` of a program that ends at once, and nothing else: no client, no plan to check, no
 * catalog.  The benchmark compares containerkit with it.
 *
 * Same work in the same order: a spare child with its directory, lock and cgroups made beforehand,
 * which attached itself; the directory renamed, a limit and the state record written; a network
 * namespace from the pool; an overlay with an upper on tmpfs; two files for /etc; then the child
 * (limit_child.c).  While it works the upper is detached and the next spare cloned; its end is
 * waited for, and its directory taken back.  As in the launcher, directory and cgroups serve the
 * next spare but one, and the spare attaches itself after the end: that counts in TOTAL.
 *
 * Use: limit STORE CGROUP POOL, STORE holding layers/busybox (a root with /bin/true).  Each line
 * "COUNT GAP_US" on standard input makes COUNT starts with a pause before each and prints for each
 * "LATENCY TOTAL" in nanoseconds: until its directory has gone, and with the spare sent to its
 * cgroup; then
 * "." with the pool full again ("COUNT 0 drain": it is never filled, each start makes its own).
 */
#define _GNU_SOURCE
#include "limit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { POOL_MAX = 512, UMOUNT_DETACH = 2, REC_PRIVATE = 0x4000 | 0x40000 };

static const char *const controllers[] = {"pids", "memory", "cpu", "cpuacct", "freezer", "devices"};

static int cgroups[LENGTH(controllers)], n_cgroups, unified;
static int store, host_net, epoll, pool[POOL_MAX], pooled, pool_size;

struct spare {
    int pidfd, socket, lock, number;
};

/* The directory and cgroups of the container before the last, free for the next spare. */
static struct spare kept = {.number = 0};

/* ---- helpers shared with the child */

_Noreturn void die(const char *what)
{
    fprintf(stderr, "limit: %s: %s\n", what, strerror(errno));
    _exit(1);
}

long must(long result, const char *what)
{
    if (result < 0)
        die(what);
    return result;
}

int open_file(int dirfd, const char *path, int flags)
{
    return (int)must(openat(dirfd, path, flags | O_CLOEXEC, 0600), path);
}

void write_file(int dirfd, const char *path, const void *data, unsigned long size)
{
    int fd = open_file(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC);

    must(write(fd, data, size), path);
    close(fd);
}

int new_fs(const char *type, const char *const *options, unsigned attributes)
{
    int fs = (int)must(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC), type), fd;

    for (; options && options[0]; options += 2)
        must(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, options[0], options[1], 0), options[0]);
    must(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), type);
    fd = (int)must(syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes), type);
    close(fs);
    return fd;
}

int clone_tree(int dirfd, const char *path, unsigned flags)
{
    flags |= OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
    return (int)must(syscall(SYS_open_tree, dirfd, path, flags), path);
}

void set_attributes(int mount, uint64_t attributes, unsigned flags)
{
    struct mount_attr change = {.attr_set = attributes};

    flags |= AT_EMPTY_PATH;
    must(syscall(SYS_mount_setattr, mount, "", flags, &change, sizeof(change)), "mount_setattr");
}

void attach(int mount, int dirfd, const char *path)
{
    unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | (*path ? 0 : MOVE_MOUNT_T_EMPTY_PATH);

    must(syscall(SYS_move_mount, mount, "", dirfd, path, flags), path);
}

void pivot_here(void)
{
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(syscall(SYS_umount2, ".", UMOUNT_DETACH), "detach the old root");
}

/* ---- the launcher's mount namespace */

static void make_dev(void)
{
    static const struct {
        const char *name;
        unsigned major, minor;
    } nodes[] = {{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
                 {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
    static const char *const links[] = {"/proc/self/fd", "fd", "pts/ptmx", "ptmx"};
    static const char *const dirs[] = {"pts", "shm", "mqueue"};
    int dir = open_file(AT_FDCWD, DEV_TEMPLATE, O_RDONLY | O_DIRECTORY);

    for (int i = 0; i < LENGTH(nodes); i++)
        must(mknodat(dir, nodes[i].name, S_IFCHR | 0666, nodes[i].major << 8 | nodes[i].minor),
             nodes[i].name);
    for (int i = 0; i < LENGTH(links); i += 2)
        must(symlinkat(links[i], dir, links[i + 1]), links[i]);
    for (int i = 0; i < LENGTH(dirs); i++)
        must(mkdirat(dir, dirs[i], 0755), dirs[i]);
    close(dir);
}

static void make_mask(void)
{
    must(mkdir(MASK_DIR, 0555), MASK_DIR);
    write_file(AT_FDCWD, MASK_FILE, "", 0);
}

static void add_template(const char *path, void (*fill)(void), unsigned attributes)
{
    static const char *const options[] = {"size", "1m", "mode", "0755", NULL};
    int mount = new_fs("tmpfs", options, attributes);

    must(mkdir(path, 0755), path);
    attach(mount, AT_FDCWD, path);
    fill();
    set_attributes(mount, MOUNT_ATTR_RDONLY, 0);
    close(mount);
}

static void enter_home(const char *root)
{
    static const char *const dirs[] = {"store", "up", "new", "tmpl", "proc"};
    const unsigned inert = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
    int tree, home;

    umask(0);
    must(unshare(CLONE_NEWNS), "unshare");
    must(syscall(SYS_mount, NULL, "/", NULL, REC_PRIVATE, NULL), "make / private");
    tree = clone_tree(AT_FDCWD, root, 0);
    home = new_fs("tmpfs", NULL, inert | MOUNT_ATTR_NODEV);
    attach(home, AT_FDCWD, root);
    must(chdir(root), root);
    for (int i = 0; i < LENGTH(dirs); i++)
        must(mkdir(dirs[i], 0755), dirs[i]);
    attach(tree, AT_FDCWD, "store");
    pivot_here();
    add_template(DEV_TEMPLATE, make_dev, inert);
    add_template("/tmpl/mask", make_mask, inert | MOUNT_ATTR_NODEV);
    attach(new_fs("proc", NULL, inert | MOUNT_ATTR_NODEV), AT_FDCWD, "/proc");
    store = open_file(AT_FDCWD, "/store", O_RDONLY | O_DIRECTORY);
    host_net = open_file(AT_FDCWD, "/proc/self/ns/net", O_RDONLY);
    if (mkdirat(store, "containers", 0700) < 0 && errno != EEXIST)
        die("containers");
    epoll = (int)must(epoll_create1(EPOLL_CLOEXEC), "epoll");
}

/* ---- what is made ahead */

static int make_netns(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd, found;

    must(unshare(CLONE_NEWNET), "network namespace");
    fd = (int)must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
    must(ioctl(fd, SIOCSIFFLAGS, &request), "lo up");
    close(fd);
    found = open_file(AT_FDCWD, "/proc/self/ns/net", O_RDONLY);
    must(setns(host_net, CLONE_NEWNET), "setns");
    return found;
}

static void fill_pool(void)
{
    while (pooled < pool_size)
        pool[pooled++] = make_netns();
}

static int make_dir(int number)
{
    char name[64];
    int dir, lock;

    snprintf(name, sizeof(name), "containers/.limit-%d", number);
    must(mkdirat(store, name, 0700), name);
    dir = open_file(store, name, O_RDONLY | O_DIRECTORY);
    lock = open_file(dir, "lock", O_CREAT | O_EXCL | O_RDWR);
    must(flock(lock, LOCK_EX | LOCK_NB), "lock");
    close(dir);
    return lock;
}

static _Noreturn void park(int number, int socket)
{
    char name[32];

    if (recv(socket, name, 1, 0) != 1) /* the launcher has gone, or it is time to attach */
        _exit(0);
    snprintf(name, sizeof(name), "%d/cgroup.procs", number);
    for (int i = 0; i < n_cgroups && !unified; i++) {
        int fd = open_file(cgroups[i], name, O_WRONLY);
        must(write(fd, "0", 1), name);
        close(fd);
    }
    must(unshare(CLONE_NEWCGROUP), "cgroup namespace");
    serve_as_spare(socket);
}

/* Put back what a container may have changed in its cgroups and its record. */
static void clear_place(const struct spare *place)
{
    static const char *const values[][3] = {{"pids", "pids.max", "max"},
                                            {"cpuacct", "cpuacct.usage", "0"},
                                            {"memory", "memory.max_usage_in_bytes", "0"},
                                            {"memory", "memory.failcnt", "0"}};
    static char none[128];
    char path[64];

    must(pwrite(place->lock, none, sizeof(none), 0), "record");
    for (size_t i = 0; i < LENGTH(values); i++)
        for (int j = 0; j < n_cgroups && !unified; j++)
            if (!strcmp(controllers[j], values[i][0])) {
                snprintf(path, sizeof(path), "%d/%s", place->number, values[i][1]);
                write_file(cgroups[j], path, values[i][2], strlen(values[i][2]));
            }
}

static void find_place(struct spare *spare)
{
    static int number;
    char name[32];

    if (kept.number) {
        spare->number = kept.number;
        spare->lock = kept.lock;
        kept.number = 0;
        clear_place(spare);
        return;
    }
    spare->number = ++number;
    snprintf(name, sizeof(name), "%d", number);
    for (int i = 0; i < n_cgroups; i++)
        must(mkdirat(cgroups[i], name, 0755), name);
    spare->lock = make_dir(number);
}

static struct spare make_spare(void)
{
    struct spare spare = {0};
    struct clone_args how = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC |
                                      CLONE_PIDFD,
                             .pidfd = (uint64_t)(uintptr_t)&spare.pidfd};
    int pair[2];
    char name[32];

    find_place(&spare);
    snprintf(name, sizeof(name), "%d", spare.number);
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
    if (unified) {
        how.flags |= CLONE_INTO_CGROUP;
        how.cgroup = (__u64)open_file(cgroups[0], name, O_PATH | O_DIRECTORY);
    }
    if (must(syscall(SYS_clone3, &how, sizeof(how)), "clone3") == 0) {
        close(pair[0]);
        park(spare.number, pair[1]);
    }
    if (unified)
        close((int)how.cgroup);
    close(pair[1]);
    spare.socket = pair[0];
    return spare;
}

static void let_join(const struct spare *spare)
{
    must(send(spare->socket, "", 1, MSG_NOSIGNAL), "join");
}

static void drop_cgroup(int number)
{
    char name[32];

    snprintf(name, sizeof(name), "%d", number);
    for (int i = 0; i < n_cgroups; i++)
        while (unlinkat(cgroups[i], name, AT_REMOVEDIR) < 0)
            if (errno != EBUSY)
                die("rmdir of a cgroup");
}

/* ---- one start, from the container's directory to its removal */

static int make_overlay(const char *id)
{
    static const char *const sizes[] = {"size", "268435456", "nr_inodes", "131072", NULL};
    char upper[128], work[128];
    const char *const layers[] = {"lowerdir+", "/store/layers/busybox", "upperdir", upper,
                                  "workdir", work, NULL};
    int tmpfs = new_fs("tmpfs", sizes, MOUNT_ATTR_NODEV);
    struct stat st;

    attach(tmpfs, AT_FDCWD, "/up");
    close(tmpfs);
    must(stat("/store/layers/busybox", &st), "layer");
    snprintf(upper, sizeof(upper), "/up/upper/%s", id);
    snprintf(work, sizeof(work), "/up/work/%s", id);
    must(mkdir("/up/upper", 0700), "/up/upper");
    must(mkdir(upper, st.st_mode & 07777), upper);
    must(mkdir("/up/work", 0700), "/up/work");
    must(mkdir(work, 0700), work);
    return new_fs("overlay", layers, MOUNT_ATTR_NODEV);
}

static int make_etc_file(int number)
{
    static const char text[] = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n";
    char path[64];
    int fd, tree;

    if (mkdir("/up/files", 0700) < 0 && errno != EEXIST)
        die("/up/files");
    snprintf(path, sizeof(path), "/up/files/%d", number);
    fd = open_file(AT_FDCWD, path, O_CREAT | O_TRUNC | O_WRONLY | O_NOFOLLOW);
    must(write(fd, text, sizeof(text) - 1), path);
    must(fchmod(fd, 0644), path);
    close(fd);
    tree = clone_tree(AT_FDCWD, path, 0);
    set_attributes(tree, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, 0);
    return tree;
}

static void hand_over(int socket, const int fds[N_FDS])
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(N_FDS * sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(N_FDS * sizeof(int)), .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    static char plan[PLAN_SIZE];
    struct iovec part = {plan, sizeof(plan)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof(control)};

    memcpy(CMSG_DATA(&control.header), fds, N_FDS * sizeof(int));
    must(sendmsg(socket, &message, MSG_NOSIGNAL), "hand over");
    for (int i = 0; i < N_FDS; i++)
        close(fds[i]);
}

static void watch(int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll");
}

static void unwatch(int fd)
{
    must(epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL), "epoll");
}

/* As the launcher's loop: the child's report, its end of file at exec, then the child's end. */
static void await_end(struct spare *spare)
{
    struct epoll_event event;
    siginfo_t info = {0};
    char report[16];

    watch(spare->pidfd);
    watch(spare->socket);
    for (;;) {
        must(epoll_wait(epoll, &event, 1, -1), "epoll");
        if (event.data.fd == spare->pidfd)
            break;
        if (recv(spare->socket, report, sizeof(report), MSG_DONTWAIT) <= 0) {
            unwatch(spare->socket); /* the next spare may have a copy, so closing is not enough */
            close(spare->socket);
            spare->socket = -1;
        }
    }
    unwatch(spare->pidfd);
    must(waitid(P_PIDFD, (id_t)spare->pidfd, &info, WEXITED | __WALL), "waitid");
    if (info.si_code != CLD_EXITED || info.si_status != 0)
        die("/bin/true did not exit with 0");
    close(spare->pidfd);
    if (spare->socket >= 0) {
        unwatch(spare->socket);
        close(spare->socket);
    }
}

static void start(struct spare *spare)
{
    static unsigned long count;
    static char state[128];
    char id[65], from[64], dir[96], path[128];
    struct spare next;
    int fds[N_FDS];

    snprintf(id, sizeof(id), "%064lx", ++count);
    snprintf(from, sizeof(from), "containers/.limit-%d", spare->number);
    snprintf(dir, sizeof(dir), "containers/%s", id);
    must(renameat(store, from, store, dir), dir);
    snprintf(path, sizeof(path), "%d/pids.max", spare->number);
    write_file(cgroups[0], path, "2048", 4);
    fds[0] = pooled ? pool[--pooled] : make_netns();
    fds[1] = make_overlay(id);
    for (int i = 0; i < N_FILES; i++)
        fds[2 + i] = make_etc_file(i);
    must(pwrite(spare->lock, state, sizeof(state), 0), "record");
    hand_over(spare->socket, fds);
    must(syscall(SYS_umount2, "/up", UMOUNT_DETACH), "/up");
    next = make_spare();
    await_end(spare);
    must(renameat(store, dir, store, from), from);
    kept = *spare;
    *spare = next;
}

/* ---- the benchmark's protocol */

static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void drop_place(const struct spare *place)
{
    char name[80];

    drop_cgroup(place->number);
    snprintf(name, sizeof(name), "containers/.limit-%d/lock", place->number);
    must(unlinkat(store, name, 0), name);
    *strrchr(name, '/') = 0;
    must(unlinkat(store, name, AT_REMOVEDIR), name);
}

static void end_spare(struct spare *spare)
{
    close(spare->socket);
    must(waitid(P_PIDFD, (id_t)spare->pidfd, &(siginfo_t){0}, WEXITED | __WALL), "waitid");
    drop_place(spare);
    if (kept.number)
        drop_place(&kept);
}

static void serve(void)
{
    struct spare spare = make_spare();
    char line[128];

    let_join(&spare);
    fill_pool();
    while (fgets(line, sizeof(line), stdin)) {
        char *rest;
        long count = strtol(line, &rest, 10), gap_us = strtol(rest, &rest, 10);

        for (long i = 0; i < count; i++) {
            int64_t begin, end;

            if (gap_us)
                usleep((useconds_t)gap_us);
            begin = now();
            start(&spare);
            end = now();
            let_join(&spare);
            printf("%lld %lld\n", (long long)(end - begin), (long long)(now() - begin));
        }
        fill_pool();
        puts(".");
        fflush(stdout);
    }
    end_spare(&spare);
}

static void open_cgroups(const char *group)
{
    char path[256];

    unified = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
    n_cgroups = unified ? 1 : LENGTH(controllers);
    for (int i = 0; i < n_cgroups; i++) {
        snprintf(path, sizeof(path), "/sys/fs/cgroup/%s/%s", unified ? "" : controllers[i], group);
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            die(path);
        cgroups[i] = open_file(AT_FDCWD, path, O_PATH | O_DIRECTORY);
    }
    if (unified)
        write_file(cgroups[0], "cgroup.subtree_control", "+pids +memory +cpu", 18);
}

int main(int argc, char **argv)
{
    int status;
    pid_t pid;

    if (argc != 4 || (pool_size = atoi(argv[3])) < 1 || pool_size > POOL_MAX) {
        fprintf(stderr, "use: limit STORE CGROUP POOL\n");
        return 2;
    }
    open_cgroups(argv[2]);
    must(unshare(CLONE_NEWPID), "pid namespace");
    pid = (pid_t)must(fork(), "fork");
    if (pid == 0) {
        enter_home(argv[1]);
        serve();
        return 0;
    }
    must(waitpid(pid, &status, 0), "wait");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
