/* limit_child.c - limit.c's child: the child section of a default plan, from the network namespace
 * to exec, each path resolved beneath the new root as the launcher's ops do. */
#define _GNU_SOURCE
#include "limit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SETID_EXEC (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)
#define INERT (SETID_EXEC | MOUNT_ATTR_NODEV)
#define DOCKER_CAPS 0xa00425fbULL /* Docker's default capabilities, less MKNOD */

static const char *const masked[] = {
    "/proc/acpi",       "/proc/asound",       "/proc/interrupts",              "/proc/kcore",
    "/proc/keys",       "/proc/latency_stats", "/proc/sched_debug",             "/proc/scsi",
    "/proc/timer_list", "/proc/timer_stats",  "/sys/devices/virtual/powercap", "/sys/firmware"};
static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                        "/proc/sysrq-trigger"};
static const char *const files[N_FILES] = {"/etc/hosts", "/etc/hostname"};

static int root;

/* A path of the plan, opened beneath the new root; -1 when it is not there. */
static int open_beneath(const char *path)
{
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS |
                                      RESOLVE_NO_SYMLINKS};
    long fd = syscall(SYS_openat2, root, path, &how, sizeof(how));

    if (fd < 0 && errno != ENOENT)
        die(path);
    return (int)fd;
}

static void mount_on(int mount, const char *path)
{
    int target = open_beneath(path);

    if (target < 0)
        die(path);
    attach(mount, target, "");
    close(target);
    close(mount);
}

static void mount_file(int mount, const char *path)
{
    int parent = open_beneath("/etc"), target = open_beneath(path);
    const char *name = strrchr(path, '/') + 1;

    if (target < 0) {
        close((int)must(openat(parent, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644), path));
        target = open_file(parent, name, O_PATH | O_NOFOLLOW);
    }
    attach(mount, target, "");
    close(target);
    close(parent);
}

static void mask(const char *path)
{
    int target = open_beneath(path), cover;
    struct stat st;

    if (target < 0)
        return;
    must(fstat(target, &st), path);
    cover = clone_tree(AT_FDCWD, S_ISDIR(st.st_mode) ? MASK_DIR : MASK_FILE, 0);
    attach(cover, target, "");
    close(cover);
    close(target);
}

static void make_read_only(const char *path)
{
    int target = open_beneath(path), tree;

    if (target < 0)
        return;
    tree = clone_tree(target, "", AT_RECURSIVE);
    set_attributes(tree, MOUNT_ATTR_RDONLY, AT_RECURSIVE);
    attach(tree, target, "");
    close(tree);
    close(target);
}

static void build_root(const int *fds)
{
    static const char *const pts[] = {"ptmxmode", "0666", "mode", "0620", "gid", "5", NULL};
    static const char *const shm[] = {"mode", "1777", "size", "67108864", NULL};

    attach(fds[1], AT_FDCWD, NEW_ROOT);
    root = open_file(AT_FDCWD, NEW_ROOT, O_PATH | O_DIRECTORY);
    mount_on(new_fs("proc", NULL, INERT), "/proc");
    mount_on(clone_tree(AT_FDCWD, DEV_TEMPLATE, AT_RECURSIVE), "/dev");
    mount_on(new_fs("devpts", pts, SETID_EXEC), "/dev/pts");
    mount_on(new_fs("tmpfs", shm, INERT), "/dev/shm");
    mount_on(new_fs("mqueue", NULL, INERT), "/dev/mqueue");
    mount_on(new_fs("sysfs", NULL, INERT | MOUNT_ATTR_RDONLY), "/sys");
    for (int i = 0; i < N_FILES; i++)
        mount_file(fds[2 + i], files[i]);
    for (int i = 0; i < LENGTH(masked); i++)
        mask(masked[i]);
    for (int i = 0; i < LENGTH(read_only); i++)
        make_read_only(read_only[i]);
    must(fchdir(root), "the new root");
    close(root);
    pivot_here();
}

static void set_stdio(void)
{
    struct stat st;

    for (int i = 0; i < 3; i++) {
        int fd = open_file(AT_FDCWD, "/dev/null", O_RDWR | O_NOFOLLOW | O_NOCTTY);

        must(fstat(fd, &st), "/dev/null");
        must(dup2(fd, i), "dup2");
        close(fd);
    }
}

static void drop_rights(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = (uint32_t)DOCKER_CAPS,
                                              .permitted = (uint32_t)DOCKER_CAPS}};

    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    must(syscall(SYS_setgroups, 0, NULL), "setgroups");
    must(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities");
    must(syscall(SYS_setresgid, 0, 0, 0), "setresgid");
    must(syscall(SYS_setresuid, 0, 0, 0), "setresuid");
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
        if (!(DOCKER_CAPS >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 &&
            errno != EINVAL)
            die("bounding set");
    must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "ambient");
    must(syscall(SYS_capset, &header, data), "capset");
}

static void receive_plan(int socket, int fds[N_FDS])
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(N_FDS * sizeof(int))];
    } control;
    char plan[PLAN_SIZE];
    struct iovec part = {plan, sizeof(plan)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof(control)};

    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) <= 0)
        _exit(0);
    memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), N_FDS * sizeof(int));
}

_Noreturn void serve_as_spare(int socket)
{
    static char *const argv[] = {"/bin/true", NULL};
    static char *const envp[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", NULL};
    struct rlimit limit;
    int fds[N_FDS];

    must(dup2(socket, 3), "dup2");
    must(syscall(SYS_close_range, 4, ~0U, 0), "close_range");
    must(fcntl(3, F_SETFD, FD_CLOEXEC), "cloexec");
    receive_plan(3, fds);
    must(setns(fds[0], CLONE_NEWNET), "setns");
    build_root(fds);
    must(sethostname("0123456789ab", 12), "sethostname");
    for (int i = 0; i < RLIM_NLIMITS; i++) {
        must(getrlimit(i, &limit), "getrlimit");
        must(setrlimit(i, &limit), "setrlimit");
    }
    must(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL), "keyring");
    set_stdio();
    must(setsid(), "setsid");
    umask(022);
    drop_rights();
    must(chdir("/"), "/");
    must(send(3, "exec", 4, MSG_NOSIGNAL), "report");
    must(syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC), "close_range");
    execve(argv[0], argv, envp);
    die("exec /bin/true");
}
