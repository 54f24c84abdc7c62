#define _GNU_SOURCE
#include "ck_apply.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "ck_path.h"
#include "ck_sys.h"
#include "ck_sys_ns.h"

#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh." /* aufs kept its own files under this prefix */
#define OPAQUE ".wh..wh..opq"
#define BATCHED_MAX (128u << 10)
#define OVERHEAD_MIN (16u << 20) /* headers and padding may be this large in any archive */

int ck_apply_fail(struct ck_error *err, int errnum, const char *verb, const char *path)
{
    bool archive = errnum == ENAMETOOLONG || errnum == ELOOP || errnum == ENOTDIR ||
                   errnum == ENOENT || errnum == EISDIR;

    return ck_fail(err, archive ? CK_E_ARCHIVE : CK_E_OS, errnum, "%s %.400s", verb, path);
}

struct ck_meta ck_apply_meta(const struct ck_applier *a)
{
    const struct ck_tar_entry *e = &a->tar.entry;

    return (struct ck_meta){e->mode, e->uid, e->gid, e->mtime_nsec, e->mtime};
}

static int bad(const struct ck_applier *a, struct ck_error *err, const char *why)
{
    return ck_tar_bad(&a->tar, err, why);
}

static int unsafe(const struct ck_applier *a, struct ck_error *err, const char *why)
{
    bad(a, err, why);
    err->code = CK_E_UNSAFE;
    return -1;
}

static bool begins(const char *text, const char *prefix)
{
    return !strncmp(text, prefix, strlen(prefix));
}

/* Bring a path of the archive into plain form; an absolute one counts from the layer's root. */
static int clean(const struct ck_applier *a, const char *raw, struct ck_name *name,
                 struct ck_error *err)
{
    name->len = name->leaf = name->depth = 0;
    name->hidden = false;
    while (*(raw += strspn(raw, "/"))) {
        size_t len = strcspn(raw, "/");

        if (len == 2 && raw[0] == '.' && raw[1] == '.')
            return unsafe(a, err, "its path or link has a `..` in it");
        if (len > NAME_MAX)
            return bad(a, err, "a name longer than 255 bytes");
        if (len > 1 || raw[0] != '.') {
            if (name->len) {
                if (begins(name->text + name->leaf, WHITEOUT_META))
                    name->hidden = true;
                else if (begins(name->text + name->leaf, WHITEOUT))
                    return bad(a, err, "it lies below a whiteout");
                name->text[name->len++] = '/';
            }
            name->leaf = name->len;
            memcpy(name->text + name->len, raw, len);
            name->len += len;
            name->text[name->len] = 0;
            if (++name->depth > a->options.max_depth)
                return bad(a, err, "too many directories below each other");
        }
        raw += len;
    }
    name->text[name->len] = 0;
    return 0;
}

static int parent_of(struct ck_applier *a, struct ck_name *name, bool make, struct ck_error *err)
{
    return ck_tree_dir(a, name->text, name->leaf ? name->leaf - 1 : 0, make, err);
}

/* ---- the kinds of entries; each gets the parent's descriptor and the leaf's name */

static int enter_whiteout(struct ck_applier *a, int dir, const char *leaf, struct ck_error *err)
{
    const char *hidden = leaf + strlen(WHITEOUT);
    struct stat st;
    int error;

    if (!strcmp(leaf, OPAQUE)) {
        error = ck_tree_set_opaque(a, dir, ".");
        return error < 0 ? ck_apply_fail(err, -error, "mark opaque", a->name.text) : 0;
    }
    if (!*hidden || !strcmp(hidden, ".") || !strcmp(hidden, ".."))
        return unsafe(a, err, "a whiteout of no name");
    /* image-spec, Whiteouts: only lower layers are hidden; what this layer brings itself stays, a
     * directory without the lower one's content */
    error = ck_fstatat(dir, hidden, &st, AT_SYMLINK_NOFOLLOW);
    if (error == -ENOENT)
        error = ck_mknodat(dir, hidden, S_IFCHR, 0);
    else if (error == 0 && S_ISDIR(st.st_mode))
        error = ck_tree_set_opaque(a, dir, hidden);
    return error < 0 ? ck_apply_fail(err, -error, "make whiteout", a->name.text) : 0;
}

