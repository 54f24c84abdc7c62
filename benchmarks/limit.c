/* limit.c - the physical limit of a container start: the system calls of containerkit's launcher
 * for one `run` of a program that ends at once, and nothing else: no client, no plan, no catalog.
 *
 * The benchmark compares containerkit with it.  Same work in the same order: a state directory
 * with its lock and records in the store, cgroups of the same controllers, a spare child that
 * attached itself beforehand, network namespaces from a pool, a tmpfs upper below an overlay,
 * a read-only /dev, proc, sysfs, devpts, shm, mqueue, masked and read-only paths, pivot_root,
 * hostname, limits, keyring, capabilities, no_new_privs, exec; then wait, read the counters, remove.
 *
 * Use: limit STORE CGROUP POOL, STORE holding layer/ (a root file system with /bin/true).  Each line
 * "COUNT GAP_US" on standard input makes COUNT starts with a pause before each and prints for each
 * "LATENCY TOTAL" in nanoseconds: to the end of the removal, and with the spare replaced; then "."
 * with the pool full again ("COUNT 0 drain": with the pool refilled inside the measured time).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof((array)[0])))
#define DEV_FLAGS (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)
#define SAFE_FLAGS (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
#define MNT_DETACH 2
#define MS_REC_PRIVATE (0x4000 | 0x40000)
#define DOCKER_CAPS 0xa00425fbULL /* Docker's default capabilities without MKNOD */

enum { POOL_MAX = 256, CONTROLLERS_MAX = 6 };

static const char *const controllers[] = {"pids", "memory", "cpu", "cpuacct", "freezer", "devices"};
static const char *const masked[] = {
    "/proc/acpi",       "/proc/asound",       "/proc/interrupts",  "/proc/kcore",
    "/proc/keys",       "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
    "/proc/timer_list", "/proc/timer_stats",  "/sys/firmware",     "/sys/devices/virtual/powercap",
};
static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                        "/proc/sysrq-trigger"};
static const char *const devices[] = {"a", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm",
                                      "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"};

static int cgroups[CONTROLLERS_MAX], n_cgroups, unified;
static int containers, pool[POOL_MAX], pooled, pool_size;
static int null_fd;

struct spare {
    int pidfd, socket, number;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "limit: %s: %s\n", what, strerror(errno));
    _exit(1);
}

static long must(long result, const char *what)
{
    if (result < 0)
        die(what);
    return result;
}

static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int open_file(int dirfd, const char *path, int flags)
{
    return (int)must(openat(dirfd, path, flags | O_CLOEXEC, 0600), path);
}

static void write_file(int dirfd, const char *path, const char *text)
{
    int fd = open_file(dirfd, path, O_WRONLY);

    must(write(fd, text, strlen(text)), path);
    close(fd);
}

/* ---- mounts */

static int new_fs(const char *type, const char *const *options, unsigned attributes)
{
    int fs = (int)must(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC), type), fd;

    for (; options && options[0]; options += 2)
        must(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, options[0], options[1], 0), options[0]);
    must(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), type);
    fd = (int)must(syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes), type);
    close(fs);
    return fd;
}

static void attach(int fd, const char *target)
{
    must(syscall(SYS_move_mount, fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH), target);
}

static void mount_fs(const char *type, const char *const *options, unsigned attributes,
                     const char *target)
{
    int fd = new_fs(type, options, attributes);

    attach(fd, target);
    close(fd);
}

static int clone_tree(const char *path, unsigned flags)
{
    return (int)syscall(SYS_open_tree, AT_FDCWD, path,
                        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
}

static void set_read_only(int fd, const char *path)
{
    struct mount_attr change = {.attr_set = MOUNT_ATTR_RDONLY | SAFE_FLAGS};

    must(syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &change, sizeof(change)), path);
}

static void cover(const char *path, const char *with)
{
    int fd = clone_tree(with, 0);

    must(fd, with);
    attach(fd, path);
    close(fd);
}

static void pivot(const char *root)
{
    must(chdir(root), root);
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(syscall(SYS_umount2, ".", MNT_DETACH), "detach the old root");
    must(chdir("/"), "/");
}

/* ---- the launcher's own mount namespace: a tmpfs with the store, templates and a mount point */

