/* ck_launcher_own.c - what is alike in all containers, and yet each has a file system of its own for:
 * /dev, what paths are hidden with, the view of its control groups.
 *
 * inotify(7), flock(2) and a remount of the file system reach all who have a part of the same one.  So each
 * child makes it, in its copy of the launcher's mount namespace, ahead of its plan and of joining a
 * control group, whose rules on devices have no mknod.
 */
#include "ck_launcher.h"

enum {
    DEVICES = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
    INERT = DEVICES | MOUNT_ATTR_NODEV,
};

/* ---- the directories of the control groups' view, in version 1: one for each hierarchy, called after all
 * of its controllers, and a link for each of several */

/* Whether a controller is in the hierarchy of an earlier one, *first. */
static bool is_shared(const struct ck_launcher *l, int index, int *first)
{
    for (*first = 0; *first < index; ++*first)
        if (l->views[*first].ino == l->views[index].ino &&
            l->views[*first].dev == l->views[index].dev)
            return true;
    return false;
}

static void view_name(const struct ck_launcher *l, int index, char out[128])
{
    int first;

    snprintf(out, 128, "%s", l->hello.controllers[index]);
    for (int i = index + 1; i < l->n_controllers; i++)
        if (l->views[i].ino && is_shared(l, i, &first) && first == index && strlen(out) < 100)
            snprintf(out + strlen(out), 20, ",%s", l->hello.controllers[i]);
}

static bool is_viewed(const struct ck_launcher *l, int index)
{
    int first;

    return l->views[index].ino && !is_shared(l, index, &first) &&
           !strchr(l->hello.controllers[index], '+'); /* of the same hierarchy as the one without */
}

static int make_views(const struct ck_launcher *l, int own)
{
    char name[128], path[160];
    int first;

    CK_TRY(ck_mkdirat(own, "cgroup", 0755));
    for (int i = 0; i < l->n_controllers; i++) {
        if (l->views[i].ino && is_shared(l, i, &first)) {
            view_name(l, first, name);
            for (int each = first; each <= i; each += i - first) {
                snprintf(path, sizeof path, "cgroup/%s", l->hello.controllers[each]);
                int error = ck_symlinkat(name, own, path);
                CK_TRY(error == -EEXIST ? 0 : error);
            }
        } else if (is_viewed(l, i)) {
            view_name(l, i, name);
            snprintf(path, sizeof path, "cgroup/%s", name);
            CK_TRY(ck_mkdirat(own, path, 0755));
        }
    }
    if (!l->cpuset_view)
        return 0;
    CK_TRY(ck_make_dir(own, "cgroup/cpuset", 0755));
    return ck_mknodat(own, "cgroup/cpuset/cpuset.cpus", S_IFREG | 0444, 0);
}

/* ---- the whole */

/* What is in a mount becomes one of its own, at the same place. */
static int apart(int own, const char *name, const char *path)
{
    CK_OPEN(tree, ck_open_tree(own, name, AT_RECURSIVE));
    return ck_move_mount(tree, AT_FDCWD, path);
}

int ck_own_make(const struct ck_launcher *l)
{
    CK_OPEN(own, ck_new_mount("tmpfs", "mode=0755\0size=1m", 2, DEVICES));
    CK_TRY(ck_move_mount(own, AT_FDCWD, CK_OWN));
    CK_TRY(ck_mkdirat(own, "empty", 0555));
    CK_TRY(ck_mknodat(own, "file", S_IFREG | 0444, 0));
    CK_TRY(ck_mkdirat(own, "dev", 0755));
    CK_OPEN(dev, ck_openat(own, "dev", O_PATH | O_DIRECTORY, 0));
    CK_TRY(ck_fill_dev(dev, CK_TEMPLATE_DEV));
    CK_TRY(make_views(l, own));
    CK_TRY(apart(own, "dev", CK_OWN_DEV));
    CK_TRY(ck_mount_set(own, INERT | MOUNT_ATTR_RDONLY, 0)); /* masks are clones of it */
    return apart(own, "cgroup", CK_OWN_GROUPS);
}

