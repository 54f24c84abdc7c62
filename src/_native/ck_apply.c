#define _GNU_SOURCE
#include "ck_apply.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "ck_path.h"
#include "ck_sys.h"
#include "ck_sys_ns.h"

#define WHITEOUT      ".wh."
#define WHITEOUT_META ".wh..wh." /* aufs kept its own files under this prefix */
#define OPAQUE        ".wh..wh..opq"
#define OVERHEAD_MIN  (16u << 20) /* headers and padding may be this large in any archive */

int ck_apply_fail(struct ck_error *err, int errnum, const char *verb, const char *path)
{
    bool archive = errnum == ENAMETOOLONG || errnum == ELOOP || errnum == ENOTDIR ||
                   errnum == ENOENT || errnum == EISDIR;

    return ck_fail(err, archive ? CK_E_ARCHIVE : CK_E_OS, errnum, "%s %.400s", verb, path);
}

static int unsafe(const struct ck_applier *a, struct ck_error *err, const char *why)
{
    ck_tar_bad(&a->tar, err, why);
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
    size_t len;

    name->len = name->leaf = name->depth = 0;
    name->hidden = false;
    for (; *(raw += strspn(raw, "/")); raw += len) {
        len = strcspn(raw, "/");
        if (len == 1 && raw[0] == '.')
            continue;
        if (len == 2 && raw[0] == '.' && raw[1] == '.')
            return unsafe(a, err, "its path or link has a `..` in it");
        if (len > NAME_MAX)
            return ck_tar_bad(&a->tar, err, "a name longer than 255 bytes");
        if (++name->depth > a->options.max_depth)
            return ck_tar_bad(&a->tar, err, "too many directories below each other");
        if (name->len) {
            if (begins(name->text + name->leaf, WHITEOUT_META))
                name->hidden = true;
            else if (begins(name->text + name->leaf, WHITEOUT))
                return ck_tar_bad(&a->tar, err, "it lies below a whiteout");
            name->text[name->len++] = '/';
        }
        name->leaf = name->len;
        memcpy(name->text + name->len, raw, len);
        name->len += len;
        name->text[name->len] = 0;
    }
    name->text[name->len] = 0;
    return 0;
}

/* ---- the kinds of entries; each gets its parent's descriptor and its name there */

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

static int enter_root(struct ck_applier *a, struct ck_error *err)
{
    const struct ck_tar_entry *e = &a->tar.entry;
    int error;

    if (e->type != '5')
        return unsafe(a, err, "the root is not a directory");
    error = ck_fchownat(a->root, "", e->uid, e->gid, AT_EMPTY_PATH);
    if (error < 0)
        return ck_apply_fail(err, -error, "change the owner of", "/");
    return ck_tree_set_xattrs(a, a->root, err) < 0 ? -1 : ck_tree_later(a, true, err);
}

/* -EEXIST when dir/leaf is something else than the file from/name, else 0 or why not. */
static int link_at(int from, const char *name, int dir, const char *leaf)
{
    struct stat there, here;
    int error = from < 0 ? from : ck_linkat(from, name, dir, leaf, 0);

    if (error == -EPERM) /* a hard link to a directory */
        return -EISDIR;
    if (error != -EEXIST || ck_fstatat(from, name, &there, AT_SYMLINK_NOFOLLOW) < 0 ||
        ck_fstatat(dir, leaf, &here, AT_SYMLINK_NOFOLLOW) < 0)
        return error;
    if (S_ISDIR(there.st_mode))
        return -EISDIR;
    return there.st_ino == here.st_ino ? 0 : -EEXIST;
}

static int make_link(const struct ck_applier *a, int dir, const char *leaf)
{
    CK_CLEANUP_FD int fd = -1; /* not from the cache: dir is in it and must stay */
    const struct ck_name *source = &a->source;
    char parent[CK_TAR_PATH];

    if (!source->leaf)
        return link_at(a->root, source->text, dir, leaf);
    memcpy(parent, source->text, source->leaf - 1);
    parent[source->leaf - 1] = 0;
    fd = ck_path_open(a->root, parent, O_PATH | O_DIRECTORY, a->how);
    return link_at(fd, source->text + source->leaf, dir, leaf);
}

