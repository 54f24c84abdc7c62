/* ck_apply.h - the insides of the tar applier, shared by its two files.
 *
 *   ck_apply.c       the stream: entries, their kinds, whiteouts, limits
 *   ck_apply_tree.c  the tree: directories found and made, what is in the way, metadata
 *
 * No path of the archive is ever used except through ck_path_open beneath the root; leaves are made
 * with O_EXCL or by calls that do not follow links.
 */
#ifndef CK_APPLY_H
#define CK_APPLY_H

#include <sys/stat.h>
#include <sys/types.h>

#include "ck_tar.h"

#define CK_SLOTS 128u /* directories held open: two appliers fit in a soft nofile of 1024 */

struct ck_slot {
    int fd; /* O_PATH, -1: free */
    uint32_t hash;
    size_t len;
    char *path;
};

/* A path from the archive in plain form: no leading, double or trailing slash, no dot. */
struct ck_name {
    size_t len, leaf; /* leaf: where the last component begins */
    unsigned depth;
    bool hidden;      /* beneath the metadata directories of aufs */
    char text[CK_TAR_PATH];
};

struct ck_applier {
    struct ck_apply_options options;
    struct ck_apply_result result;
    struct ck_tar tar;
    struct ck_name name, source; /* of the present entry; of a hard link's target */
    unsigned how;                /* CK_PATH_* */
    bool failed, stale;          /* stale: the cache of directories may be wrong */
    bool chmod_always;           /* this thread could not get a umask of its own */
    uid_t euid;
    gid_t egid;
    int root, file;         /* file: takes the data, -1: the data is skipped */
    uint64_t data, padding; /* bytes of the present entry still to come */
    uint64_t implied;       /* directories made that no entry named */
    uint64_t overhead;      /* bytes of the stream that are no file's data */
    const uint64_t *map;    /* the segment of a sparse file that is being written */
    uint64_t map_done;
    uint8_t *dirs; /* records: what directories get at the end */
    size_t dirs_used, dirs_cap;
    struct ck_slot slots[CK_SLOTS];
};

int ck_apply_fail(struct ck_error *err, int errnum, const char *verb, const char *path);

/* ---- ck_apply_tree.c; those without err return a negative errno */

/* The directory of the first len bytes of path (which is not changed); it belongs to the cache and
 * is good until the next call.  Missing ones are made. */
int ck_tree_dir(struct ck_applier *a, char *path, size_t len, struct ck_error *err);
/* The directory that the present entry says, at leaf of dir. */
int ck_tree_mkdir(struct ck_applier *a, int dir, const char *leaf, struct ck_error *err);
int ck_tree_clear(struct ck_applier *a, int dir, const char *leaf); /* remove whatever is there */
int ck_tree_set_opaque(const struct ck_applier *a, int dir, const char *leaf);
/* Owner, mode and time of the present entry, for fd or, when that is -1, for leaf of dir. */
int ck_tree_dress(const struct ck_applier *a, int fd, int dir, const char *leaf);
int ck_tree_set_xattrs(const struct ck_applier *a, int fd, struct ck_error *err);
/* Remember what the present entry's directory gets at the end; then give it to all. */
int ck_tree_later(struct ck_applier *a, bool with_mode, struct ck_error *err);
int ck_tree_settle(struct ck_applier *a, struct ck_error *err);
void ck_tree_forget(struct ck_applier *a); /* close all cached directories */

#endif
