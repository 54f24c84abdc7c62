/* ck_apply.h - the insides of the tar applier, shared by its two files.
 *
 *   ck_apply.c       the stream: entries, their kinds, whiteouts, limits
 *   ck_apply_tree.c  the tree: directories found and made, what is in the way, metadata
 *
 * No path of the archive is ever used except through ck_path_open beneath the root, or one name at
 * a time without following links; leaves are made with O_EXCL or by calls that follow none.
 */
#ifndef CK_APPLY_H
#define CK_APPLY_H

#include <stdio.h>

#include "ck_path.h"
#include "ck_sys.h"
#include "ck_tar.h"

#define CK_SLOTS    128 /* directories held open: two appliers fit in a soft nofile of 1024 */
#define CK_OPEN_DIR (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)

struct ck_slot { /* a directory of the cache; memory that is never used costs nothing */
    int fd;      /* O_PATH */
    unsigned depth;
    char path[CK_TAR_PATH]; /* "": the slot is free */
};

/* A path from the archive in plain form: no leading, double or trailing slash, no dot. */
struct ck_name {
    char path[CK_TAR_PATH], parent[CK_TAR_PATH];
    char *leaf; /* in path */
};

struct ck_applier {
    struct ck_apply_options options;
    struct ck_apply_result *result; /* the caller's */
    struct ck_tar tar;
    struct ck_name name, source; /* of the present entry; of a hard link's target */
    unsigned how;                /* CK_PATH_* */
    bool failed, stale;          /* stale: the cache of directories may be wrong */
    bool own_umask;              /* this thread has one, of 0 */
    uid_t euid;
    gid_t egid;
    int root, file;         /* file: takes the data, -1: the data is skipped */
    uint64_t data, padding; /* bytes of the present entry still to come */
    uint64_t implied;       /* directories made that no entry named */
    uint64_t overhead;      /* bytes of the stream that are no file's data */
    unsigned depth;         /* of the directory that ck_tree_dir found */
    FILE *later;            /* what directories get at the end: their entry, their path, … */
    char *later_data;
    size_t later_size;
    struct ck_slot slots[CK_SLOTS];
};

/* ck_apply_tree.c; all return a negative errno on failure */

/* The directory at path (which is changed meanwhile); it belongs to the cache and is good until the
 * next call.  Missing ones are made. */
int ck_tree_dir(struct ck_applier *a, char *path);
/* The directory that the present entry says, at leaf of dir; dir itself when leaf is "". */
int ck_tree_mkdir(struct ck_applier *a, int dir, const char *leaf);
int ck_tree_clear(struct ck_applier *a, int dir, const char *leaf); /* remove whatever is there */
int ck_tree_set_opaque(const struct ck_applier *a, int dir, const char *leaf);
/* Owner, mode and time of an entry, for leaf of dir, or for dir itself when leaf is "". */
int ck_tree_dress(const struct ck_applier *a, const struct ck_tar_entry *e, int dir,
                  const char *leaf);
int ck_tree_set_xattrs(const struct ck_applier *a, int fd);
int ck_tree_settle(struct ck_applier *a);  /* the directories get what waits for the end */
void ck_tree_forget(struct ck_applier *a); /* close all cached directories */

#endif
