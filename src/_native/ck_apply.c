#include "ck_apply.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

#include "ck_sys_ns.h"

#define WHITEOUT      ".wh."
#define WHITEOUT_META ".wh..wh." /* aufs kept its own files under this prefix */
#define OPAQUE        ".wh..wh..opq"

static int fail(const struct ck_applier *a, struct ck_error *err, int code, int error,
                const char *why)
{
    ck_tar_bad(&a->tar, err, why);
    err->code = code;
    err->errnum = -error;
    return -1;
}

/* ---- names */

/* Bring a path of the archive into plain form; an absolute one counts from the layer's root.
 * Returns 1 when it names what aufs kept for itself. */
static int clean(const struct ck_applier *a, const char *raw, struct ck_name *name,
                 struct ck_error *err)
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
            return fail(a, err, CK_E_UNSAFE, 0, "its path or link has a `..` in it");
        if (++depth > a->options.max_depth)
            return ck_tar_bad(&a->tar, err, "too many directories below each other");
        if (ck_begins(name->leaf, WHITEOUT) && !hidden)
            return ck_tar_bad(&a->tar, err, "it lies below a whiteout");
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

/* ---- the kinds of entries; each gets its parent's descriptor and its name there */

static int make_whiteout(struct ck_applier *a, int dir, const char *leaf)
{
    const char *hidden = leaf + strlen(WHITEOUT);
    struct stat st;
    int error;

    if (!strcmp(leaf, OPAQUE))
        return ck_tree_set_opaque(a, dir, ".");
    /* image-spec, Whiteouts: only lower layers are hidden; what this layer brings itself stays, a
     * directory without the lower one's content */
    error = ck_fstatat(dir, hidden, &st, AT_SYMLINK_NOFOLLOW);
    if (error == -ENOENT)
        return ck_mknodat(dir, hidden, S_IFCHR, 0);
    return error == 0 && S_ISDIR(st.st_mode) ? ck_tree_set_opaque(a, dir, hidden) : error;
}