static int enter_hard_link(struct ck_applier *a, int dir, const char *leaf, struct ck_error *err)
{
    CK_CLEANUP_FD int source = -1;
    struct stat from, to;
    const char *target;
    int from_dir, error;

    if (clean(a, a->tar.entry.link, &a->source, err) < 0)
        return -1;
    if (!a->source.len)
        return unsafe(a, err, "a hard link to the root");
    target = a->source.text + a->source.leaf;
    if (a->source.leaf) { /* not from the cache: dir is in it and must stay */
        a->source.text[a->source.leaf - 1] = 0;
        source = ck_path_open(a->root, a->source.text, O_PATH | O_DIRECTORY, a->how);
        a->source.text[a->source.leaf - 1] = '/';
    }
    from_dir = a->source.leaf ? source : a->root;
    error = from_dir < 0 ? from_dir : ck_linkat(from_dir, target, dir, leaf, 0);
    if (error == -EEXIST) {
        error = ck_fstatat(from_dir, target, &from, AT_SYMLINK_NOFOLLOW);
        if (error == 0)
            error = ck_fstatat(dir, leaf, &to, AT_SYMLINK_NOFOLLOW);
        if (error == 0 && from.st_ino == to.st_ino)
            return 0;
        if (error == 0)
            error = ck_tree_clear(a, dir, leaf);
        if (error == 0)
            error = ck_linkat(from_dir, target, dir, leaf, 0);
    }
    if (error == -EPERM) /* of a directory */
        error = -EISDIR;
    return error < 0 ? ck_apply_fail(err, -error, "link to", a->source.text) : 0;
}

static int make_special(const struct ck_applier *a, int dir, const char *leaf)
{
    static const mode_t kinds[] = {S_IFCHR, S_IFBLK, 0, S_IFIFO}; /* '3' to '6' */
    const struct ck_tar_entry *e = &a->tar.entry;

    if (e->type == '2')
        return ck_symlinkat(e->link, dir, leaf);
    return ck_mknodat(dir, leaf, kinds[e->type - '3'] | e->mode,
                      e->type == '6' ? 0 : makedev(e->dev_major, e->dev_minor));
}

/* Symbolic links, devices, fifos. */
static int enter_special(struct ck_applier *a, int dir, const char *leaf, struct ck_error *err)
{
    struct ck_meta meta = ck_apply_meta(a);
    struct timespec times[2] = {{meta.mtime, meta.nsec}, {meta.mtime, meta.nsec}};
    bool link = a->tar.entry.type == '2';
    int error;

    if (link && !*a->tar.entry.link)
        return bad(a, err, "a symbolic link to nothing");
    error = make_special(a, dir, leaf);
    if (error == -EEXIST) {
        error = ck_tree_clear(a, dir, leaf);
        if (error == 0)
            error = make_special(a, dir, leaf);
    }
    if (error == -EPERM && !link && (a->options.flags & CK_APPLY_USER_XATTRS))
        return 0; /* a user namespace makes no devices, and a container would not get to use them */
    if (error == 0 && (meta.uid != a->euid || meta.gid != a->egid))
        error = ck_fchownat(dir, leaf, meta.uid, meta.gid, AT_SYMLINK_NOFOLLOW);
    if (error == 0 && !link && (a->chmod_always || meta.mode & 06000))
        error = ck_fchmodat(dir, leaf, meta.mode); /* made just now: not a link */
    if (error == 0)
        error = ck_utimensat(dir, leaf, times, AT_SYMLINK_NOFOLLOW);
    return error < 0 ? ck_apply_fail(err, -error, "make", a->name.text) : 0;
}

/* A file that is large, sparse, or has attributes: its data is written as it arrives. */
static int open_file(struct ck_applier *a, int dir, const char *leaf, struct ck_error *err)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
    mode_t mode = a->tar.entry.mode & 01777;
    int error = 0;

    a->file = ck_openat(dir, leaf, flags, mode);
    if (a->file == -EEXIST) {
        error = ck_tree_clear(a, dir, leaf);
        a->file = error < 0 ? error : ck_openat(dir, leaf, flags, mode);
    }
    a->segment = 0;
    a->segment_done = 0;
    return a->file < 0 ? ck_apply_fail(err, -a->file, "create", a->name.text) : 0;
}

