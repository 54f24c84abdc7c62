/* ck_launcher_setup.c - the launcher's own mount namespace.
 *
 *   /            a small tmpfs
 *   /proc        of the launcher's pid namespace
 *   /store       the engine's root directory
 *   /tmpl/dev    read-only: the device nodes and links every container's /dev is a clone of
 *   /tmpl/mask   read-only: an empty directory and an empty file to cover paths with
 *   /src /up /mnt /new   where sources, uppers, old-style overlays and new roots are attached
 *
 * It stays this small on purpose: a clone with CLONE_NEWNS pays for every mount.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "ck_child.h"
#include "ck_launcher.h"
#include "ck_sys.h"
#include "ck_sys_ns.h"

enum { NO_SETID_EXEC = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC };

static int new_tmpfs(const char *size, const char *mode, unsigned attrs)
{
    CK_CLEANUP_FD int fs = ck_fsopen("tmpfs");
    int error = fs;

    if (error >= 0)
        error = ck_fsconfig_string(fs, "size", size);
    if (error >= 0)
        error = ck_fsconfig_string(fs, "mode", mode);
    return error < 0 ? error : ck_fsmount(&fs, attrs);
}

static int make_node(int dir, const char *name, unsigned major, unsigned minor)
{
    char host[32];
    CK_CLEANUP_FD int tree = -1, file = -1;
    int error = ck_mknodat(dir, name, S_IFCHR | 0666, makedev(major, minor));

    if (error != -EPERM)
        return error;
    /* no CAP_MKNOD over this file system: the host's own node, bound */
    snprintf(host, sizeof host, "/dev/%s", name);
    tree = ck_open_tree(AT_FDCWD, host, 0);
    file = ck_openat(dir, name, O_CREAT | O_EXCL | O_WRONLY, 0666);
    if (tree < 0 || file < 0)
        return tree < 0 ? tree : file;
    return ck_move_mount(tree, dir, name);
}

