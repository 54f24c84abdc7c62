#define _GNU_SOURCE
#include "ck_apply.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "ck_path.h"
#include "ck_sys.h"

#define DIRS_MAX (64u << 20) /* bytes of directory records: some 600,000 directories */
#define OPEN_DIR (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
#define SAID     -ECANCELED /* err is filled already */

/* ---- what is in the way */

/* Depth is bounded: no directory of the tree lies deeper than options.max_depth + 1. */
static int remove_below(int parent, const char *name)
{
    CK_CLEANUP_FD int dir = ck_openat(parent, name, OPEN_DIR, 0);
    _Alignas(8) char buf[2048];
    ssize_t got = dir;

    while (dir >= 0 && (got = ck_getdents(dir, buf, sizeof buf)) > 0) {
        for (ssize_t at = 0; at < got;) {
            const char *entry = buf + at + 19; /* u64 ino, i64 off, u16 length, u8 type, name */
            uint16_t length;
            int error;

            memcpy(&length, buf + at + 16, sizeof length);
            at += length;
            if (!strcmp(entry, ".") || !strcmp(entry, ".."))
                continue;
            error = ck_unlinkat(dir, entry, 0);
            if (error == -EISDIR)
                error = remove_below(dir, entry);
            if (error < 0)
                return error;
        }
    }
    return got < 0 ? (int)got : ck_unlinkat(parent, name, AT_REMOVEDIR);
}

int ck_tree_clear(struct ck_applier *a, int dir, const char *leaf)
{
    int error = ck_unlinkat(dir, leaf, 0);

    if (error == -EISDIR)
        error = remove_below(dir, leaf);
    a->stale = true; /* a cached directory may lie below it, or behind it when it was a link */
    return error;
}

int ck_tree_set_opaque(const struct ck_applier *a, int dir, const char *leaf)
{
    bool user = a->options.flags & CK_APPLY_USER_XATTRS;
    CK_CLEANUP_FD int fd = ck_openat(dir, leaf, OPEN_DIR, 0);

    if (fd < 0)
        return fd;
    return ck_fsetxattr(fd, user ? "user.overlay.opaque" : "trusted.overlay.opaque", "y", 1);
}

/* ---- directories */

void ck_tree_forget(struct ck_applier *a)
{
    for (unsigned i = 0; i < CK_SLOTS; i++) {
        ck_close_at(&a->slots[i].fd);
        a->slots[i].fd = -1;
    }
    a->stale = false;
}

/* Make leaf when it is missing; a whiteout of this layer becomes a directory that hides the lower
 * one, and with `replace` anything else gives way too.  Returns 1 when the directory was there. */
static int make_dir(struct ck_applier *a, int dir, const char *leaf, mode_t mode, bool replace)
{
    bool whiteout;
    struct stat st;
    int error = ck_mkdirat(dir, leaf, mode);

    if (error == 0 && a->chmod_always)
        error = ck_fchmodat(dir, leaf, mode); /* made just now: not a link */
    if (error != -EEXIST)
        return error;
    error = ck_fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW);
    if (error < 0 || S_ISDIR(st.st_mode))
        return error < 0 ? error : 1;
    whiteout = S_ISCHR(st.st_mode) && st.st_rdev == 0;
    if (!whiteout && !replace)
        return -ENOTDIR;
    error = ck_tree_clear(a, dir, leaf);
    if (error == 0)
        error = make_dir(a, dir, leaf, mode, false);
    return error == 0 && whiteout ? ck_tree_set_opaque(a, dir, leaf) : error;
}

static int find_dir(const struct ck_applier *a, const char *path)
{
    int fd = ck_path_open(a->root, path, O_PATH | O_DIRECTORY, a->how | CK_PATH_NO_SYMLINKS);
    int depth;

    if (fd != -ELOOP)
        return fd;
    fd = ck_path_open(a->root, path, O_PATH | O_DIRECTORY, a->how);
    if (fd < 0)
        return fd;
    /* links upon links could lead deeper than any path is long */
    depth = ck_path_depth(a->root, fd, (int)a->options.max_depth);
    if (depth < 0)
        ck_close_at(&fd);
    return depth < 0 ? depth : fd;
}

/* The parent first, then this one: at most max_depth calls deep. */
static int make_missing(struct ck_applier *a, char *path, size_t len, struct ck_error *err)
{
    size_t leaf = len;
    int dir, error;

    while (leaf && path[leaf - 1] != '/')
        leaf--;
    dir = ck_tree_dir(a, path, leaf ? leaf - 1 : 0, err);
    if (dir < 0)
        return SAID;
    if (++a->implied + a->result.entries > a->options.max_entries) {
        ck_tar_bad(&a->tar, err, "the layer has too many directories");
        return SAID;
    }
    error = make_dir(a, dir, path + leaf, 0755, false);
    return error < 0 ? error : find_dir(a, path);
}

static uint32_t hash_of(const char *text, size_t len)
{
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (uint8_t)text[i]) * 16777619u;
    return hash ^ hash >> 15;
}

int ck_tree_dir(struct ck_applier *a, char *path, size_t len, struct ck_error *err)
{
    uint32_t hash = hash_of(path, len);
    struct ck_slot *slot = &a->slots[hash % CK_SLOTS];
    char after = path[len], *copy;
    int fd;

    if (!len)
        return a->root;
    if (a->stale)
        ck_tree_forget(a);
    if (slot->fd >= 0 && slot->hash == hash && slot->len == len && !memcmp(slot->path, path, len))
        return slot->fd;
    path[len] = 0;
    fd = find_dir(a, path);
    if (fd == -ENOENT || fd == -ENOTDIR)
        fd = make_missing(a, path, len, err);
    copy = fd < 0 ? NULL : realloc(slot->path, len + 1);
    if (fd >= 0 && !copy) {
        ck_close_at(&fd);
        fd = -ENOMEM;
    }
    if (fd < 0 && fd != SAID)
        ck_apply_fail(err, -fd, "open directory", path);
    path[len] = after;
    if (fd < 0)
        return -1;
    memcpy(copy, path, len);
    ck_close_at(&slot->fd);
    *slot = (struct ck_slot){fd, hash, len, copy};
    return fd;
}

