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

uint32_t ck_hash(const char *text, size_t len)
{
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (uint8_t)text[i]) * 16777619u;
    return hash ^ hash >> 15;
}

/* ---- what is in the way */

/* Depth is bounded: no directory of the tree lies deeper than options.max_depth + 1. */
static int remove_below(int parent, const char *name)
{
    CK_CLEANUP_FD int dir = ck_openat(parent, name, OPEN_DIR, 0);
    _Alignas(8) char buf[2048];
    ssize_t got;

    if (dir < 0)
        return dir;
    while ((got = ck_getdents(dir, buf, sizeof buf)) > 0) {
        for (ssize_t at = 0; at < got;) {
            const char *record = buf + at; /* u64 ino, i64 off, u16 length, u8 type, name */
            const char *entry = record + 19;
            uint16_t length;
            int error = 0;

            memcpy(&length, record + 16, sizeof length);
            at += length;
            if (!strcmp(entry, ".") || !strcmp(entry, ".."))
                continue;
            error = ck_unlinkat(dir, entry, 0);
            if (error == -EISDIR)
                error = remove_below(dir, entry);
            if (error < 0)
                return error;
        }
        if (ck_lseek(dir, 0, SEEK_SET) < 0) /* entries went: read from the start again */
            return -EIO;
    }
    return got < 0 ? (int)got : ck_unlinkat(parent, name, AT_REMOVEDIR);
}

int ck_tree_clear(struct ck_applier *a, int dir, const char *leaf)
{
    int error = ck_unlinkat(dir, leaf, 0);

    a->stale = true; /* a cached directory may lie below, or behind a link that is gone */
    return error == -EISDIR ? remove_below(dir, leaf) : error;
}

bool ck_tree_is_whiteout(int dir, const char *leaf)
{
    struct stat st;

    return ck_fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) &&
           st.st_rdev == 0;
}

int ck_tree_set_opaque(const struct ck_applier *a, int dir, const char *leaf)
{
    bool user = a->options.flags & CK_APPLY_USER_XATTRS;
    CK_CLEANUP_FD int fd = ck_openat(dir, leaf, OPEN_DIR, 0);

    if (fd < 0)
        return fd;
    return ck_fsetxattr(fd, user ? "user.overlay.opaque" : "trusted.overlay.opaque", "y", 1);
}

/* ---- directories found */

void ck_tree_flush(struct ck_applier *a)
{
    for (unsigned i = 0; i < CK_SLOTS; i++) {
        ck_close_at(&a->slots[i].fd);
        a->slots[i].fd = -1;
    }
    a->stale = false;
}

/* Make leaf when it is missing; a whiteout of this layer becomes a directory that hides the lower
 * one.  Returns 1 when the directory was there, 0 when it is new. */
static int make_dir(struct ck_applier *a, int dir, const char *leaf, mode_t mode, bool replace)
{
    struct stat st;
    bool whiteout;
    int error = ck_mkdirat(dir, leaf, mode);

    if (error == 0 && a->chmod_always)
        error = ck_fchmodat(dir, leaf, mode); /* just made: not a link */
    if (error != -EEXIST)
        return error;
    error = ck_fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW);
    if (error < 0 || S_ISDIR(st.st_mode))
        return error < 0 ? error : 1;
    whiteout = ck_tree_is_whiteout(dir, leaf);
    if (!whiteout && !replace)
        return -ENOTDIR;
    error = ck_tree_clear(a, dir, leaf);
    if (error == 0)
        error = make_dir(a, dir, leaf, mode, false);
    if (error == 0 && whiteout)
        error = ck_tree_set_opaque(a, dir, leaf);
    return error;
}