/* Make what the entry says, empty; a->file is opened for a file. */
static int make(struct ck_applier *a, int dir, const char *leaf)
{
    const struct ck_tar_entry *e = &a->tar.entry;
    dev_t device = makedev(e->dev_major, e->dev_minor);

    switch (e->type) {
    case '0': /* a set-id bit comes after the chown */
        a->file = ck_openat(dir, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, e->mode & 01777);
        return a->file < 0 ? a->file : 0;
    case '1':
        return make_link(a, dir, leaf);
    case '2':
        return ck_symlinkat(e->link, dir, leaf);
    case '3':
        return ck_mknodat(dir, leaf, S_IFCHR | e->mode, device);
    case '4':
        return ck_mknodat(dir, leaf, S_IFBLK | e->mode, device);
    default:
        return ck_mknodat(dir, leaf, S_IFIFO | e->mode, 0);
    }
}

static int enter_leaf(struct ck_applier *a, int dir, const char *leaf, struct ck_error *err)
{
    const struct ck_tar_entry *e = &a->tar.entry;
    bool device = e->type == '3' || e->type == '4';
    int error;

    if (e->type == '1' && clean(a, e->link, &a->source, err) < 0)
        return -1;
    if (e->type == '1' && !a->source.len)
        return unsafe(a, err, "a hard link to the root");
    if (e->type == '2' && !*e->link)
        return ck_tar_bad(&a->tar, err, "a symbolic link to nothing");
    error = make(a, dir, leaf);
    if (error == -EEXIST) { /* of an earlier entry: the later one wins */
        error = ck_tree_clear(a, dir, leaf);
        if (error == 0)
            error = make(a, dir, leaf);
    }
    if (error == -EPERM && device && (a->options.flags & CK_APPLY_USER_XATTRS))
        return 0; /* a user namespace makes no devices, and a container could not use them */
    if (error == 0 && e->type != '0' && e->type != '1')
        error = ck_tree_dress(a, -1, dir, leaf);
    if (error == 0)
        return 0;
    return ck_apply_fail(err, -error, e->type == '1' ? "make hard link" : "make", a->name.text);
}

static int enter(struct ck_applier *a, struct ck_error *err)
{
    const struct ck_name *name = &a->name;
    const char *leaf = name->text + name->leaf;
    int dir;

    if (name->hidden || (begins(leaf, WHITEOUT_META) && strcmp(leaf, OPAQUE) != 0))
        return 0;
    if (!name->len)
        return enter_root(a, err);
    dir = ck_tree_dir(a, a->name.text, name->leaf ? name->leaf - 1 : 0, err);
    if (dir < 0)
        return -1;
    if (begins(leaf, WHITEOUT))
        return enter_whiteout(a, dir, leaf, err);
    if (a->tar.entry.type == '5')
        return ck_tree_mkdir(a, dir, leaf, err);
    return enter_leaf(a, dir, leaf, err);
}

/* ---- the stream */

static int begin_entry(struct ck_applier *a, struct ck_error *err)
{
    const struct ck_tar_entry *e = &a->tar.entry;

    a->data = e->size;
    a->padding = (CK_TAR_BLOCK - e->size % CK_TAR_BLOCK) % CK_TAR_BLOCK;
    a->map = e->map;
    a->map_done = 0;
    if (++a->result.entries > a->options.max_entries)
        return ck_tar_bad(&a->tar, err, "the layer has too many entries");
    if (e->real_size > a->options.max_bytes - a->result.bytes)
        return ck_tar_bad(&a->tar, err, "the layer's files are too large together");
    a->result.bytes += e->real_size;
    return clean(a, e->path, &a->name, err) < 0 ? -1 : enter(a, err);
}

/* The data of a sparse file stands in the stream without its holes. */
static int write_sparse(struct ck_applier *a, const uint8_t *at, size_t len)
{
    while (len) { /* the parser made sure that the segments take all data */
        uint64_t due = a->map[1] - a->map_done;
        ssize_t done = 0;

        if (due)
            done = ck_pwrite(a->file, at, due < len ? (size_t)due : len,
                             (off_t)(a->map[0] + a->map_done));
        if (done < 0)
            return (int)done;
        at += done;
        len -= (size_t)done;
        a->map_done += (uint64_t)done;
        if (a->map_done == a->map[1]) {
            a->map += 2;
            a->map_done = 0;
        }
    }
    return 0;
}

static int write_data(struct ck_applier *a, const uint8_t *at, size_t len, struct ck_error *err)
{
    int error = 0;

    if (a->file >= 0 && len)
        error = a->tar.entry.sparse ? write_sparse(a, at, len) : ck_write_all(a->file, at, len);
    return error < 0 ? ck_apply_fail(err, -error, "write", a->name.text) : 0;
}