int ck_tree_mkdir(struct ck_applier *a, int dir, const char *leaf, struct ck_error *err)
{
    const struct ck_tar_entry *e = &a->tar.entry;
    int was = make_dir(a, dir, leaf, (e->mode & 01777) | 0700, true);
    int error = was < 0 ? was : 0;

    if (error == 0 && (was || e->uid != a->euid || e->gid != a->egid))
        error = ck_fchownat(dir, leaf, e->uid, e->gid, AT_SYMLINK_NOFOLLOW);
    if (error < 0)
        return ck_apply_fail(err, -error, "make directory", a->name.text);
    if (e->has_xattrs) {
        CK_CLEANUP_FD int fd = ck_openat(dir, leaf, OPEN_DIR, 0);
        if (fd < 0)
            return ck_apply_fail(err, -fd, "open directory", a->name.text);
        if (ck_tree_set_xattrs(a, fd, err) < 0)
            return -1;
    }
    return ck_tree_later(a, was || e->mode & 06000 || (e->mode & 0700) != 0700, err);
}

/* ---- metadata */

int ck_tree_dress(const struct ck_applier *a, int fd, int dir, const char *leaf)
{
    const struct ck_tar_entry *e = &a->tar.entry;
    const struct timespec time = {e->mtime, e->mtime_nsec}, times[2] = {time, time};
    bool own = e->uid == a->euid && e->gid == a->egid;
    bool right_mode = e->type == '2' || (!a->chmod_always && !(e->mode & 06000));
    int at = fd >= 0 ? fd : dir, error = 0;

    if (!own)
        error = ck_fchownat(at, fd >= 0 ? "" : leaf, e->uid, e->gid,
                            fd >= 0 ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW);
    if (error == 0 && !right_mode) /* after the chown, which clears set-id bits */
        error = fd >= 0 ? ck_fchmod(fd, e->mode) : ck_fchmodat(dir, leaf, e->mode);
    if (error == 0)
        error = ck_utimensat(at, fd >= 0 ? NULL : leaf, times, fd >= 0 ? 0 : AT_SYMLINK_NOFOLLOW);
    return error;
}

static bool allowed_xattr(const char *name)
{
    if (!strncmp(name, "user.", 5)) /* overlay's own would forge whiteouts and redirects */
        return strncmp(name, "user.overlay.", 13) != 0;
    return !strcmp(name, "security.capability");
}

int ck_tree_set_xattrs(const struct ck_applier *a, int fd, struct ck_error *err)
{
    size_t cursor = 0, size = 0, total = 0;
    const char *name = NULL;
    const uint8_t *value = NULL;

    while (ck_tar_xattr(&a->tar, &cursor, &name, &value, &size)) {
        int error;

        total += strlen(name) + size;
        if (total > a->options.max_xattr_bytes)
            return ck_tar_bad(&a->tar, err, "its extended attributes are too large");
        error = allowed_xattr(name) ? ck_fsetxattr(fd, name, value, size) : 0;
        if (error < 0 && !(error == -EOPNOTSUPP && name[0] == 'u')) /* old tmpfs: no user.* */
            return ck_apply_fail(err, -error, "set an extended attribute of", a->name.text);
    }
    return 0;
}

/* ---- what directories get at the end: their time, which each entry in them changes; a set-group-id
 * bit, which would give its group to what is made in them; a mode that would keep the owner out */

struct record {
    int64_t mtime;
    uint32_t nsec, mode, with_mode;
    uint32_t len; /* of the path that follows, with its NUL */
};

int ck_tree_later(struct ck_applier *a, bool with_mode, struct ck_error *err)
{
    const struct ck_tar_entry *e = &a->tar.entry;
    struct record record = {e->mtime, e->mtime_nsec, e->mode, with_mode, (uint32_t)a->name.len + 1};
    size_t need = a->dirs_used + sizeof record + record.len;

    if (need > a->dirs_cap) {
        uint8_t *grown = need > DIRS_MAX ? NULL : realloc(a->dirs, need * 2);
        if (!grown)
            return ck_tar_bad(&a->tar, err, "too many directories");
        a->dirs = grown;
        a->dirs_cap = need * 2;
    }
    memcpy(a->dirs + a->dirs_used, &record, sizeof record);
    memcpy(a->dirs + a->dirs_used + sizeof record, a->name.text, record.len);
    a->dirs_used = need;
    return 0;
}

int ck_tree_settle(struct ck_applier *a, struct ck_error *err)
{
    struct record record;

    for (size_t at = 0; at < a->dirs_used; at += sizeof record + record.len) {
        const char *path = (char *)a->dirs + at + sizeof record;
        CK_CLEANUP_FD int fd = -1;
        int error;

        memcpy(&record, a->dirs + at, sizeof record);
        fd = ck_path_open(a->root, *path ? path : ".", OPEN_DIR, a->how);
        if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
            continue; /* a later entry put something else there */
        error = fd < 0 ? fd : 0;
        if (error == 0 && record.with_mode)
            error = ck_fchmod(fd, record.mode);
        if (error == 0) {
            struct timespec time = {record.mtime, record.nsec}, times[2] = {time, time};
            error = ck_utimensat(fd, NULL, times, 0);
        }
        if (error < 0)
            return ck_apply_fail(err, -error, "set mode and time of directory", path);
    }
    return 0;
}