static int fill_dev(int dir)
{
    static const struct {
        const char *name;
        unsigned major, minor;
    } nodes[] = {{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
                 {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
    static const char *const links[][2] = {
        {"/proc/self/fd", "fd"},       {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
        {"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"},         {"/proc/kcore", "core"}};
    static const char *const dirs[] = {"pts", "shm", "mqueue"};
    int error = 0;

    for (size_t i = 0; !error && i < sizeof nodes / sizeof *nodes; i++)
        error = make_node(dir, nodes[i].name, nodes[i].major, nodes[i].minor);
    for (size_t i = 0; !error && i < sizeof links / sizeof *links; i++)
        error = ck_symlinkat(links[i][0], dir, links[i][1]);
    for (size_t i = 0; !error && i < sizeof dirs / sizeof *dirs; i++)
        error = ck_mkdirat(dir, dirs[i], 0755);
    if (!error) { /* a place for a terminal to be bound on */
        CK_CLEANUP_FD int console = ck_openat(dir, "console", O_CREAT | O_EXCL | O_WRONLY, 0600);
        error = console < 0 ? console : 0;
    }
    return error;
}

static int fill_mask(int dir)
{
    CK_CLEANUP_FD int file = ck_openat(dir, "file", O_CREAT | O_EXCL | O_WRONLY, 0444);
    int error = file < 0 ? file : ck_mkdirat(dir, "empty", 0555);

    return error;
}

/* A template: filled while nobody else sees it, then read-only, then attached. */
static int add_template(const char *path, int (*fill)(int), unsigned attrs)
{
    CK_CLEANUP_FD int mount = new_tmpfs("1m", "0755", attrs);
    int error = mount < 0 ? mount : ck_mkdirat(AT_FDCWD, path, 0755);

    if (!error)
        error = ck_move_mount(mount, AT_FDCWD, path);
    if (!error) {
        CK_CLEANUP_FD int dir = ck_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
        error = dir < 0 ? dir : fill(dir);
    }
    return error ? error : ck_mount_set(mount, MOUNT_ATTR_RDONLY, AT_RECURSIVE);
}

static int add_proc(void)
{
    CK_CLEANUP_FD int fs = ck_fsopen("proc");
    CK_CLEANUP_FD int mount = -1;
    int error = ck_mkdirat(AT_FDCWD, "/proc", 0555);

    if (fs < 0 || error)
        return fs < 0 ? fs : error;
    mount = ck_fsmount(&fs, NO_SETID_EXEC | MOUNT_ATTR_NODEV);
    return mount < 0 ? mount : ck_move_mount(mount, AT_FDCWD, "/proc");
}

/* The engine's root directory as a tree of its own; checked to be the one the engine has open. */
static int open_store(struct ck_launcher *l)
{
    struct stat st;
    int fd = ck_open_tree(AT_FDCWD, l->hello.root, 0);
    int error = fd < 0 ? fd : ck_fstat(fd, &st);

    if (!error && (st.st_dev != l->hello.root_dev || st.st_ino != l->hello.root_ino))
        error = -ESTALE;
    if (!error)
        return fd;
    ck_close_at(&fd);
    return error;
}

/* Replace the host's tree by a tmpfs that holds nothing but the store. */
static int enter_root(struct ck_launcher *l, int store)
{
    static const char *const dirs[] = {"/store", "/src", "/up", "/mnt", "/new", "/tmpl", "/l"};
    CK_CLEANUP_FD int root = new_tmpfs("4m", "0755", MOUNT_ATTR_NODEV | NO_SETID_EXEC);
    int error = root < 0 ? root : ck_move_mount(root, AT_FDCWD, l->hello.root);

    if (!error)
        error = ck_chdir(l->hello.root);
    for (size_t i = 0; !error && i < sizeof dirs / sizeof *dirs; i++)
        error = ck_mkdirat(AT_FDCWD, dirs[i] + 1, 0755);
    if (!error)
        error = ck_move_mount(store, AT_FDCWD, "store");
    l->step = 3;
    if (!error)
        error = add_template("tmpl/dev", fill_dev, NO_SETID_EXEC);
    if (!error)
        error = add_template("tmpl/mask", fill_mask, NO_SETID_EXEC | MOUNT_ATTR_NODEV);
    l->step = 4;
    return error ? error : ck_pivot_here();
}

/* owners/.ID was written before anything was made; under its lock it becomes owners/ID, so that a
 * record without the dot is locked for as long as its launcher lives. */
static int claim_owner_record(struct ck_launcher *l)
{
    char pending[64], name[64];
    int lock, error;

    snprintf(pending, sizeof pending, "owners/.%s", l->hello.id);
    snprintf(name, sizeof name, "owners/%s", l->hello.id);
    lock = ck_openat(l->store, pending, O_CREAT | O_RDWR | O_NOFOLLOW, 0600);
    error = lock < 0 ? lock : ck_flock(lock, LOCK_EX | LOCK_NB);
    return error < 0 ? error : ck_renameat(l->store, pending, l->store, name);
}

/* Does overlayfs take its lowers one by one (6.5), or only as one string of mount(2)?  Before it
 * had a parser of its own it took every option here and refused them at mount: so one that nobody
 * knows is tried too. */
static int probe_overlay_append(void)
{
    CK_CLEANUP_FD int fs = ck_fsopen("overlay");

    return fs >= 0 && ck_fsconfig_string(fs, "nobody-knows-this", "1") < 0 &&
           ck_fsconfig_string(fs, "lowerdir+", CK_TEMPLATE_DIR) >= 0;
}

int ck_launcher_enter(struct ck_launcher *l)
{
    CK_CLEANUP_FD int store = -1;
    int error = ck_mount_private_all();

    l->step = 1;
    if (error)
        return error;
    store = open_store(l);
    l->step = 2;
    error = store < 0 ? store : enter_root(l, store);
    if (error)
        return error;
    l->step = 5;
    error = add_proc();
    if (error)
        return error;
    l->step = 6;
    l->store = ck_openat(AT_FDCWD, "/store", O_RDONLY | O_DIRECTORY, 0);
    l->host_net = ck_openat(AT_FDCWD, "/proc/self/ns/net", O_RDONLY, 0);
    if (l->store < 0 || l->host_net < 0)
        return l->store < 0 ? l->store : l->host_net;
    l->step = 7;
    error = claim_owner_record(l);
    if (error)
        return error;
    if (probe_overlay_append())
        l->features |= CK_HAS_OVERLAY_APPEND;
    l->features |= CK_HAS_POOL | (l->hello.spares ? (unsigned)CK_HAS_SPARE : 0);
    l->step = 8;
    return 0;
}
