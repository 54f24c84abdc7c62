/* ck_launcher_setup.c - the launcher's own mount namespace.
 *
 *   /            a small tmpfs
 *   /proc        of the launcher's pid namespace
 *   /store       the engine's root directory
 *   /tmpl/dev    read-only: what device nodes are bound from where they cannot be made
 *   /groups      read-only: our control groups in each hierarchy of version 1
 *   /own /dev    where each child makes what is its container's alone (ck_launcher_own.c)
 *   /src /up /mnt /new   where sources, uppers, old-style overlays and new roots are attached
 *
 * It stays this small on purpose: a clone with CLONE_NEWNS pays for every mount.
 */
#include <sys/file.h>
#include <sys/sysmacros.h>

#include "ck_launcher.h"
#include "ck_path.h"

enum {
    DEVICES = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
    INERT = DEVICES | MOUNT_ATTR_NODEV,
};

static int make_node(int dir, const char *name, unsigned major, unsigned minor, const char *from)
{
    char host[32];
    int error = ck_mknodat(dir, name, S_IFCHR | 0666, makedev(major, minor));

    if (error != -EPERM)
        return error;
    /* no CAP_MKNOD over this file system, or in a container's group already: another one, bound */
    snprintf(host, sizeof host, "%s/%s", from, name);
    CK_OPEN(tree, ck_open_tree(AT_FDCWD, host, 0));
    CK_TRY(ck_mknodat(dir, name, S_IFREG | 0666, 0));
    return ck_move_mount(tree, dir, name);
}

int ck_fill_dev(int dir, const char *from)
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

    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
        CK_TRY(make_node(dir, nodes[i].name, nodes[i].major, nodes[i].minor, from));
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        CK_TRY(ck_symlinkat(links[i][0], dir, links[i][1]));
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
        CK_TRY(ck_mkdirat(dir, dirs[i], 0755));
    return 0;
}

static int mount_template(const char *path, uint64_t attrs)
{
    CK_OPEN(tree, ck_open_tree(AT_FDCWD, path, AT_RECURSIVE));
    CK_TRY(ck_mount_set(tree, attrs | MOUNT_ATTR_RDONLY, AT_RECURSIVE));
    return ck_move_mount(tree, AT_FDCWD, path);
}

static int make_templates(void)
{
    CK_TRY(ck_mkdirat(AT_FDCWD, "tmpl/dev", 0755));
    CK_OPEN(dev, ck_openat(AT_FDCWD, "tmpl/dev", O_RDONLY | O_DIRECTORY, 0));
    CK_TRY(ck_fill_dev(dev, "/dev"));
    return mount_template("tmpl/dev", DEVICES);
}

/* The engine's root directory as a tree of its own; checked to be the one the engine has open. */
static int open_store(struct ck_launcher *l)
{
    struct stat st;

    CK_OPEN(fd, l->hello.flags & CK_BARE
                    ? ck_openat(AT_FDCWD, l->hello.root, O_RDONLY | O_DIRECTORY, 0)
                    : ck_open_tree(AT_FDCWD, l->hello.root, 0));
    CK_TRY(ck_fstat(fd, &st));
    if (st.st_dev != l->hello.root_dev || st.st_ino != l->hello.root_ino)
        return -ESTALE;
    return ck_steal_fd(&fd);
}

/* Replace the host's tree by a tmpfs that holds nothing but the store. */
static int enter_root(struct ck_launcher *l, int store)
{
    static const char *const dirs[] = {"store", "src",  "up",  "new", "tmpl",
                                       "l",     "proc", "sys", "own", "dev"};

    l->step = 3;
    CK_OPEN(root, ck_new_mount("tmpfs", "size=4m\0mode=0755", 2, DEVICES));
    CK_TRY(ck_move_mount(root, AT_FDCWD, l->hello.root));
    CK_TRY(ck_chdir(l->hello.root));
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
        CK_TRY(ck_mkdirat(AT_FDCWD, dirs[i], 0755));
    CK_TRY(ck_move_mount(store, AT_FDCWD, "store"));
    l->step = 4;
    CK_TRY(make_templates());
    l->step = 5;
    return ck_pivot_here();
}