/* Mount what shows a container's groups, and nothing above them, on their places.  What a hierarchy has of
 * it may be a group of the same one under another name, or none: a few controllers only those have that
 * ask for a limit. */
int ck_own_show_groups(const struct ck_launcher *l, uint32_t number)
{
    char group[128], name[128], from[192], to[192];

    ck_pool_group(l, number, "", group);
    if (l->cpuset_view)
        CK_TRY(ck_bind(CK_GROUPS "/cpuset", CK_OWN_GROUPS "/cpuset/cpuset.cpus"));
    for (int i = 0; i < l->n_controllers; i++) {
        if (!is_viewed(l, i))
            continue;
        snprintf(from, sizeof from, CK_GROUPS "/%d/%s", i, group);
        view_name(l, i, name);
        snprintf(to, sizeof to, CK_OWN_GROUPS "/%s", name);
        int error = ck_bind(from, to);
        if (error != -ENOENT || i < (int)l->hello.n_common)
            CK_TRY(error);
    }
    return 0;
}

/* ---- in the launcher, once */

/* A read-only clone of what a descriptor shows, whose mount is one of the host's: of the one in our copy of
 * the host's mounts. */
static int find_tree(int proc, int fd, const char *file)
{
    char at[32], path[4096 + 32];
    struct stat wanted, found;
    ssize_t length;

    snprintf(at, sizeof at, "self/fd/%d", fd);
    CK_TRY(length = ck_readlinkat(proc, at, path, 4096));
    if (length >= 4096)
        return -ENAMETOOLONG;
    snprintf(path + length, 32, "%s", file);
    CK_TRY(ck_fstatat(fd, *file ? file + 1 : "", &wanted, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
    CK_OPEN(tree, ck_open_tree(AT_FDCWD, path, 0));
    CK_TRY(ck_fstat(tree, &found));
    if (found.st_dev != wanted.st_dev || found.st_ino != wanted.st_ino)
        return -ESTALE;
    CK_TRY(ck_mount_set(tree, INERT | MOUNT_ATTR_RDONLY, 0));
    return ck_steal_fd(&tree);
}

void ck_own_find_groups(struct ck_launcher *l, int proc)
{
    struct stat st;

    if (l->unified >= 0)
        return;
    for (int i = 0; i < l->n_controllers; i++) {
        const char *name = l->hello.controllers[i];
        const bool tells =
            strcmp(name, "devices") != 0 && strcmp(name, "freezer") != 0; /* a limit */
        l->views[i].tree = tells ? find_tree(proc, l->controllers[i], "") : -ENOENT;
        if (l->views[i].tree >= 0 && ck_fstat(l->controllers[i], &st) == 0) {
            l->views[i].dev = st.st_dev;
            l->views[i].ino = st.st_ino;
        }
    }
    if (l->cpuset >= 0)
        l->cpuset_view = find_tree(proc, l->cpuset, "/cpuset.cpus");
    ck_close_at(&l->cpuset);
}

/* Where what was found is attached; containers do without what cannot be. */
int ck_own_attach_groups(struct ck_launcher *l)
{
    char path[32];

    CK_TRY(ck_mkdirat(AT_FDCWD, CK_GROUPS, 0700));
    for (int i = 0; i < l->n_controllers; i++) {
        snprintf(path, sizeof path, CK_GROUPS "/%d", i);
        if (l->views[i].tree < 0 || l->unified >= 0 || ck_mkdirat(AT_FDCWD, path, 0700) < 0 ||
            ck_move_mount(l->views[i].tree, AT_FDCWD, path) < 0)
            l->views[i].ino = 0;
        if (l->unified < 0)
            ck_close_at(&l->views[i].tree);
    }
    if (l->cpuset_view > 0) {
        CK_OPEN(tree, l->cpuset_view);
        l->cpuset_view = ck_mknodat(AT_FDCWD, CK_GROUPS "/cpuset", S_IFREG | 0400, 0) == 0 &&
                         ck_move_mount(tree, AT_FDCWD, CK_GROUPS "/cpuset") == 0;
    } else {
        l->cpuset_view = 0;
    }
    return 0;
}
