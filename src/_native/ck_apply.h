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

#define CK_DIRS     256 /* two appliers fit in a soft limit of 1024 open files */
#define CK_OPEN_DIR (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)

struct ck_dir { /* one on the way from the root down to where the last entry went */
    int fd;     /* O_PATH */
    int depth;  /* below the root, links resolved */
    size_t len; /* of its path */
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
    bool stale;                  /* dirs may be wrong */
    bool own_umask;              /* this thread has one, of 0 */
    uid_t euid;
    gid_t egid;
    int root, file;         /* file: takes the data, -1: the data is skipped */
    uint64_t data, padding; /* bytes of the present entry still to come */
    uint64_t implied;       /* directories made that no entry named */
    FILE *later;            /* what directories get at the end: their entry, their path, … */
    char *later_data;
    size_t later_size;
    struct ck_dir dirs[CK_DIRS]; /* the first is the root */
    unsigned n_dirs;
    char dirs_path[CK_TAR_PATH];
};

/* ck_apply_tree.c; all return a negative errno on failure */

/* The directory at path, made when it is missing; it is good until the next call. */
int ck_tree_dir(struct ck_applier *a, const char *path);
/* The directory that the present entry says, at leaf of dir; dir itself when leaf is "". */
int ck_tree_mkdir(struct ck_applier *a, int dir, const char *leaf);
int ck_tree_clear(struct ck_applier *a, int dir, const char *leaf); /* remove whatever is there */
int ck_tree_set_opaque(const struct ck_applier *a, int dir, const char *leaf);
/* Owner, mode and time of an entry, for leaf of dir, or for dir itself when leaf is "". */
int ck_tree_dress(const struct ck_applier *a, const struct ck_tar_entry *e, int dir,
                  const char *leaf);
int ck_tree_set_xattrs(const struct ck_applier *a, int fd);
int ck_tree_settle(struct ck_applier *a); /* the directories get what waits for the end */
void ck_tree_leave(struct ck_applier *a, unsigned keep); /* close all but so many directories */

#endif