/* -EEXIST when dir/leaf is something else than the file it shall be. */
static int make_link(const struct ck_applier *a, int dir, const char *leaf)
{
    const struct ck_name *source = &a->source;
    const char *parent = *source->parent ? source->parent : ".";
    /* not from the cache: dir is in it and must stay */
    CK_CLEANUP_FD int from = ck_path_open(a->root, parent, O_PATH | O_DIRECTORY, a->how);
    struct stat there, here;
    int error = from < 0 ? from : ck_linkat(from, source->leaf, dir, leaf, 0);

    if (error == -EEXIST && ck_fstatat(from, source->leaf, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
        ck_fstatat(dir, leaf, &here, AT_SYMLINK_NOFOLLOW) == 0 && there.st_ino == here.st_ino)
        error = S_ISDIR(there.st_mode) ? -EISDIR : 0;
    return error == -EPERM ? -EISDIR : error;
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

    CK_TRY(dir = ck_tree_dir(a, a->name.parent));
    if (ck_begins(leaf, WHITEOUT))
        return make_whiteout(a, dir, leaf);
    if (e->type == '5')
        return ck_tree_mkdir(a, dir, leaf);
    error = make(a, dir, leaf);
    if (error == -EEXIST) { /* of an earlier entry: the later one wins */
        CK_TRY(ck_tree_clear(a, dir, leaf));
        error = make(a, dir, leaf);
    }
    if (error == -EPERM && (e->type == '3' || e->type == '4') &&
        (a->options.flags & CK_APPLY_USER_XATTRS))
        return 0; /* a user namespace makes no devices, and a container could not use them */
    return error < 0 || e->type < '2' ? error : ck_tree_dress(a, e, dir, leaf);
}

/* ---- the stream */

static int begin_entry(struct ck_applier *a, struct ck_error *err)
{
    const struct ck_tar_entry *e = &a->tar.entry;
    const char *leaf;
    int hidden, error;

    a->data = (uint64_t)e->size;
    a->padding = -a->data % CK_TAR_BLOCK;
    a->result->entries++;
    if ((uint64_t)e->real_size > a->options.max_bytes - a->result->bytes)
        return ck_tar_bad(&a->tar, err, "the layer's files are too large together");
    a->result->bytes += (uint64_t)e->real_size;
    hidden = clean(a, e->path, &a->name, err);
    if (hidden < 0 || (e->type == '1' && clean(a, e->link, &a->source, err) < 0))
        return -1;
    leaf = a->name.leaf;
    if (!*leaf && e->type != '5')
        return fail(a, err, CK_E_UNSAFE, 0, "the root is not a directory");
    if (!strcmp(leaf, WHITEOUT) || !strcmp(leaf, WHITEOUT ".") || !strcmp(leaf, WHITEOUT ".."))
        return fail(a, err, CK_E_UNSAFE, 0, "a whiteout of no name");
    error = hidden ? 0 : enter(a);
    if (error < 0)
        return fail(a, err, CK_E_OS, error, e->type == '1' ? "cannot link it" : "cannot make it");
    if (a->result->entries + a->implied > a->options.max_entries)
        return ck_tar_bad(&a->tar, err, "the layer has too many entries");
    return 0;
}

/* The data stands in the stream without holes; the parser made sure that the map takes it all. */
static int write_data(struct ck_applier *a, const uint8_t *at, size_t len)
{
    int64_t *segment = a->tar.entry.map; /* used up as it is written */

    while (a->file >= 0 && len) {
        size_t part = (uint64_t)segment[1] < len ? (size_t)segment[1] : len;
        ssize_t done = part ? ck_pwrite(a->file, at, part, segment[0]) : 0;

        if (done < 0)
            return (int)done;
        at += done;
        len -= (size_t)done;
        segment[0] += done;
        segment[1] -= done;
        if (!segment[1])
            segment += 2;
    }
    a->tar.entry.map = segment;
    return 0;
}

static int end_file(struct ck_applier *a)
{
    CK_CLEANUP_FD int fd = ck_steal_fd(&a->file);
    const struct ck_tar_entry *e = &a->tar.entry;

    if (e->real_size > e->size)
        CK_TRY(ck_ftruncate(fd, e->real_size));
    CK_TRY(ck_tree_dress(a, e, fd, ""));
    return ck_tree_set_xattrs(a, fd); /* after the chown, which clears capabilities */
}

static int feed(struct ck_applier *a, const uint8_t *at, size_t left, struct ck_error *err)
{
    while (left) {
        uint64_t *due = a->data ? &a->data : &a->padding;
        size_t take = *due < left ? (size_t)*due : left;
        int error = 0;

        if (take) {
            error = due == &a->data ? write_data(a, at, take) : 0;
            *due -= take;
            at += take;
            left -= take;
        } else {
            int got = ck_tar_next(&a->tar, &at, &left, err);

            CK_TRY(got);
            if (got)
                CK_TRY(begin_entry(a, err));
        }
        if (error == 0 && !a->data && a->file >= 0)
            error = end_file(a);
        if (error < 0)
            return fail(a, err, CK_E_OS, error, "cannot write it");
    }
    return 0;
}

static int finish(struct ck_applier *a, struct ck_error *err)
{
    int error;

    if (a->data || a->padding)
        return ck_tar_bad(&a->tar, err, "the archive ends inside this entry");
    CK_TRY(ck_tar_finish(&a->tar, err));
    error = ck_tree_settle(a);
    return error < 0 ? ck_fail(err, CK_E_OS, -error, "cannot set the metadata of directories") : 0;
}

/* ---- the API */

int ck_apply_feed(struct ck_applier *a, const void *buf, size_t len, struct ck_error *err)
{
    int done;

    a->own_umask = ck_unshare(CLONE_FS) == 0; /* some seccomp filters refuse */
    if (a->own_umask)
        ck_umask(0);
    done = buf ? feed(a, buf, len, err) : finish(a, err);
    a->result->entry = a->tar.entry.path;
    return done;
}

struct ck_applier *ck_apply_new(int dirfd, const struct ck_apply_options *options,
                                struct ck_apply_result *result, struct ck_error *err)
{
    struct ck_applier *a = calloc(1, sizeof *a);

    if (a) {
        a->options = *options;
        a->result = result;
        a->tar.meta_max = options->max_meta_bytes;
        a->how = options->flags & CK_APPLY_NO_OPENAT2 ? CK_PATH_WALK : 0;
        a->euid = ck_geteuid();
        a->egid = ck_getegid();
        a->file = -1;
        a->root = a->dirs[0].fd = ck_openat(dirfd, ".", O_RDONLY | O_DIRECTORY, 0);
        a->n_dirs = 1;
        a->later = open_memstream(&a->later_data, &a->later_size);
        if (a->root >= 0 && a->later)
            return a;
    }
    ck_fail(err, CK_E_OS, a && a->root < 0 ? -a->root : ENOMEM, "open the destination");
    ck_apply_free(a);
    return NULL;
}

void ck_apply_free(struct ck_applier *a)
{
    if (!a)
        return;
    ck_tree_leave(a, 1);
    if (a->later)
        fclose(a->later);
    free(a->later_data);
    ck_close_at(&a->file);
    ck_close_at(&a->root);
    ck_tar_free(&a->tar);
    free(a);
}