/* The engine has held a shared lock on our record since before anything of ours was made; from here
 * on we do too.  Whoever gets it exclusively knows that both are dead. */
static int claim_owner_record(struct ck_launcher *l)
{
    char name[64];

    snprintf(name, sizeof name, "owners/%s", l->hello.id);
    CK_TRY(l->claim = ck_openat(l->store, name, O_RDWR | O_NOFOLLOW, 0));
    return ck_flock(l->claim, LOCK_SH | LOCK_NB);
}

/* Version 2: who manages the owner's group may kill all that is in it, and is not to mean us. */
static int enter_group(const struct ck_launcher *l)
{
    if (l->unified < 0 || !(l->hello.flags & CK_OUTSIDE))
        return 0;
    CK_TRY(ck_make_dir(l->controllers[l->unified], "self", 0755));
    return ck_path_write(l->controllers[l->unified], "self/cgroup.procs", "0");
}

/* So that it can be removed. */
void ck_launcher_leave_group(const struct ck_launcher *l)
{
    CK_CLEANUP_FD int above = -1;

    if (l->unified < 0 || !(l->hello.flags & CK_OUTSIDE))
        return;
    above = ck_openat(l->controllers[l->unified], "../cgroup.procs", O_WRONLY, 0);
    ck_write(above, "0", 1);
    ck_unlinkat(l->controllers[l->unified], "self", AT_REMOVEDIR);
}

/* PROC_USER_INIT_INO of the kernel: which the first user namespace always has. */
static bool is_in_a_user_namespace(int proc)
{
    struct stat st;

    return ck_fstatat(proc, "self/ns/user", &st, 0) == 0 && st.st_ino != 0xEFFFFFFDU;
}

/* A user namespace may have no right to the network that we are in: neither to come back to it, nor to
 * a sysfs that shows it.  And it may mount proc and sysfs where others are seen only, so: while the
 * host's are, and before any container's. */
static int enter_proc(struct ck_launcher *l)
{
    CK_CLEANUP_FD int sysfs = -1, netns = -1;

    l->step = 6;
    CK_OPEN(proc, ck_new_mount("proc", "", 0, INERT));
    CK_TRY(l->host_net = ck_openat(AT_FDCWD, "/proc/self/ns/net", O_RDONLY, 0));
    l->apart = ck_setns(l->host_net, CLONE_NEWNET) < 0;
    if (l->apart)
        CK_TRY(netns = ck_pool_netns_apart(l, &sysfs));
    else if (is_in_a_user_namespace(proc))
        sysfs = ck_pool_sysfs();
    ck_own_find_groups(l, proc);
    l->step = 2;
    CK_OPEN(store, open_store(l));
    CK_TRY(enter_root(l, store));
    l->step = 6;
    CK_TRY(ck_own_attach_groups(l));
    CK_TRY(l->apart || sysfs >= 0 ? ck_move_mount(sysfs, AT_FDCWD, "/sys") : 0);
    return ck_move_mount(proc, AT_FDCWD, "/proc");
}

/* Nothing of its own but that all orphans of its containers are its children. */
static int enter_bare(struct ck_launcher *l)
{
    l->step = 2;
    CK_TRY(ck_adopt_orphans());
    CK_TRY(l->store = open_store(l));
    CK_TRY(l->orphans = ck_openat(AT_FDCWD, "/proc/thread-self/children", O_RDONLY, 0));
    return claim_owner_record(l);
}

int ck_launcher_enter(struct ck_launcher *l)
{
    if (l->hello.flags & CK_BARE)
        return enter_bare(l);
    l->step = 1;
    CK_TRY(ck_mount_private_all());
    CK_TRY(enter_proc(l));
    l->step = 7;
    CK_TRY(l->store = ck_openat(AT_FDCWD, "/store", O_RDONLY | O_DIRECTORY, 0));
    l->step = 8;
    CK_TRY(claim_owner_record(l));
    return enter_group(l);
}