static int close_file(struct ck_applier *a, struct ck_error *err)
{
    CK_CLEANUP_FD int fd = ck_steal_fd(&a->file);
    struct ck_meta meta = ck_apply_meta(a);
    int error = 0;

    if (fd < 0)
        return 0;
    if (a->tar.entry.sparse)
        error = ck_ftruncate(fd, (off_t)a->tar.entry.real_size);
    if (error == 0)
        error = ck_tree_finish_file(a, fd, &meta, a->chmod_always);
    if (error < 0)
        return ck_apply_fail(err, -error, "write", a->name.text);
    return ck_tree_set_xattrs(a, fd, err); /* after the chown, which clears capabilities */
}

/* ---- the stream */

static int write_data(struct ck_applier *a, const uint8_t *at, size_t len, struct ck_error *err)
{
    const struct ck_tar_entry *e = &a->tar.entry;
    int error = 0;

    if (a->file >= 0 && !e->sparse)
        error = ck_write_all(a->file, at, len);
    while (a->file >= 0 && e->sparse && len && error == 0) {
        const struct ck_tar_segment *s = &e->segments[a->segment];
        uint64_t due = s->length - a->segment_done;
        ssize_t done;

        if (!due) {
            a->segment++; /* the parser made sure that the segments hold all data */
            a->segment_done = 0;
            continue;
        }
        done = ck_pwrite(a->file, at, due < len ? (size_t)due : len,
                         (off_t)(s->offset + a->segment_done));
        if (done < 0) {
            error = (int)done;
            break;
        }
        at += done;
        len -= (size_t)done;
        a->segment_done += (uint64_t)done;
    }
    return error < 0 ? ck_apply_fail(err, -error, "write", a->name.text) : 0;
}

static int enter_root(struct ck_applier *a, struct ck_error *err)
{
    struct ck_meta meta = ck_apply_meta(a);
    int error;

    if (a->tar.entry.type != '5')
        return unsafe(a, err, "the root is not a directory");
    error = ck_fchownat(a->root, "", meta.uid, meta.gid, AT_EMPTY_PATH);
    if (error < 0)
        return ck_apply_fail(err, -error, "change the owner of", "/");
    if (a->tar.entry.has_xattrs && ck_tree_set_xattrs(a, a->root, err) < 0)
        return -1;
    return ck_tree_later(a, true, err);
}

static int enter(struct ck_applier *a, const uint8_t **at, size_t *left, struct ck_error *err)
{
    const struct ck_tar_entry *e = &a->tar.entry;
    const char *leaf = a->name.text + a->name.leaf;
    bool whiteout = begins(leaf, WHITEOUT);
    int dir;

    if (a->name.hidden || (begins(leaf, WHITEOUT_META) && strcmp(leaf, OPAQUE) != 0))
        return 0;
    if (!a->name.len)
        return enter_root(a, err);
    if (whiteout || e->type == '1' ? ck_batch_run(a, err) < 0
                                   : ck_batch_guard(a, &a->name, err) < 0)
        return -1;
    dir = parent_of(a, &a->name, true, err);
    if (dir < 0)
        return -1;
    if (whiteout)
        return enter_whiteout(a, dir, leaf, err);
    switch (e->type) {
    case '0':
        if (e->size > *left || e->size > BATCHED_MAX || e->sparse || e->has_xattrs)
            return open_file(a, dir, leaf, err);
        a->data = 0;
        *at += e->size;
        *left -= e->size;
        return ck_batch_add(a, dir, *at - e->size, e->size, err);
    case '1':
        return enter_hard_link(a, dir, leaf, err);
    case '5':
        return ck_tree_mkdir(a, dir, leaf, err);
    default:
        return enter_special(a, dir, leaf, err);
    }
}

static int count_entry(struct ck_applier *a, struct ck_error *err)
{
    const struct ck_tar_entry *e = &a->tar.entry;

    a->data = e->size;
    a->padding = (CK_TAR_BLOCK - e->size % CK_TAR_BLOCK) % CK_TAR_BLOCK;
    if (++a->result.entries > a->options.max_entries)
        return bad(a, err, "the layer has too many entries");
    if (e->real_size > a->options.max_bytes - a->result.bytes)
        return bad(a, err, "the layer's files are too large together");
    a->result.bytes += e->real_size;
    return clean(a, e->path, &a->name, err);
}

