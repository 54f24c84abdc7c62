/* ck_apply.h - the insides of the tar applier, shared by its three files.
 *
 *   ck_apply.c        the stream: entries, whiteouts, limits
 *   ck_apply_tree.c   the tree: directories found, made, replaced and dated
 *   ck_apply_batch.c  small files, written a batch at a time by one thread or two
 *
 * Nothing is ever reached by a path from the archive except through ck_path_open beneath the root;
 * leaves are made with O_EXCL or calls that do not follow links.
 */
#ifndef CK_APPLY_H
#define CK_APPLY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "ck_tar.h"

#define CK_SLOTS 128u    /* directories held open: two appliers fit in a soft nofile of 1024 */
#define CK_JOBS 256u     /* files in a batch */
#define CK_NAMES 32768u  /* bytes of their paths */
#define CK_SEEN 4096u    /* see ck_batch_guard */

struct ck_slot {
    int fd; /* O_PATH, -1: free */
    bool aliased;   /* reached through a link: the same directory may have another name */
    uint32_t hash, batch; /* batch: the last one that used it */
    size_t len;
    char *path;
};

/* What a file gets besides its content. */
struct ck_meta {
    uint32_t mode, uid, gid, nsec;
    int64_t mtime;
};

struct ck_job {
    int dir;
    int error; /* negative errno, -EEXIST: something is in the way */
    const char *path, *leaf;
    const uint8_t *data;
    size_t size;
    struct ck_meta meta;
};

struct ck_batch {
    uint32_t number;
    unsigned count;
    atomic_uint next; /* the next job to take */
    size_t names_used;
    struct ck_job jobs[CK_JOBS];
    char names[CK_NAMES];
    uint32_t seen[CK_SEEN]; /* by hash of a path: the last batch that has it */
    pthread_t helper;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum { CK_IDLE, CK_OFFERED, CK_TAKEN, CK_STOP } work;
    bool has_helper, helper_chmod;
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
    int root, file;              /* file: being streamed, -1: its data is skipped */
    unsigned how;                /* CK_PATH_* */
    bool failed, chmod_always, stale, aliased;
    uid_t euid;
    gid_t egid;
    uint64_t data, padding; /* bytes of the present entry still to come */
    uint64_t overhead;      /* bytes of the stream that are no file's data */
    size_t segment;         /* of a sparse file, and the bytes of it that are written */
    uint64_t segment_done;
    uint8_t *dirs; /* records: what directories get at the end */
    size_t dirs_used, dirs_cap;
    struct ck_slot slots[CK_SLOTS];
    struct ck_batch batch;
};

/* ---- ck_apply_tree.c */
uint32_t ck_hash(const char *text, size_t len);
/* The directory of the first len bytes of path (not changed), owned by the cache; missing ones are
 * made when asked.  Sets a->aliased. */
int ck_tree_dir(struct ck_applier *a, char *path, size_t len, bool make, struct ck_error *err);
/* An explicit entry for the directory leaf in dir. */
int ck_tree_mkdir(struct ck_applier *a, int dir, const char *leaf, struct ck_error *err);
/* Remove what is at leaf, whatever it is. */
int ck_tree_clear(struct ck_applier *a, int dir, const char *leaf);
bool ck_tree_is_whiteout(int dir, const char *leaf);
int ck_tree_set_opaque(const struct ck_applier *a, int dir, const char *leaf);
/* Owner, mode and xattrs of an open file, then its time.  Negative errno. */
int ck_tree_finish_file(const struct ck_applier *a, int fd, const struct ck_meta *meta,
                        bool chmod_always);
int ck_tree_set_xattrs(const struct ck_applier *a, int fd, struct ck_error *err);
/* Remember what the directory of a->name gets at the end. */
int ck_tree_later(struct ck_applier *a, bool with_mode, struct ck_error *err);
int ck_tree_settle(struct ck_applier *a, struct ck_error *err);
void ck_tree_flush(struct ck_applier *a); /* close all cached directories */

/* ---- ck_apply_batch.c */
void ck_batch_start(struct ck_applier *a);
void ck_batch_stop(struct ck_applier *a);
/* Call before touching path: when a file of that path may be waiting, the batch is written first. */
int ck_batch_guard(struct ck_applier *a, const struct ck_name *name, struct ck_error *err);
/* Put a->name with its whole data into the batch. */
int ck_batch_add(struct ck_applier *a, int dir, const uint8_t *data, size_t size,
                 struct ck_error *err);
int ck_batch_run(struct ck_applier *a, struct ck_error *err); /* write all; empty afterwards */
bool ck_private_umask(void); /* this thread alone gets umask 0; false: not allowed here */

/* ---- ck_apply.c */
int ck_apply_fail(struct ck_error *err, int errnum, const char *verb, const char *path);
struct ck_meta ck_apply_meta(const struct ck_applier *a);

#endif