static void make_dev(void)
{
    static const struct {
        const char *name;
        unsigned minor;
    } nodes[] = {{"null", 3}, {"zero", 5}, {"full", 7}, {"random", 8}, {"urandom", 9}};
    static const char *const links[] = {"/proc/self/fd", "fd", "/proc/self/fd/0", "stdin",
                                        "/proc/self/fd/1", "stdout", "/proc/self/fd/2", "stderr",
                                        "pts/ptmx", "ptmx"};
    char path[64];
    struct mount_attr change = {.attr_set = MOUNT_ATTR_RDONLY};

    mount_fs("tmpfs", (const char *const[]){"mode", "755", NULL}, DEV_FLAGS, "t/dev");
    for (int i = 0; i < LENGTH(nodes); i++) {
        snprintf(path, sizeof(path), "t/dev/%s", nodes[i].name);
        must(mknod(path, S_IFCHR | 0666, 1 << 8 | nodes[i].minor), path);
        must(chmod(path, 0666), path);
    }
    must(mknod("t/dev/tty", S_IFCHR | 0666, 5 << 8), "t/dev/tty");
    for (int i = 0; i < LENGTH(links); i += 2) {
        snprintf(path, sizeof(path), "t/dev/%s", links[i + 1]);
        must(symlink(links[i], path), path);
    }
    must(mkdir("t/dev/pts", 0755) | mkdir("t/dev/shm", 0755) | mkdir("t/dev/mqueue", 0755), "t/dev");
    must(syscall(SYS_mount_setattr, AT_FDCWD, "t/dev", 0, &change, sizeof(change)), "t/dev");
}

static void make_home(const char *store)
{
    int store_tree, fd;

    must(unshare(CLONE_NEWNS), "unshare");
    must(syscall(SYS_mount, NULL, "/", NULL, MS_REC_PRIVATE, NULL), "make / private");
    store_tree = (int)must(clone_tree(store, 0), store);
    mount_fs("tmpfs", (const char *const[]){"mode", "700", NULL}, 0, "/tmp");
    must(chdir("/tmp"), "/tmp");
    must(mkdir("store", 0700) | mkdir("t", 0755) | mkdir("root", 0755) | mkdir("u", 0700), "mkdir");
    must(mkdir("t/dev", 0755) | mkdir("t/empty", 0755), "mkdir");
    attach(store_tree, "store");
    make_dev();
    mount_fs("tmpfs", (const char *const[]){"mode", "755", NULL}, SAFE_FLAGS, "t/empty");
    close(open_file(AT_FDCWD, "t/empty/file", O_CREAT | O_WRONLY));
    must(mkdir("t/empty/dir", 0755), "t/empty/dir");
    fd = open_file(AT_FDCWD, "t/empty", O_PATH);
    set_read_only(fd, "t/empty");
    close(fd);
    pivot("/tmp");
    null_fd = open_file(AT_FDCWD, "/t/dev/null", O_RDWR);
    (void)mkdir("/store/containers", 0700);
    containers = open_file(AT_FDCWD, "/store/containers", O_PATH | O_DIRECTORY);
    close(store_tree);
}

/* ---- the child: parked until its start, then from the spare's namespaces to exec */

static void loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = (int)must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");

    must(ioctl(fd, SIOCSIFFLAGS, &request), "lo up");
    close(fd);
}

static void mount_all(int root_fd)
{
    static const char *const pts[] = {"mode", "620", "ptmxmode", "666", "gid", "5", NULL};
    static const char *const shm[] = {"mode", "1777", "size", "64m", NULL};

    attach(root_fd, "/root");
    must(chdir("/root"), "/root");
    mount_fs("proc", NULL, SAFE_FLAGS, "proc");
    cover("dev", "/t/dev");
    mount_fs("devpts", pts, DEV_FLAGS, "dev/pts");
    mount_fs("tmpfs", shm, SAFE_FLAGS, "dev/shm");
    mount_fs("mqueue", NULL, SAFE_FLAGS, "dev/mqueue");
    mount_fs("sysfs", NULL, SAFE_FLAGS | MOUNT_ATTR_RDONLY, "sys");
    for (int i = 0; i < LENGTH(masked); i++) {
        struct stat found;

        if (stat(masked[i] + 1, &found) == 0)
            cover(masked[i] + 1, S_ISDIR(found.st_mode) ? "/t/empty/dir" : "/t/empty/file");
    }
    for (int i = 0; i < LENGTH(read_only); i++) {
        int fd = clone_tree(read_only[i] + 1, 0);

        if (fd < 0)
            continue;
        set_read_only(fd, read_only[i]);
        attach(fd, read_only[i] + 1);
        close(fd);
    }
    pivot(".");
}

