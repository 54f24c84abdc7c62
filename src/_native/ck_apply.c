/* Applies a tar stream to a directory.  No path of the archive is ever used except through
 * ck_path_open beneath the root, or one name at a time without following links; leaves are made
 * with O_EXCL or by calls that follow none. */
#include <stdlib.h>
#include <sys/sysmacros.h>

#include "ck_path.h"
#include "ck_sys_ns.h"
#include "ck_tar.h"

#define WHITEOUT      ".wh."
#define WHITEOUT_META ".wh..wh." /* aufs kept its own files under this prefix */
#define OPAQUE        ".wh..wh..opq"
#define DIRS_MAX      256        /* two appliers fit in a soft limit of 1024 open files */
#define LATER_MAX     (64 << 20) /* bytes: some 250,000 directories */
#define OPEN_DIR      (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
#define FIND_DIR      (O_PATH | O_DIRECTORY | O_NOFOLLOW)

struct dir {    /* one on the way from the root down to where the last entry went */
    int fd;     /* O_PATH */
    int depth;  /* below the root, links resolved */
    size_t len; /* of its path */
};

/* A path from the archive in plain form: no leading, double or trailing slash, no dot. */
struct name {
    char path[CK_TAR_PATH], parent[CK_TAR_PATH];
    char *leaf; /* in path */
};

struct ck_applier {
    struct ck_apply_options options;
    struct ck_apply_result *result; /* the caller's */
    struct ck_tar tar;
    struct name name, source; /* of the present entry; of a hard link's target */
    unsigned how;             /* CK_PATH_* */
    bool stale, own_umask;    /* dirs may be wrong; this thread has a umask of 0 */
    uid_t euid;
    gid_t egid;
    int root, file;         /* file: takes the data, -1: the data is skipped */
    uint64_t data, padding; /* bytes of the present entry still to come */
    uint64_t implied;       /* directories made that no entry named */
    FILE *later;            /* what directories get at the end: their entry, their path, … */
    char *later_data;
    size_t later_size;
    struct dir dirs[DIRS_MAX]; /* the first is the root */
    unsigned n_dirs;
    char dirs_path[CK_TAR_PATH];
};

/* ---- names */

/* Bring a path of the archive into plain form; an absolute one counts from the layer's root.
 * Returns 1 when it names what aufs kept for itself. */
static int clean(struct ck_applier *a, const char *raw, struct name *name)
{
    char *end = name->path;
    unsigned depth = 0;
    int hidden = 0;
    size_t len;

    name->leaf = end;
    for (*end = 0; *(raw += strspn(raw, "/")); raw += len) {
        len = strcspn(raw, "/");
        if (len == 1 && raw[0] == '.')
            continue;
        if (len == 2 && raw[0] == '.' && raw[1] == '.')
            return ck_tar_fail(&a->tar, CK_E_UNSAFE, 0, "its path or link has a `..` in it");
        if (++depth > a->options.max_depth)
            return ck_tar_fail(&a->tar, CK_E_LIMIT, 0, "too many directories below each other");
        if (ck_begins(name->leaf, WHITEOUT) && !hidden)
            return ck_tar_bad(&a->tar, "it lies below a whiteout");
        if (end > name->path)
            *end++ = '/';
        name->leaf = memcpy(end, raw, len);
        end += len;
        *end = 0;
        hidden |= ck_begins(name->leaf, WHITEOUT_META) && strcmp(name->leaf, OPAQUE) != 0;
    }
    len = name->leaf > name->path ? (size_t)(name->leaf - name->path) - 1 : 0;
    memcpy(name->parent, name->path, len);
    name->parent[len] = 0;
    return hidden;
}

/* ---- metadata */

/* Owner, mode and time of an entry, for leaf of at, or for at itself when leaf is "". */
static int dress(const struct ck_applier *a, const struct ck_tar_entry *e, int at, const char *leaf)
{
    const struct timespec time = {e->mtime, e->mtime_nsec}, times[2] = {time, time};
    int flags = *leaf ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH;
    const bool own = a->options.flags & CK_APPLY_OWN_IDS; /* who owns all enters every directory */
    mode_t mode = (mode_t)e->mode | (own && e->type == '5' ? 0700 : 0);
    struct stat st = {.st_uid = a->euid, .st_gid = a->egid, .st_mode = mode};

    if (!a->own_umask || e->type == '5') /* else it was made just now, and is as it was made */
        CK_TRY(ck_fstatat(at, leaf, &st, flags));
    if (!own && (st.st_uid != e->uid || st.st_gid != e->gid))
        CK_TRY(ck_fchownat(at, leaf, (uid_t)e->uid, (gid_t)e->gid, flags));
    if (e->type != '2' && ((st.st_mode & 07777) != mode || mode & 06000)) /* a chown clears these */
        CK_TRY(*leaf ? ck_fchmodat(at, leaf, mode) : ck_fchmod(at, mode));
    return ck_utimensat(at, *leaf ? leaf : NULL, times, *leaf ? flags : 0);
}

