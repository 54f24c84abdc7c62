/* ck_tar.h - reads tar headers from a stream that arrives in pieces; knows no file system.
 *
 * Understood: v7, ustar, GNU (base-256 numbers, long names and links) and PAX (path, linkpath, size,
 * uid, gid, mtime, SCHILY.xattr.*).  Of sparse files, that they are: their maps are not read.
 * The caller takes the data that follows an entry (entry.size bytes) and its padding to 512 itself,
 * then calls ck_tar_next again.  Pointers in an entry are valid until that call.
 */
#pragma once

#include "ck_sys.h"

#define CK_TAR_BLOCK 512
#define CK_TAR_XATTR "SCHILY.xattr."
#define CK_TAR_ACL "SCHILY.acl.access"
#define CK_TAR_PATH 4096 /* PATH_MAX: a path or link text with its NUL */

struct ck_tar_entry {
    const char *path, *link; /* as in the archive: not cleaned, not checked */
    char type;               /* '0' file, '1' hard link, '2' symlink, '3' '4' devices, '5' '6' */
    bool has_xattrs; /* PAX records of CK_TAR_XATTR and their names */
    int64_t mode, uid, gid, dev_major, dev_minor, mtime, mtime_nsec;
    unsigned denied; /* bits that its ACLs take from the mode; they are taken from it already */
    int64_t size;    /* bytes in the stream */
    bool sparse;     /* they are not the file's: of one of GNU tar's formats, or several */
    const char *sparse_name;
    unsigned texts, given; /* bits of its extended headers, and of the numbers that they gave */
};

enum ck_tar_text { CK_TAR_PAX, CK_TAR_LONG_PATH, CK_TAR_LONG_LINK, CK_TAR_GLOBAL, CK_TAR_TEXTS };

struct ck_tar {
    struct ck_error *err; /* filled by what returns -1 */
    size_t meta_max;      /* bytes an extended header may have */
    bool within;    /* part of an entry's headers was read */
    bool meta;      /* of an extended one */
    bool ended;     /* the end marker was seen: the rest is ignored */
    unsigned zero_blocks;
    size_t have;    /* bytes of the present unit collected */
    uint64_t count; /* entries seen, for messages */
    uint8_t block[CK_TAR_BLOCK];
    char path[257], link[101]; /* of the header itself */
    struct {
        char *data;
        size_t size;
    } text[CK_TAR_TEXTS];    /* extended headers */
    unsigned text_now;       /* the one that is read */
    struct ck_tar_entry entry;
};

/* A struct of zeros with err and meta_max set is ready to use. */
void ck_tar_free(struct ck_tar *tar);

/* Take bytes from *at (advanced, *left lowered) up to the end of the next entry's header.
 * Returns 1 when tar->entry is filled, 0 when more bytes are needed, -1 on a malformed archive. */
int ck_tar_next(struct ck_tar *tar, const uint8_t **at, size_t *left);

/* The stream is over: -1 when it ended inside a header. */
int ck_tar_finish(const struct ck_tar *tar);

/* Walk the records of the PAX header: start with *cursor = 0; value has len bytes and a NUL.
 * Returns 1 with one, 0 at the end, -1 when it is malformed. */
int ck_tar_record(const struct ck_tar *tar, size_t *cursor, char **key, char **value, size_t *len);

static inline bool ck_begins(const char *text, const char *prefix)
{
    return !strncmp(text, prefix, strlen(prefix));
}

/* Fill tar->err, with the entry's number, its name and why; returns -1.  error: negative errno or 0. */
int ck_tar_fail(const struct ck_tar *tar, int code, int error, const char *why);
int ck_tar_bad(const struct ck_tar *tar, const char *why); /* malformed */