static void drop_rights(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};

    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (!(DOCKER_CAPS >> cap & 1))
            must(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0), "bounding set");
    must(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities");
    must(syscall(SYS_setgroups, 0, NULL), "setgroups");
    must(syscall(SYS_setresgid, 0, 0, 0), "setresgid");
    must(syscall(SYS_setresuid, 0, 0, 0), "setresuid");
    data[0].permitted = data[0].effective = (uint32_t)DOCKER_CAPS;
    must(syscall(SYS_capset, &header, data), "capset");
    must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "ambient");
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
}

static _Noreturn void child(int socket, int number)
{
    static char *const argv[] = {"/bin/true", NULL};
    static char *const envp[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    struct rlimit files = {1024, 20000};
    char name[32];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control;
    char byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    int fds[2];

    snprintf(name, sizeof(name), "spare-%d/cgroup.procs", number);
    for (int i = 0; i < n_cgroups && !unified; i++)
        write_file(cgroups[i], name, "0");
    must(unshare(CLONE_NEWCGROUP), "cgroup namespace");
    must(write(socket, "p", 1), "parked");
    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1)
        _exit(0);
    memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fds));
    must(setns(fds[0], CLONE_NEWNET), "setns");
    mount_all(fds[1]);
    must(sethostname("0123456789ab", 12), "sethostname");
    must(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
    must(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL), "keyring");
    for (int fd = 0; fd < 3; fd++)
        must(dup2(null_fd, fd), "dup2");
    must(setsid(), "setsid");
    umask(022);
    drop_rights();
    must(syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC), "close_range");
    execve(argv[0], argv, envp);
    die("exec /bin/true");
}

static struct spare make_spare(void)
{
    static int number;
    struct spare spare = {.number = ++number};
    struct clone_args how = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC |
                                      CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&spare.pidfd};
    int pair[2];
    char name[32], byte;

    snprintf(name, sizeof(name), "spare-%d", number);
    for (int i = 0; i < n_cgroups; i++)
        must(mkdirat(cgroups[i], name, 0755), name);
    if (unified) {
        how.flags |= CLONE_INTO_CGROUP;
        how.cgroup = (__u64)open_file(cgroups[0], name, O_PATH | O_DIRECTORY);
    }
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
    if (must(syscall(SYS_clone3, &how, sizeof(how)), "clone3") == 0) {
        close(pair[0]);
        child(pair[1], number);
    }
    if (unified)
        close((int)how.cgroup);
    close(pair[1]);
    spare.socket = pair[0];
    if (read(spare.socket, &byte, 1) != 1)
        die("the spare did not park");
    return spare;
}

static void fill_pool(void)
{
    while (pooled < pool_size) {
        must(unshare(CLONE_NEWNET), "network namespace");
        loopback_up();
        pool[pooled++] = open_file(AT_FDCWD, "/proc/thread-self/ns/net", O_RDONLY);
    }
}

/* ---- one start, from the state directory to its removal */

static void write_state(int dir, const char *text)
{
    int fd = open_file(dir, "state.new", O_CREAT | O_WRONLY | O_TRUNC);
    char record[256] = {0};

    snprintf(record, sizeof(record), "%s", text);
    must(write(fd, record, sizeof(record)), "state");
    close(fd);
    must(renameat(dir, "state.new", dir, "state"), "state");
}

static int make_overlay(void)
{
    static const char *const sizes[] = {"size", "256m", "nr_inodes", "65536", "mode", "755", NULL};
    static const char *const layers[] = {"lowerdir", "/store/layer", "upperdir", "/u/upper",
                                         "workdir", "/u/work", NULL};
    int upper = new_fs("tmpfs", sizes, MOUNT_ATTR_NODEV), overlay;

    attach(upper, "/u");
    must(mkdirat(upper, "upper", 0755) | mkdirat(upper, "work", 0700), "upper");
    overlay = new_fs("overlay", layers, MOUNT_ATTR_NODEV);
    close(upper);
    must(syscall(SYS_umount2, "/u", MNT_DETACH), "/u");
    return overlay;
}

static void adopt_cgroup(const struct spare *spare, const char *id)
{
    char from[32], path[96];

    snprintf(from, sizeof(from), "spare-%d", spare->number);
    for (int i = 0; i < n_cgroups && !unified; i++)
        must(renameat(cgroups[i], from, cgroups[i], id), "rename the cgroup");
    snprintf(path, sizeof(path), "%s/pids.max", unified ? from : id);
    write_file(cgroups[0], path, "4096");
    for (int i = 0; i < LENGTH(devices) && !unified; i++) {
        snprintf(path, sizeof(path), "%s/devices.%s", id, i ? "allow" : "deny");
        write_file(cgroups[n_cgroups - 1], path, devices[i]);
    }
}

