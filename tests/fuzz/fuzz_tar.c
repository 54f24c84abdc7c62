/* fuzz_tar.c - headers of any archive: read the same in pieces of any size, and within their limits. */
#include "archive.h"
#include "ck_tar.h"

enum { META_MAX = 1 << 14 };

struct read { /* what was found in a stream */
    uint64_t hash;
    int result;
};

static void add(struct read *read, const void *data, size_t size)
{
    const uint8_t *at = data;

    for (size_t i = 0; i < size; i++)
        read->hash = (read->hash ^ at[i]) * 1099511628211U; /* FNV-1a */
}

static void add_entry(struct read *read, struct ck_tar *tar)
{
    const struct ck_tar_entry *e = &tar->entry;
    const int64_t fields[] = {e->type,      e->mode,  e->uid,        e->gid,  e->dev_major,
                              e->dev_minor, e->mtime, e->mtime_nsec, e->size, e->sparse};
    size_t cursor = 0, len = 0;
    char *key = NULL, *value = NULL;
    int more = 0;

    HOLDS(strlen(e->path) < CK_TAR_PATH && strlen(e->link) < CK_TAR_PATH);
    HOLDS(e->type >= '0' && e->type <= '6');
    HOLDS(e->size >= 0 && e->mode >= 0 && e->mode <= 07777);
    HOLDS(e->uid >= 0 && e->uid < UINT32_MAX && e->gid >= 0 && e->gid < UINT32_MAX);
    HOLDS(e->mtime_nsec >= 0 && e->mtime_nsec < 1000000000);
    HOLDS(e->type == '0' || (!e->size && !e->sparse));
    add(read, fields, sizeof fields);
    add(read, e->path, strlen(e->path));
    add(read, e->link, strlen(e->link));
    while (e->has_xattrs && (more = ck_tar_record(tar, &cursor, &key, &value, &len)) > 0) {
        add(read, key, strlen(key));
        add(read, value, len);
    }
    HOLDS(more == 0);
}

static struct read read_all(const uint8_t *data, size_t size, size_t piece)
{
    struct ck_error err = {.code = 0};
    struct ck_tar tar = {.err = &err, .meta_max = META_MAX};
    struct read read = {.hash = 14695981039346656037U};
    uint64_t due = 0;

    while (size > 0 && read.result >= 0) {
        size_t left = piece < size ? piece : size;
        uint8_t *copy = exactly(data, left);
        const uint8_t *at = copy;

        data += left;
        size -= left;
        while (left > 0 && read.result >= 0) {
            size_t part = due < left ? (size_t)due : left;
            at += part;
            left -= part;
            due -= part;
            if (!left)
                break;
            read.result = ck_tar_next(&tar, &at, &left);
            if (read.result <= 0)
                continue;
            add_entry(&read, &tar);
            due = (uint64_t)tar.entry.size + (-(uint64_t)tar.entry.size % CK_TAR_BLOCK);
        }
        free(copy);
    }
    if (read.result >= 0 && !due)
        read.result = ck_tar_finish(&tar);
    HOLDS(read.result >= 0 || (err.code == CK_E_ARCHIVE && strlen(err.detail) < sizeof err.detail));
    add(&read, err.detail, strlen(err.detail));
    read.result = read.result < 0;
    ck_tar_free(&tar);
    return read;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct read whole, pieces;

    if (!size)
        return 0;
    whole = read_all(data, size - 1, size);
    pieces = read_all(data, size - 1, data[size - 1] * 7U + 51); /* an allocation each */
    HOLDS(whole.result == pieces.result);
    HOLDS(whole.hash == pieces.hash);
    return 0;
}