static int set_xattrs(const struct ck_applier *a, int fd)
{
    size_t cursor = 0, size = 0, total = 0;
    char *key = NULL, *value = NULL;

    /* before the file system says that it is full */
    while (a->tar.entry.has_xattrs && ck_tar_record(&a->tar, &cursor, &key, &value, &size) > 0)
        total += ck_begins(key, CK_TAR_XATTR) ? strlen(key) - strlen(CK_TAR_XATTR) + size : 0;
    if (total > a->options.max_xattr_bytes)
        return -E2BIG;
    for (cursor = 0; total && ck_tar_record(&a->tar, &cursor, &key, &value, &size) > 0;) {
        bool user = ck_begins(key, CK_TAR_XATTR "user.") &&
                    !ck_begins(key, CK_TAR_XATTR "user.overlay."); /* would forge whiteouts */
        int error;

        if (!user && (strcmp(key, CK_TAR_XATTR "security.capability") != 0 ||
                      a->options.flags & CK_APPLY_OWN_IDS))
            continue;
        error = ck_fsetxattr(fd, key + strlen(CK_TAR_XATTR), value, size);
        if (error == -EINVAL || error == -ERANGE)
            return -EBADMSG;               /* no set of capabilities, or no name */
        if (error != -EOPNOTSUPP || !user) /* an old tmpfs has no user.* */
            CK_TRY(error);
    }
    return 0;
}

/* ---- directories */

static int clear(struct ck_applier *a, int dir, const char *leaf)
{
    int error = ck_unlinkat(dir, leaf, 0);

    a->stale = true; /* we may be below it, or behind it when it was a link */
    return error == -EISDIR ? a->options.remove_tree(dir, leaf) : error;
}

static int set_opaque(const struct ck_applier *a, int dir, const char *leaf)
{
    bool user = a->options.flags & CK_APPLY_USER_XATTRS;

    CK_OPEN(fd, ck_openat(dir, leaf, OPEN_DIR, 0));
    return ck_fsetxattr(fd, user ? "user.overlay.opaque" : "trusted.overlay.opaque", "y", 1);
}

static void leave(struct ck_applier *a, unsigned keep)
{
    while (a->n_dirs > keep)
        ck_close(a->dirs[--a->n_dirs].fd);
    a->stale = false;
}

static bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

/* Make leaf when it is missing; a whiteout of this layer becomes a directory that hides the lower
 * one, and with `replace` anything else does too. */
static int make_dir(struct ck_applier *a, int dir, const char *leaf, bool replace)
{
    struct stat st;
    int error = ck_mkdirat(dir, leaf, 0755);

    if (error != -EEXIST)
        return error;
    CK_TRY(ck_fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW));
    if (S_ISDIR(st.st_mode))
        return 0;
    if (!is_whiteout(&st) && !replace)
        return -ENOTDIR;
    CK_TRY(clear(a, dir, leaf));
    CK_TRY(ck_mkdirat(dir, leaf, 0755));
    return set_opaque(a, dir, leaf); /* whatever lower one it was that this layer hid */
}

/* Open the directory that is to follow in dirs, made when it is missing. */
static int open_dir(struct ck_applier *a, struct dir *dir, const char *leaf)
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

