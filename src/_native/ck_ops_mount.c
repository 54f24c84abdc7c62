/* ck_ops_mount.c - child ops that build the root.  Every path of the plan is resolved beneath the
 * new root, on descriptors: the image decides what lies there, so no string is trusted twice. */
#include "ck_child.h"
#include "ck_path.h"

/* Whether a place lies on a file system that is the kernel's word or ours. */
static int is_system(const struct ck_child *child, int place)
{
    static const char *const paths[] = {"/proc", "/sys", "/dev", "/dev/pts", "/dev/mqueue"};
    struct stat root, st, system;

    if (ck_fstat(child->root, &root) < 0 || ck_fstat(place, &st) < 0)
        return 1;
    if (st.st_dev == root.st_dev) /* so is a /sys of the image's, where none is mounted */
        return 0;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        CK_CLEANUP_FD int fd = ck_path_open(child->root, paths[i], O_PATH, CK_PATH_NO_SYMLINKS);
        if (fd >= 0 && (ck_fstat(fd, &system) < 0 || system.st_dev == st.st_dev))
            return 1;
    }
    return 0;
}

/* Open, or make, the place a mount goes to.  strict: no link anywhere on the way, for the file
 * systems whose place the kernel's and our safety rests on (/proc, /sys, /dev). */
static int open_target(const struct ck_child *child, const char *path, int flags, unsigned how)
{
    int fd = ck_path_open(child->root, path, O_PATH, how);

    if (fd == -ENOENT && flags & CK_F_FILE) /* an image's link to what is not there: on the link */
        fd = ck_path_open(child->root, path, O_PATH | O_NOFOLLOW, how);
    if (fd != -ENOENT || !(flags & CK_F_CREATE))
        return fd;
    return ck_path_mkdirs(child->root, path, flags & CK_F_FILE ? S_IFREG | 0644 : 0755, how);
}

static int mount_on(const struct ck_child *child, int mount, const char *path, int flags,
                    int strict)
{
    CK_CLEANUP_FD int target = ck_path_open(child->root, path, O_PATH, CK_PATH_NO_SYMLINKS);

    if (target == -ENOENT || (target == -ELOOP && !strict)) { /* the image's links are followed */
        target = open_target(child, path, flags, strict ? CK_PATH_NO_SYMLINKS : 0);
        if (target >= 0 && !strict && is_system(child, target))
            return -EXDEV; /* but not to there (CVE-2019-16884, CVE-2025-52881) */
    }
    return target < 0 ? target : ck_move_mount(mount, target, "");
}

int ck_op_root(struct ck_child *child, const struct ck_op *op)
{
    if (op->value[0])
        CK_TRY(ck_set_fs_ids((uint32_t)(op->value[0] >> 32), (uint32_t)op->value[0]));
    CK_TRY(ck_move_mount(child->slots[op->fd[0]], AT_FDCWD, CK_NEW_ROOT));
    return child->root = ck_openat(AT_FDCWD, CK_NEW_ROOT, O_PATH | O_DIRECTORY, 0);
}

int ck_op_mount_fs(struct ck_child *child, const struct ck_op *op)
{
    const char *type = ck_child_text(child, op, 0);
    uint32_t n;
    const char *options = ck_plan_list(&child->plan, op->arena[2], &n);

    ck_close_at(&child->last);
    CK_TRY(child->last = ck_new_mount(type, options, n, (unsigned)op->value[0]));
    return mount_on(child, child->last, ck_child_text(child, op, 1), op->flags,
                    op->flags & CK_F_OWN || strcmp(type, "tmpfs") != 0);
}

CK_OP_IS(ck_op_move_mount, mount_on(child, child->slots[op->fd[0]], ck_child_text(child, op, 0),
                                    op->flags, op->flags &CK_F_OWN))

/* A place for a terminal to be bound on, where there is to be one. */
static int make_console(const struct ck_child *child, int dev, const char *path)
{
    for (int i = 0; i < child->plan.header->n_ops[CK_CHILD]; i++)
        if (child->plan.ops[CK_CHILD][i].code == CK_OP_PTY)
            return ck_mknodat(dev, path, S_IFREG | 0600, 0);
    return 0;
}