static int close_file(struct ck_applier *a, struct ck_error *err)
{
    CK_CLEANUP_FD int fd = ck_steal_fd(&a->file);
    int error = 0;

    if (a->tar.entry.sparse)
        error = ck_ftruncate(fd, (off_t)a->tar.entry.real_size);
    if (error == 0)
        error = ck_tree_dress(a, fd, -1, NULL);
    if (error < 0)
        return ck_apply_fail(err, -error, "write", a->name.text);
    return ck_tree_set_xattrs(a, fd, err); /* after the chown, which clears capabilities */
}

static int feed(struct ck_applier *a, const uint8_t *at, size_t left, struct ck_error *err)
{
    while (left) {
        uint64_t *due = a->data ? &a->data : &a->padding;
        size_t before = left, take = *due < left ? (size_t)*due : left;

        if (*due) {
            if (due == &a->data && write_data(a, at, take, err) < 0)
                return -1;
            *due -= take;
            at += take;
            left -= take;
        } else {
            int got = ck_tar_next(&a->tar, &at, &left, err);
            a->overhead += before - left;
            if (got < 0 || (got && begin_entry(a, err) < 0))
                return -1;
            if (a->overhead > a->options.max_bytes && a->overhead > OVERHEAD_MIN)
                return ck_tar_bad(&a->tar, err,
                                  "the headers, or what follows the end, are too large");
        }
        if (!a->data && a->file >= 0 && close_file(a, err) < 0)
            return -1;
    }
    return 0;
}

static int finish(struct ck_applier *a, struct ck_error *err)
{
    if (a->data || a->padding)
        return ck_tar_bad(&a->tar, err, "the archive ends inside this entry");
    return ck_tar_finish(&a->tar, err) < 0 ? -1 : ck_tree_settle(a, err);
}

/* ---- the API */

int ck_apply_feed(struct ck_applier *a, const void *buf, size_t len, struct ck_error *err)
{
    mode_t before = 0;
    int done;

    if (a->failed)
        return ck_fail(err, CK_E_ARCHIVE, 0, "the layer has failed before, or is finished");
    a->chmod_always = ck_unshare(CLONE_FS) < 0; /* some seccomp filters refuse */
    if (!a->chmod_always)
        before = ck_umask(0);
    done = buf ? feed(a, buf, len, err) : finish(a, err);
    if (!a->chmod_always)
        ck_umask(before);
    a->failed = done < 0 || !buf;
    return done;
}

int ck_apply_finish(struct ck_applier *a, struct ck_apply_result *result, struct ck_error *err)
{
    int done = ck_apply_feed(a, NULL, 0, err);

    *result = a->result;
    return done;
}

const char *ck_apply_entry(const struct ck_applier *a)
{
    return a->tar.path;
}

struct ck_applier *ck_apply_new(int dirfd, const struct ck_apply_options *options,
                                struct ck_error *err)
{
    struct ck_applier *a = calloc(1, sizeof *a);
    int error = -ENOMEM;

    if (a) {
        a->options = *options;
        a->tar.meta_max = options->max_meta_bytes;
        a->how = options->flags & CK_APPLY_NO_OPENAT2 ? CK_PATH_WALK : 0;
        a->euid = ck_geteuid();
        a->egid = ck_getegid();
        a->file = -1;
        for (unsigned i = 0; i < CK_SLOTS; i++)
            a->slots[i].fd = -1;
        error = a->root = ck_openat(dirfd, ".", O_RDONLY | O_DIRECTORY, 0);
    }
    if (error >= 0)
        error = ck_fchownat(a->root, "", a->euid, a->egid, AT_EMPTY_PATH);
    if (error >= 0) /* and no set-group-id bit, which would give its group to everything */
        error = ck_fchmod(a->root, 0755);
    if (error >= 0)
        return a;
    ck_fail(err, CK_E_OS, -error, "open the destination");
    ck_apply_free(a);
    return NULL;
}

void ck_apply_free(struct ck_applier *a)
{
    if (!a)
        return;
    ck_tree_forget(a);
    for (unsigned i = 0; i < CK_SLOTS; i++)
        free(a->slots[i].path);
    ck_close_at(&a->file);
    ck_close_at(&a->root);
    ck_tar_free(&a->tar);
    free(a->dirs);
    free(a);
}