static int resolve(struct ck_applier *a, const char *path, struct ck_error *err)
{
    int flags = O_PATH | O_DIRECTORY, depth;
    int fd = ck_path_open(a->root, path, flags, a->how | CK_PATH_NO_SYMLINKS);

    a->aliased = fd == -ELOOP;
    if (!a->aliased)
        return fd;
    if (ck_batch_run(a, err) < 0)
        return -ECANCELED; /* err says why */
    fd = ck_path_open(a->root, path, flags, a->how);
    if (fd < 0)
        return fd;
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
    dir = ck_tree_dir(a, path, leaf ? leaf - 1 : 0, true, err);
    if (dir < 0)
        return -ECANCELED;
    error = make_dir(a, dir, path + leaf, 0755, false);
    return error < 0 ? error : 0;
}

static struct ck_slot *find_slot(struct ck_applier *a, const char *path, size_t len, uint32_t hash)
{
    struct ck_slot *slot = &a->slots[hash % CK_SLOTS];

    if (slot->fd < 0 || slot->hash != hash || slot->len != len || memcmp(slot->path, path, len) != 0)
        return NULL;
    return slot;
}

static int keep(struct ck_applier *a, const char *path, size_t len, int fd, struct ck_error *err)
{
    uint32_t hash = ck_hash(path, len);
    struct ck_slot *slot = &a->slots[hash % CK_SLOTS];
    char *copy;

    if (slot->fd >= 0 && slot->batch == a->batch.number && ck_batch_run(a, err) < 0)
        return -ECANCELED; /* waiting files were to go there */
    copy = realloc(slot->path, len + 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, path, len);
    ck_close_at(&slot->fd);
    *slot = (struct ck_slot){fd, a->aliased, hash, a->batch.number, len, copy};
    return fd;
}

int ck_tree_dir(struct ck_applier *a, char *path, size_t len, bool make, struct ck_error *err)
{
    struct ck_slot *slot;
    char after = path[len];
    int fd, kept;

    if (a->stale) {
        if (ck_batch_run(a, err) < 0)
            return -1;
        ck_tree_flush(a);
    }
    a->aliased = false;
    if (!len)
        return a->root;
    slot = find_slot(a, path, len, ck_hash(path, len));
    if (slot) {
        slot->batch = a->batch.number;
        a->aliased = slot->aliased;
        return slot->fd;
    }
    path[len] = 0;
    fd = resolve(a, path, err);
    if ((fd == -ENOENT || fd == -ENOTDIR) && make) {
        fd = ck_batch_run(a, err) < 0 ? -ECANCELED : make_missing(a, path, len, err);
        if (fd == 0)
            fd = resolve(a, path, err);
    }
    kept = fd < 0 ? fd : keep(a, path, len, fd, err);
    if (kept < 0 && fd >= 0)
        ck_close_at(&fd);
    if (kept < 0 && kept != -ECANCELED)
        ck_apply_fail(err, -kept, "open directory", path);
    path[len] = after;
    return kept < 0 ? -1 : kept;
}

/* ---- metadata */

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
        if (!allowed_xattr(name))
            continue;
        error = ck_fsetxattr(fd, name, value, size);
        if (error < 0 && !(error == -EOPNOTSUPP && name[0] == 'u')) /* tmpfs has no user.* */
            return ck_apply_fail(err, -error, "set an extended attribute of", a->name.text);
    }
    return 0;
}

static bool other_owner(const struct ck_applier *a, const struct ck_meta *meta)
{
    return meta->uid != a->euid || meta->gid != a->egid;
}

int ck_tree_finish_file(const struct ck_applier *a, int fd, const struct ck_meta *meta,
                        bool chmod_always)
{
    struct timespec times[2] = {{meta->mtime, meta->nsec}, {meta->mtime, meta->nsec}};
    int error = 0;

    if (other_owner(a, meta))
        error = ck_fchownat(fd, "", meta->uid, meta->gid, AT_EMPTY_PATH);
    if (error == 0 && (chmod_always || meta->mode & 06000)) /* a chown clears set-id bits */
        error = ck_fchmod(fd, meta->mode);
    return error < 0 ? error : ck_utimensat(fd, NULL, times, 0);
}

/* A directory's set-group-id bit would give its group to what is made in it, a missing owner bit
 * would keep an unprivileged caller out, and its time changes with each entry: they come last. */
