#include "ck_apply.h"

#define LATER_MAX (64 << 20) /* bytes: some 250,000 directories */
#define FIND_DIR  (O_PATH | O_DIRECTORY | O_NOFOLLOW)

/* ---- what is in the way */

/* Depth is bounded: no directory of the tree lies deeper than options.max_depth + 1. */
int ck_tree_clear(struct ck_applier *a, int parent, const char *name)
{
    CK_CLEANUP_FD int dir = -1;
    _Alignas(struct ck_dirent) char buf[2048];
    ssize_t got;
    int error = ck_unlinkat(parent, name, 0);

    a->stale = true; /* we may be below it, or behind it when it was a link */
    if (error != -EISDIR)
        return error;
    CK_TRY(dir = ck_openat(parent, name, CK_OPEN_DIR, 0));
    while ((got = ck_getdents(dir, buf, sizeof buf)) > 0)
        for (ssize_t at = 0; at < got;) {
            const struct ck_dirent *entry = (const void *)(buf + at);

            at += entry->size;
            if (strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0)
                CK_TRY(ck_tree_clear(a, dir, entry->name));
        }
    return got < 0 ? (int)got : ck_unlinkat(parent, name, AT_REMOVEDIR);
}

int ck_tree_set_opaque(const struct ck_applier *a, int dir, const char *leaf)
{
    bool user = a->options.flags & CK_APPLY_USER_XATTRS;
    CK_CLEANUP_FD int fd = -1;

    CK_TRY(fd = ck_openat(dir, leaf, CK_OPEN_DIR, 0));
    return ck_fsetxattr(fd, user ? "user.overlay.opaque" : "trusted.overlay.opaque", "y", 1);
}

/* ---- directories */

void ck_tree_leave(struct ck_applier *a, unsigned keep)
{
    while (a->n_dirs > keep)
        ck_close(a->dirs[--a->n_dirs].fd);
    a->stale = false;
}

/* Make leaf when it is missing; a whiteout of this layer becomes a directory that hides the lower
 * one, and with `replace` anything else gives way too. */
static int make_dir(struct ck_applier *a, int dir, const char *leaf, bool replace)
{
    bool whiteout;
    struct stat st;
    int error = ck_mkdirat(dir, leaf, 0755);

    if (error != -EEXIST)
        return error;
    CK_TRY(ck_fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW));
    if (S_ISDIR(st.st_mode))
        return 0;
    whiteout = S_ISCHR(st.st_mode) && st.st_rdev == 0;
    if (!whiteout && !replace)
        return -ENOTDIR;
    CK_TRY(ck_tree_clear(a, dir, leaf));
    CK_TRY(ck_mkdirat(dir, leaf, 0755));
    return whiteout ? ck_tree_set_opaque(a, dir, leaf) : 0;
}

/* Open the directory that is to follow in dirs, made when it is missing. */
static int open_dir(struct ck_applier *a, struct ck_dir *dir, const char *leaf)
{
    int parent = dir[-1].fd, error;

    dir->depth = dir[-1].depth + 1;
    dir->fd = ck_openat(parent, leaf, FIND_DIR, 0);
    if (dir->fd != -ENOENT && dir->fd != -ENOTDIR)
        return dir->fd;
    error = make_dir(a, parent, leaf, false);
    if (error == 0) {
        a->implied++;
        CK_TRY(ck_fchmodat(parent, leaf, 0755)); /* whatever the umask */
        dir->fd = ck_openat(parent, leaf, FIND_DIR, 0);
    } else if (error == -ENOTDIR) { /* a link? */
        dir->fd = ck_path_open(a->root, a->dirs_path, O_PATH | O_DIRECTORY, a->how);
        dir->depth = dir->fd < 0 ? 0 : ck_path_depth(a->root, dir->fd, a->options.max_depth);
    }
    return error == 0 || error == -ENOTDIR ? dir->fd : error;
}