static void hand_over(const struct spare *spare, int netns, int overlay)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(2 * sizeof(int)), .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    struct iovec part = {"s", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    char byte;

    memcpy(CMSG_DATA(&control.header), (int[]){netns, overlay}, 2 * sizeof(int));
    must(sendmsg(spare->socket, &message, MSG_NOSIGNAL), "hand over");
    close(netns);
    close(overlay);
    if (read(spare->socket, &byte, 1) != 0) /* end of file: it executes */
        die("the child failed");
}

static void finish(const struct spare *spare, const char *id, int dir, int lock)
{
    struct pollfd wait = {.fd = spare->pidfd, .events = POLLIN};
    siginfo_t info = {0};
    char path[96], counters[512];
    int fd;

    must(poll(&wait, 1, -1), "poll");
    must(waitid(P_PIDFD, (id_t)spare->pidfd, &info, WEXITED | __WALL), "waitid");
    if (info.si_code != CLD_EXITED || info.si_status != 0)
        die("/bin/true did not exit with 0");
    snprintf(path, sizeof(path), "%s/%s", id, unified ? "memory.events" : "memory.oom_control");
    if (unified)
        snprintf(path, sizeof(path), "spare-%d/memory.events", spare->number);
    fd = open_file(cgroups[unified ? 0 : 1], path, O_RDONLY);
    must(read(fd, counters, sizeof(counters)), path);
    close(fd);
    if (unified)
        snprintf(path, sizeof(path), "spare-%d", spare->number);
    for (int i = 0; i < n_cgroups; i++)
        must(unlinkat(cgroups[i], unified ? path : id, AT_REMOVEDIR), "rmdir of the cgroup");
    write_state(dir, "exited 0");
    must(unlinkat(dir, "state", 0) | unlinkat(dir, "lock", 0), "remove the state");
    must(unlinkat(containers, id, AT_REMOVEDIR), id);
    close(dir);
    close(lock);
    close(spare->socket);
    close(spare->pidfd);
}

static void start(const struct spare *spare)
{
    static unsigned long count;
    char id[65];
    struct stat opened, named;
    int dir, lock;

    snprintf(id, sizeof(id), "%064lx", ++count);
    must(mkdirat(containers, id, 0700), id);
    dir = open_file(containers, id, O_PATH | O_DIRECTORY);
    lock = open_file(dir, "lock", O_CREAT | O_RDWR);
    must(flock(lock, LOCK_EX | LOCK_NB), "lock");
    must(fstat(lock, &opened) | fstatat(dir, "lock", &named, 0), "lock");
    adopt_cgroup(spare, id);
    if (pooled == 0) {
        int wanted = pool_size;

        pool_size = 1;
        fill_pool();
        pool_size = wanted;
    }
    write_state(dir, "running");
    hand_over(spare, pool[--pooled], make_overlay());
    finish(spare, id, dir, lock);
}

static void serve(void)
{
    struct spare spare = make_spare();
    char line[128];

    fill_pool();
    while (fgets(line, sizeof(line), stdin)) {
        char *rest;
        long count = strtol(line, &rest, 10), gap_us = strtol(rest, &rest, 10);
        int drain = strstr(rest, "drain") != NULL;

        for (long i = 0; i < count; i++) {
            int64_t begin, end;

            if (gap_us)
                usleep((useconds_t)gap_us);
            begin = now();
            start(&spare);
            end = now();
            spare = make_spare();
            printf("%lld %lld\n", (long long)(end - begin), (long long)(now() - begin));
            if (gap_us && !drain)
                fill_pool();
        }
        fill_pool();
        puts(".");
        fflush(stdout);
    }
    shutdown(spare.socket, SHUT_RDWR);
    for (int i = 0; i < n_cgroups; i++) {
        char name[32];

        snprintf(name, sizeof(name), "spare-%d", spare.number);
        while (unlinkat(cgroups[i], name, AT_REMOVEDIR) < 0 && errno == EBUSY)
            usleep(1000);
    }
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
        make_home(argv[1]);
        mkdir("/proc", 0555);
        mount_fs("proc", NULL, SAFE_FLAGS, "/proc");
        serve();
        return 0;
    }
    must(waitpid(pid, &status, 0), "wait");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