int ck_tree_mkdir(struct ck_applier *a, int dir, const char *leaf, struct ck_error *err)
{
    struct ck_meta meta = ck_apply_meta(a);
    int was = make_dir(a, dir, leaf, (meta.mode & 01777) | 0700, true);
    int error = was < 0 ? was : 0;

    if (error == 0 && (was || other_owner(a, &meta)))
        error = ck_fchownat(dir, leaf, meta.uid, meta.gid, AT_SYMLINK_NOFOLLOW);
    if (error < 0)
        return ck_apply_fail(err, -error, "make directory", a->name.text);
    if (a->tar.entry.has_xattrs) {
        CK_CLEANUP_FD int fd = ck_openat(dir, leaf, OPEN_DIR, 0);
        if (fd < 0)
            return ck_apply_fail(err, -fd, "open directory", a->name.text);
        if (ck_tree_set_xattrs(a, fd, err) < 0)
            return -1;
    }
    return ck_tree_later(a, was || meta.mode & 06000 || (meta.mode & 0700) != 0700, err);
}

/* ---- what directories get at the end */

struct record {
    int64_t mtime;
    uint32_t nsec, mode, with_mode;
    uint32_t len; /* of the path that follows, with its NUL */
};

int ck_tree_later(struct ck_applier *a, bool with_mode, struct ck_error *err)
{
    struct ck_meta meta = ck_apply_meta(a);
    struct record record = {meta.mtime, meta.nsec, meta.mode, with_mode,
                            (uint32_t)a->name.len + 1};
    size_t need = a->dirs_used + sizeof record + record.len;

    if (need > DIRS_MAX)
        return ck_tar_bad(&a->tar, err, "too many directories");
    if (need > a->dirs_cap) {
        size_t cap = need * 2;
        uint8_t *grown = realloc(a->dirs, cap);
        if (!grown)
            return ck_apply_fail(err, ENOMEM, "remember directory", a->name.text);
        a->dirs = grown;
        a->dirs_cap = cap;
    }
    memcpy(a->dirs + a->dirs_used, &record, sizeof record);
    memcpy(a->dirs + a->dirs_used + sizeof record, a->name.text, record.len);
    a->dirs_used = need;
    return 0;
}

static int settle_one(int dir, const char *leaf, const struct record *record)
{
    struct timespec times[2] = {{record->mtime, record->nsec}, {record->mtime, record->nsec}};
    CK_CLEANUP_FD int fd = -1;
    struct stat st;
    int error;

    if (!record->with_mode) {
        error = ck_fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW);
        if (error < 0 || !S_ISDIR(st.st_mode)) /* replaced since by something else */
            return error == -ENOENT ? 0 : error;
        return ck_utimensat(dir, leaf, times, AT_SYMLINK_NOFOLLOW);
    }
    fd = ck_openat(dir, leaf, OPEN_DIR, 0);
    if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
        return 0;
    error = fd < 0 ? fd : ck_utimensat(fd, NULL, times, 0);
    return error < 0 ? error : ck_fchmod(fd, record->mode);
}

int ck_tree_settle(struct ck_applier *a, struct ck_error *err)
{
    size_t at = 0;

    while (at < a->dirs_used) {
        char *path, *leaf;
        struct record record;
        struct ck_error ignored;
        int dir, error;

        memcpy(&record, a->dirs + at, sizeof record);
        path = (char *)a->dirs + at + sizeof record;
        at += sizeof record + record.len;
        leaf = strrchr(path, '/');
        dir = ck_tree_dir(a, path, leaf ? (size_t)(leaf - path) : 0, false, &ignored);
        if (dir < 0)
            continue; /* removed since by a later entry */
        leaf = leaf ? leaf + 1 : *path ? path : ".";
        error = settle_one(dir, leaf, &record);
        if (error < 0)
            return ck_apply_fail(err, -error, "set mode and time of directory", path);
    }
    return 0;
}