int ck_tree_dir(struct ck_applier *a, const char *path)
{
    unsigned keep = 1;

    for (; !a->stale && keep < a->n_dirs; keep++) {
        size_t len = a->dirs[keep].len;

        if (strncmp(path, a->dirs_path, len) != 0 || (path[len] && path[len] != '/'))
            break;
    }
    ck_tree_leave(a, keep);
    for (;;) {
        struct ck_dir *dir = &a->dirs[a->n_dirs];
        size_t start = dir[-1].len + (path[dir[-1].len] == '/');

        dir->len = start + strcspn(path + start, "/");
        if (dir->len == start)
            return dir[-1].fd;
        if (a->n_dirs == CK_DIRS)
            return -ELOOP;
        memcpy(a->dirs_path, path, dir->len);
        a->dirs_path[dir->len] = 0;
        CK_TRY(open_dir(a, dir, a->dirs_path + start));
        a->n_dirs++;
        CK_TRY(dir->depth);
        if (dir->depth > (int)a->options.max_depth) /* by links upon links */
            return -ELOOP;
    }
}

/* ---- what directories get at the end: their time, which each entry in them changes; a set-group-id
 * bit, which would give its group to what is made in them; a mode that would keep the owner out */

int ck_tree_mkdir(struct ck_applier *a, int dir, const char *leaf)
{
    CK_CLEANUP_FD int fd = -1;

    if (*leaf)
        CK_TRY(make_dir(a, dir, leaf, true));
    if (a->tar.entry.has_xattrs) {
        CK_TRY(fd = ck_openat(dir, *leaf ? leaf : ".", CK_OPEN_DIR, 0));
        CK_TRY(ck_tree_set_xattrs(a, fd));
    }
    fwrite(&a->tar.entry, sizeof a->tar.entry, 1, a->later);
    fwrite(a->name.path, strlen(a->name.path) + 1, 1, a->later);
    return ferror(a->later) || ftell(a->later) > LATER_MAX ? -ENOMEM : 0;
}

int ck_tree_settle(struct ck_applier *a)
{
    const char *end, *path;
    struct ck_tar_entry entry;

    if (fflush(a->later)) /* which sets data and size */
        return -ENOMEM;
    end = a->later_data + a->later_size;
    for (const char *at = a->later_data; at < end; at = path + strlen(path) + 1) {
        CK_CLEANUP_FD int fd = -1;

        memcpy(&entry, at, sizeof entry);
        path = at + sizeof entry;
        fd = ck_path_open(a->root, *path ? path : ".", CK_OPEN_DIR, a->how);
        if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
            continue; /* a later entry put something else there */
        CK_TRY(fd);
        CK_TRY(ck_tree_dress(a, &entry, fd, ""));
    }
    return 0;
}

/* ---- metadata */

int ck_tree_dress(const struct ck_applier *a, const struct ck_tar_entry *e, int dir,
                  const char *leaf)
{
    const struct timespec time = {e->mtime, e->mtime_nsec}, times[2] = {time, time};
    int flags = *leaf ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH;
    mode_t mode = (mode_t)e->mode;
    struct stat st = {.st_uid = a->euid, .st_gid = a->egid, .st_mode = mode};

    if (!a->own_umask || e->type == '5') /* else it was made just now, and is as it was made */
        CK_TRY(ck_fstatat(dir, leaf, &st, flags));
    if (st.st_uid != e->uid || st.st_gid != e->gid)
        CK_TRY(ck_fchownat(dir, leaf, (uid_t)e->uid, (gid_t)e->gid, flags));
    if (e->type != '2' && ((st.st_mode & 07777) != mode || mode & 06000)) /* a chown clears these */
        CK_TRY(*leaf ? ck_fchmodat(dir, leaf, mode) : ck_fchmod(dir, mode));
    return ck_utimensat(dir, *leaf ? leaf : NULL, times, *leaf ? flags : 0);
}

int ck_tree_set_xattrs(const struct ck_applier *a, int fd)
{
    size_t cursor = 0, size = 0, total = 0;
    char *key = NULL, *value = NULL;

    while (a->tar.entry.has_xattrs && ck_tar_record(&a->tar, &cursor, &key, &value, &size) > 0) {
        bool user = ck_begins(key, CK_TAR_XATTR "user.") &&
                    !ck_begins(key, CK_TAR_XATTR "user.overlay."); /* would forge whiteouts */
        int error;

        if (!user && strcmp(key, CK_TAR_XATTR "security.capability") != 0)
            continue;
        total += strlen(key) - strlen(CK_TAR_XATTR) + size;
        if (total > a->options.max_xattr_bytes)
            return -E2BIG;
        error = ck_fsetxattr(fd, key + strlen(CK_TAR_XATTR), value, size);
        if (error != -EOPNOTSUPP || !user) /* an old tmpfs has no user.* */
            CK_TRY(error);
    }
    return 0;
}
