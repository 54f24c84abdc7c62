/* ck_tar.h - reads tar headers from a stream that arrives in pieces; knows no file system.
 *
 * Understood: v7, ustar, GNU (base-256 numbers, long names and links, old sparse) and PAX (path,
 * linkpath, size, uid, gid, mtime, SCHILY.xattr.*, GNU.sparse.* 0.0, 0.1 and 1.0).
 * The caller takes the data that follows an entry (entry.size bytes) and its padding to 512 itself,
 * then calls ck_tar_next again.  Pointers in an entry are valid until that call.
 */
#ifndef CK_TAR_H
#define CK_TAR_H

#include <stdbool.h>

#include "ck_error.h"

#define CK_TAR_BLOCK 512u
#define CK_TAR_PATH 4096u /* PATH_MAX: a path or link text with its NUL */

struct ck_tar_entry {
    const char *path, *link; /* as in the archive: not cleaned, not checked */
    char type;               /* '0' file, '1' hard link, '2' symlink, '3' '4' devices, '5' '6' */
    bool sparse, has_xattrs;
    uint32_t mode, uid, gid, dev_major, dev_minor, mtime_nsec;
    int64_t mtime;
    uint64_t size, real_size; /* bytes in the stream; bytes of the file (more when sparse) */
    const uint64_t *map;      /* of a sparse file: offset, length, …; the lengths make up size */
};

/* What the extended header of an entry said; texts point into it. */
struct ck_tar_fields {
    bool seen, has_size, has_uid, has_gid, has_mtime, has_real_size, has_xattrs;
    uint64_t size, uid, gid, real_size, sparse_major, sparse_minor;
    int64_t mtime;
    uint32_t mtime_nsec;
    const char *path, *link, *sparse_name;
};

struct ck_tar_text {
    uint8_t *data;
    size_t size, cap;
};

struct ck_tar {
    size_t meta_max; /* bytes an extended header may have */
    int state;
    unsigned zero_blocks;
    bool ended;     /* the end marker was seen: the rest is ignored */
    size_t have;    /* bytes of the present unit collected */
    uint64_t count; /* entries seen, for messages */
    uint8_t block[CK_TAR_BLOCK];
    char path[CK_TAR_PATH], link[CK_TAR_PATH];
    bool has_long_path, has_long_link;
    char meta_type;
    struct ck_tar_text pax, other; /* extended headers: PAX records; anything else */
    struct ck_tar_fields fields;
    uint64_t *map;
    size_t map_count, map_cap;
    uint64_t map_due, map_value; /* PAX 1.0: numbers still to come, plus one; the one being read */
    unsigned map_digits;
    struct ck_tar_entry entry;
};

/* A struct of zeros with meta_max set is ready to use. */
void ck_tar_free(struct ck_tar *tar);

/* Take bytes from *at (advanced, *left lowered) up to the end of the next entry's header.
 * Returns 1 when tar->entry is filled, 0 when more bytes are needed, -1 on a malformed archive. */
int ck_tar_next(struct ck_tar *tar, const uint8_t **at, size_t *left, struct ck_error *err);

/* The stream is over: -1 when it ended inside a header. */
int ck_tar_finish(const struct ck_tar *tar, struct ck_error *err);

/* Walk the entry's extended attributes: start with *cursor = 0.  Returns 1 with one, 0 at the end. */
int ck_tar_xattr(const struct ck_tar *tar, size_t *cursor, const char **name, const uint8_t **value,
                 size_t *size);

/* Fill err with the entry's number, its name and why; returns -1. */
int ck_tar_bad(const struct ck_tar *tar, struct ck_error *err, const char *why);

/* ---- between ck_tar.c and ck_tar_pax.c */
int ck_tar_read_pax(struct ck_tar *tar, struct ck_error *err); /* tar->pax into fields and map */
int ck_tar_add_number(struct ck_tar *tar, uint64_t number, struct ck_error *err); /* to the map */
int ck_tar_map_block(struct ck_tar *tar, struct ck_error *err); /* PAX 1.0; 1: the map is whole */

#endif