/* The directory at path, made when it is missing; it is open until the next call. */
static int find_dir(struct ck_applier *a, const char *path)
{
    unsigned keep = 1;

    for (size_t len; !a->stale && keep < a->n_dirs; keep++) {
        len = a->dirs[keep].len;
        if (strncmp(path, a->dirs_path, len) != 0 || (path[len] && path[len] != '/'))
            break;
    }
    leave(a, keep);
    for (;;) {
        struct dir *dir = &a->dirs[a->n_dirs];
        size_t start = dir[-1].len + (path[dir[-1].len] == '/');

        dir->len = start + strcspn(path + start, "/");
        if (dir->len == start)
            return dir[-1].fd;
        if (a->n_dirs == DIRS_MAX)
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

/* The directory that the present entry says, at leaf of dir; dir itself when leaf is "". */
static int enter_dir(struct ck_applier *a, int dir, const char *leaf)
{
    if (*leaf)
        CK_TRY(make_dir(a, dir, leaf, true));
    if (a->tar.entry.has_xattrs) {
        CK_OPEN(fd, ck_openat(dir, *leaf ? leaf : ".", OPEN_DIR, 0));
        CK_TRY(set_xattrs(a, fd));
    }
    fwrite(&a->tar.entry, sizeof a->tar.entry, 1, a->later);
    fwrite(a->name.path, strlen(a->name.path) + 1, 1, a->later);
    return ferror(a->later) ? -ENOMEM : ftell(a->later) > LATER_MAX ? -E2BIG : 0;
}

static int settle(struct ck_applier *a)
{
    const char *end, *path;
    struct ck_tar_entry entry;

    if (fflush(a->later)) /* which sets data and size */
        return -ENOMEM;
    end = a->later_data + a->later_size;
    for (const char *at = a->later_data; at < end; at = path + strlen(path) + 1) {
        CK_CLEANUP_FD int fd = -1;

        memcpy(&entry, at, sizeof entry);
        a->tar.entry.path = path = at + sizeof entry;
        if (!*path) /* as in Docker, whose containers have a root directory of their own */
            entry.mode |= 0755;
        fd = ck_path_open(a->root, *path ? path : ".", OPEN_DIR, a->how);
        if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
            continue; /* a later entry put something else there */
        CK_TRY(fd);
        CK_TRY(dress(a, &entry, fd, ""));
    }
    return 0;
}

/* ---- the kinds of entries; each gets its parent's descriptor and its name there */

static int make_whiteout(struct ck_applier *a, int dir, const char *leaf)
{
    const char *hidden = leaf + strlen(WHITEOUT);
    struct stat st;
    int error;

    if (!strcmp(leaf, OPAQUE))
        return set_opaque(a, dir, ".");
    /* image-spec, Whiteouts: only lower layers are hidden; what this layer brings itself stays, a
     * directory without the lower one's content */
    error = ck_fstatat(dir, hidden, &st, AT_SYMLINK_NOFOLLOW);
    if (error == -ENOENT)
        return ck_mknodat(dir, hidden, S_IFCHR, 0);
    return error == 0 && S_ISDIR(st.st_mode) ? set_opaque(a, dir, hidden) : error;
}

/* -EEXIST when dir/leaf is something else than the file it shall be. */
static int make_link(const struct ck_applier *a, int dir, const char *leaf)
{
    const struct name *source = &a->source;
    const char *parent = *source->parent ? source->parent : ".";
    /* not from the cache: dir is in it and must stay */
    struct stat there, here;
    int error;

    CK_OPEN(from, ck_path_open(a->root, parent, O_PATH | O_DIRECTORY, a->how));
    CK_TRY(ck_fstatat(from, source->leaf, &there, AT_SYMLINK_NOFOLLOW));
    if (S_ISDIR(there.st_mode) || is_whiteout(&there)) /* which is no file of the layer's */
        return S_ISDIR(there.st_mode) ? -EISDIR : -ENOENT;
    error = ck_linkat(from, source->leaf, dir, leaf, 0);
    if (error == -EEXIST && ck_fstatat(dir, leaf, &here, AT_SYMLINK_NOFOLLOW) == 0 &&
        there.st_ino == here.st_ino)
        error = 0;
    return error;
}

/* Make what the entry says, empty; a->file is opened for a file. */
static int make(struct ck_applier *a, int dir, const char *leaf)
{
    static const mode_t kinds[] = {['3'] = S_IFCHR, ['4'] = S_IFBLK, ['6'] = S_IFIFO};
    const struct ck_tar_entry *e = &a->tar.entry;

    switch (e->type) {
    case '0': /* a set-id bit comes after the chown */
        a->file = ck_openat(dir, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, e->mode & 01777);
        return a->file < 0 ? a->file : 0;
    case '1':
        return make_link(a, dir, leaf);
    case '2':
        return ck_symlinkat(e->link, dir, leaf);
    default:
        return ck_mknodat(dir, leaf, kinds[(int)e->type] | (mode_t)e->mode,
                          makedev((unsigned)e->dev_major, (unsigned)e->dev_minor));
    }
}

static int enter(struct ck_applier *a)
{
    const struct ck_tar_entry *e = &a->tar.entry;
    const char *leaf = a->name.leaf;
    int dir, error;

    CK_TRY(dir = find_dir(a, a->name.parent));
    if (ck_begins(leaf, WHITEOUT))
        return make_whiteout(a, dir, leaf);
    if (e->type == '5')
        return enter_dir(a, dir, leaf);
    error = make(a, dir, leaf);
    if (error == -EEXIST) { /* of an earlier entry: the later one wins */
        CK_TRY(clear(a, dir, leaf));
        error = make(a, dir, leaf);
    }
    if (error == -EPERM && (e->type == '3' || e->type == '4') &&
        (a->options.flags & CK_APPLY_USER_XATTRS))
        return 0; /* a user namespace makes no devices, and a container could not use them */
    return error < 0 || e->type < '2' ? error : dress(a, e, dir, leaf);
}

/* ---- the stream */

static int begin_entry(struct ck_applier *a)
{
    const struct ck_tar_entry *e = &a->tar.entry;
    const char *leaf;
    int hidden, error;

    a->data = e->sparse ? 0 : (uint64_t)e->size;
    a->padding = -a->data % CK_TAR_BLOCK;
    a->result->entries++;
    if (a->data > a->options.max_bytes - a->result->bytes)
        return ck_tar_fail(&a->tar, CK_E_LIMIT, 0, "the layer's files are too large together");
    a->result->bytes += a->data;
    hidden = clean(a, e->path, &a->name);
    if (hidden < 0 || (e->type == '1' && clean(a, e->link, &a->source) < 0))
        return -1;
    leaf = a->name.leaf;
    if (!*leaf && e->type != '5')
        return ck_tar_fail(&a->tar, CK_E_UNSAFE, 0, "the root is not a directory");
    if (!strcmp(leaf, WHITEOUT) || !strcmp(leaf, WHITEOUT ".") || !strcmp(leaf, WHITEOUT ".."))
        return ck_tar_fail(&a->tar, CK_E_UNSAFE, 0, "a whiteout of no name");
    error = hidden ? 0 : enter(a);
    if (error < 0)
        return ck_tar_fail(&a->tar, CK_E_OS, error,
                           e->type == '1' ? "cannot link it" : "cannot make it");
    if (a->result->entries + a->implied > a->options.max_entries)
        return ck_tar_fail(&a->tar, CK_E_LIMIT, 0, "the layer has too many entries");
    return 0;
}

static int end_file(struct ck_applier *a)
{
    CK_CLEANUP_FD int fd = ck_steal_fd(&a->file);

    CK_TRY(dress(a, &a->tar.entry, fd, ""));
    return set_xattrs(a, fd); /* after the chown, which clears capabilities */
}

/* Leave the file of the present entry to the caller. */
static int ask(struct ck_applier *a, size_t left)
{
    a->result->left = left;
    a->result->file = a->file;
    a->result->size = (uint64_t)a->tar.entry.size;
    a->result->header = a->tar.block;
    a->result->records = a->tar.text[CK_TAR_PAX].data;
    a->result->records_size = a->tar.text[CK_TAR_PAX].size;
    return 1;
}

static int feed(struct ck_applier *a, const uint8_t *at, size_t left)
{
    for (;;) {
        uint64_t *due = a->data ? &a->data : &a->padding;
        size_t take = *due < left ? (size_t)*due : left;
        int error = 0, got;

        if (a->file >= 0 && !a->data) {
            error = end_file(a);
        } else if (!left) {
            return 0;
        } else if (take) {
            if (a->file >= 0 && due == &a->data)
                error = ck_write_all(a->file, at, take);
            *due -= take;
            at += take;
            left -= take;
        } else {
            CK_TRY(got = ck_tar_next(&a->tar, &at, &left));
            if (got)
                CK_TRY(begin_entry(a));
            if (got && a->tar.entry.sparse)
                return ask(a, left);
        }
        if (error < 0)
            return ck_tar_fail(&a->tar, CK_E_OS, error, "cannot write it");
    }
}

static int finish(struct ck_applier *a)
{
    int error;

    if (a->data || a->padding)
        return ck_tar_bad(&a->tar, "the archive ends inside this entry");
    CK_TRY(ck_tar_finish(&a->tar));
    error = settle(a);
    return error < 0 ? ck_tar_fail(&a->tar, CK_E_OS, error, "cannot set its metadata") : 0;
}

int ck_apply_feed(struct ck_applier *a, const void *buf, size_t len)
{
    int done;

    a->own_umask = ck_unshare(CLONE_FS) == 0; /* some seccomp filters refuse */
    if (a->own_umask)
        ck_umask(0);
    done = buf ? feed(a, buf, len) : finish(a);
    a->result->entry = a->tar.entry.path;
    return done;
}

struct ck_applier *ck_apply_new(int root, const struct ck_apply_options *options,
                                struct ck_apply_result *result)
{
    struct ck_applier *a = calloc(1, sizeof *a);

    if (!a)
        return NULL;
    a->options = *options;
    a->result = result;
    a->tar.err = &result->err;
    a->tar.meta_max = options->max_meta_bytes;
    a->how = options->flags & CK_APPLY_NO_OPENAT2 ? CK_PATH_WALK : 0;
    a->euid = ck_geteuid();
    a->egid = ck_getegid();
    a->file = -1;
    a->root = a->dirs[0].fd = root;
    a->n_dirs = 1;
    a->later = open_memstream(&a->later_data, &a->later_size);
    if (a->later)
        return a;
    free(a);
    return NULL;
}

void ck_apply_free(struct ck_applier *a)
{
    leave(a, 1);
    fclose(a->later);
    free(a->later_data);
    ck_close_at(&a->file);
    ck_tar_free(&a->tar);
    free(a);
}