static int feed(struct ck_applier *a, const uint8_t *at, size_t left, struct ck_error *err)
{
    while (left) {
        size_t before = left;
        int got = 0;

        if (a->data) {
            size_t take = a->data < left ? (size_t)a->data : left;
            if (write_data(a, at, take, err) < 0)
                return -1;
            a->data -= take;
            at += take;
            left -= take;
        } else if (a->padding) {
            size_t take = a->padding < left ? (size_t)a->padding : left;
            a->padding -= take;
            at += take;
            left -= take;
        } else {
            got = ck_tar_next(&a->tar, &at, &left, err);
            a->overhead += before - left;
            if (got < 0 ||
                (got && (count_entry(a, err) < 0 || enter(a, &at, &left, err) < 0)))
                return -1;
            if (a->overhead > a->options.max_bytes && a->overhead > OVERHEAD_MIN)
                return bad(a, err, "the layer's headers, or what follows its end, are too large");
        }
        if (!a->data && a->file >= 0 && close_file(a, err) < 0)
            return -1;
    }
    return ck_batch_run(a, err);
}

/* ---- the API */

/* One call into the applier, with a umask of its own. */
static int guarded(struct ck_applier *a, const void *buf, size_t len, struct ck_error *err)
{
    mode_t before;
    int done = -1;

    if (a->failed)
        return ck_fail(err, CK_E_ARCHIVE, 0, "the applier has failed before");
    a->chmod_always = ck_unshare(CLONE_FS) < 0;
    before = a->chmod_always ? 0 : ck_umask(0);
    if (buf)
        done = feed(a, buf, len, err);
    else if (a->data || a->padding)
        bad(a, err, "the archive ends inside this entry");
    else if (ck_tar_finish(&a->tar, err) == 0)
        done = ck_tree_settle(a, err);
    if (!a->chmod_always)
        ck_umask(before);
    a->failed = done < 0 || !buf;
    return done;
}

int ck_apply_feed(struct ck_applier *applier, const void *buf, size_t len, struct ck_error *err)
{
    return len ? guarded(applier, buf, len, err) : 0;
}

int ck_apply_finish(struct ck_applier *applier, struct ck_apply_result *result,
                    struct ck_error *err)
{
    int done = guarded(applier, NULL, 0, err);

    *result = applier->result;
    return done;
}

const char *ck_apply_entry(const struct ck_applier *applier)
{
    return applier->tar.path;
}

struct ck_applier *ck_apply_new(int dirfd, const struct ck_apply_options *options,
                                struct ck_error *err)
{
    struct ck_applier *a = calloc(1, sizeof *a);
    int error;

    if (!a) {
        ck_fail(err, CK_E_OS, ENOMEM, "allocate the applier");
        return NULL;
    }
    a->options = *options;
    a->tar.meta_max = options->max_meta_bytes;
    a->how = options->flags & CK_APPLY_NO_OPENAT2 ? CK_PATH_WALK : 0;
    a->euid = ck_geteuid();
    a->egid = ck_getegid();
    a->file = -1;
    for (unsigned i = 0; i < CK_SLOTS; i++)
        a->slots[i].fd = -1;
    a->root = ck_openat(dirfd, ".", O_RDONLY | O_DIRECTORY, 0);
    error = a->root < 0 ? a->root : ck_fchownat(a->root, "", a->euid, a->egid, AT_EMPTY_PATH);
    if (error == 0) /* a set-group-id bit would give its group to everything */
        error = ck_fchmod(a->root, 0755);
    if (error == 0) {
        ck_batch_start(a);
        return a;
    }
    ck_fail(err, CK_E_OS, -error, "open the destination");
    ck_apply_free(a);
    return NULL;
}

void ck_apply_free(struct ck_applier *applier)
{
    if (!applier)
        return;
    ck_batch_stop(applier);
    ck_tree_flush(applier);
    for (unsigned i = 0; i < CK_SLOTS; i++)
        free(applier->slots[i].path);
    ck_close_at(&applier->file);
    ck_close_at(&applier->root);
    ck_tar_free(&applier->tar);
    free(applier->dirs);
    free(applier);
}