int ck_op_template(struct ck_child *child, const struct ck_op *op)
{
    const bool dev = op->value[0] == CK_OWN_IS_DEV;
    const char *own = dev ? CK_OWN_DEV : CK_OWN_GROUPS;

    CK_OPEN(tree, ck_openat(AT_FDCWD, own, O_PATH | O_DIRECTORY, 0));
    if (dev)
        CK_TRY(make_console(child, tree, "console"));
    CK_TRY(ck_mount_set(tree, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
                        dev ? AT_RECURSIVE : 0)); /* nodes that are bound; groups are so already */
    return mount_on(child, tree, ck_child_text(child, op, 0), op->flags, 1);
}

int ck_op_dev_nodes(struct ck_child *child, const struct ck_op *op)
{
    CK_TRY(ck_fill_dev(child->last, CK_OWN_DEV));
    return make_console(child, child->last, "console");
}

/* Cover what is at the op's path, if this kernel has it: with itself, or with nothing. */
static int cover(const struct ck_child *child, const struct ck_op *op, bool itself)
{
    CK_CLEANUP_FD int target = ck_path_open(child->root, ck_child_text(child, op, 0),
                                            O_PATH | O_NOFOLLOW, CK_PATH_NO_SYMLINKS);
    struct stat st;

    if (target < 0)
        return target == -ENOENT ? 0 : target;
    if (itself && op->flags & CK_F_OWN)
        return ck_mount_set(target, MOUNT_ATTR_RDONLY, 0);
    CK_TRY(ck_fstat(target, &st));
    const char *nothing = S_ISDIR(st.st_mode) ? CK_OWN_DIR : CK_OWN_FILE;
    CK_OPEN(tree,
            itself ? ck_open_tree(target, "", AT_RECURSIVE) : ck_open_tree(AT_FDCWD, nothing, 0));
    CK_TRY(itself ? ck_mount_set(tree, MOUNT_ATTR_RDONLY, AT_RECURSIVE) : 0);
    return ck_move_mount(tree, target, "");
}

CK_OP_IS(ck_op_mask, cover(child, op, false))

CK_OP_IS(ck_op_read_only, cover(child, op, true))

static int own_as_asked(int fd, const struct ck_op *op)
{
    uint32_t uid = (uint32_t)(op->value[1] >> 32), gid = (uint32_t)op->value[1];

    return uid || gid ? ck_fchownat(fd, "", uid, gid, AT_EMPTY_PATH) : 0;
}

int ck_op_mkdir(struct ck_child *child, const struct ck_op *op)
{
    const char *path = ck_child_text(child, op, 0);
    CK_CLEANUP_FD int fd = ck_path_open(child->root, path, O_PATH, 0);

    if (fd != -ENOENT)
        return fd;
    CK_TRY(fd = ck_path_mkdirs(child->root, path, (mode_t)op->value[0] & 07777, 0));
    return own_as_asked(fd, op);
}

int ck_op_link(struct ck_child *child, const struct ck_op *op)
{
    const char *path = ck_child_text(child, op, 1), *name = strrchr(path, '/');
    char above[256];
    int error;

    if (!name || snprintf(above, sizeof above, "%.*s/", (int)(name - path), path) > 255)
        return -EINVAL;
    CK_CLEANUP_FD int dir = ck_path_open(child->root, above, O_PATH | O_DIRECTORY, 0);
    error = dir < 0 ? dir : ck_symlinkat(ck_child_text(child, op, 0), dir, name + 1);
    return error == -ENOENT || error == -EEXIST ? 0 : error;
}

int ck_op_copy_fd(struct ck_child *child, const struct ck_op *op)
{
    const char *name = strrchr(ck_child_text(child, op, 0), '/');
    int source = child->slots[op->fd[0]];
    char buf[4096];
    ssize_t n;

    CK_TRY(name ? 0 : -EINVAL);
    CK_TRY(ck_lseek(source, 0, SEEK_SET)); /* a restart reads it again */
    CK_OPEN(fd, ck_openat(child->last, name + 1, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    while ((n = ck_read(source, buf, sizeof buf)) > 0)
        CK_TRY(ck_write_all(fd, buf, (size_t)n));
    CK_TRY(n);
    CK_TRY(ck_fchmod(fd, (mode_t)op->value[0] & 07777));
    return own_as_asked(fd, op);
}

CK_OP_IS(ck_op_root_read_only, ck_mount_set(child->root, MOUNT_ATTR_RDONLY, 0))

int ck_op_pivot(struct ck_child *child, const struct ck_op *op)
{
    CK_TRY(ck_fchdir(child->root));
    ck_close_at(&child->root);
    return ck_pivot_here();
}
