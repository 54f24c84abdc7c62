#include "ck_tar.h"

#include <stdlib.h>
#include <string.h>

#define MAP_MAX      (1u << 19) /* numbers in a sparse map: 4 MiB */
#define XATTR_PREFIX "SCHILY.xattr."

/* ---- values */

/* Decimal digits up to `stop` or the NUL; *text is left after them. */
static int decimal(const char **text, char stop, uint64_t *out)
{
    const char *at = *text;
    uint64_t value = 0;

    for (; *at >= '0' && *at <= '9'; at++) {
        if (value > (INT64_MAX - 9) / 10)
            return -1;
        value = value * 10 + (uint64_t)(*at - '0');
    }
    if (at == *text || (*at != stop && *at != 0))
        return -1;
    *out = value;
    *text = at;
    return 0;
}

/* Seconds with an optional fraction, possibly negative. */
static int pax_time(const char *text, int64_t *seconds, uint32_t *nsec)
{
    bool negative = *text == '-';
    uint64_t whole;
    uint32_t part = 0, unit = 100000000;

    text += negative;
    if (decimal(&text, '.', &whole) < 0)
        return -1;
    if (*text == '.')
        for (text++; *text >= '0' && *text <= '9'; text++, unit /= 10)
            part += (uint32_t)(*text - '0') * unit;
    *seconds = negative ? -(int64_t)whole - (part > 0) : (int64_t)whole;
    *nsec = negative && part ? 1000000000 - part : part;
    return *text ? -1 : 0;
}

/* ---- sparse maps */

int ck_tar_add_number(struct ck_tar *tar, uint64_t number, struct ck_error *err)
{
    if (tar->map_count == tar->map_cap) {
        size_t cap = tar->map_cap ? tar->map_cap * 2 : 64;
        uint64_t *grown = cap > MAP_MAX ? NULL : realloc(tar->map, cap * sizeof *grown);

        if (!grown)
            return ck_tar_bad(tar, err, "the sparse map is too long");
        tar->map = grown;
        tar->map_cap = cap;
    }
    tar->map[tar->map_count++] = number;
    return 0;
}

/* PAX 1.0 has the map at the head of the data, in whole blocks: the count of segments, then the
 * numbers, a line each. */
int ck_tar_map_block(struct ck_tar *tar, struct ck_error *err)
{
    if (tar->entry.size < CK_TAR_BLOCK)
        return ck_tar_bad(tar, err, "the sparse map is longer than the data");
    tar->entry.size -= CK_TAR_BLOCK;
    for (size_t i = 0; i < CK_TAR_BLOCK; i++) {
        uint8_t c = tar->block[i];

        if (c >= '0' && c <= '9' && tar->map_digits++ < 18) {
            tar->map_value = tar->map_value * 10 + (uint64_t)(c - '0');
            continue;
        }
        if (c != '\n' || !tar->map_digits || tar->map_value > INT64_MAX / 4)
            return ck_tar_bad(tar, err, "the sparse map holds no numbers");
        if (!tar->map_due)
            tar->map_due = 2 * tar->map_value + 1;
        else if (ck_tar_add_number(tar, tar->map_value, err) < 0)
            return -1;
        tar->map_value = tar->map_digits = 0;
        if (tar->map_count + 1 == tar->map_due)
            return 1;
    }
    return 0;
}

/* ---- records */

/* One "length key=value\n" record at *cursor.  Ends key and value with NULs, which a second walk
 * over the same bytes then finds.  Returns 1, 0 at the end, -1 when malformed. */
static int record(const struct ck_tar_text *pax, size_t *cursor, char **key, char **value,
                  size_t *len)
{
    uint8_t *start = pax->data + *cursor, *at = start, *end;
    size_t left = pax->size - *cursor, length = 0;

    if (!left)
        return 0;
    for (; (size_t)(at - start) < left && at < start + 9 && *at >= '0' && *at <= '9'; at++)
        length = length * 10 + (size_t)(*at - '0');
    if (at == start || length > left || length < (size_t)(at - start) + 3 || *at != ' ')
        return -1;
    end = start + length - 1;
    *key = (char *)++at;
    while (at < end && *at != '=' && *at != 0)
        at++;
    if (at == end || (*end != '\n' && *end != 0))
        return -1;
    *at++ = 0;
    *end = 0;
    *value = (char *)at;
    *len = (size_t)(end - at);
    *cursor += length;
    return 1;
}

static int sparse_map(struct ck_tar *tar, const char *text, struct ck_error *err)
{
    uint64_t number = 0;

    for (;; text++) {
        if (decimal(&text, ',', &number) < 0)
            return ck_tar_bad(tar, err, "the sparse map holds no numbers");
        if (ck_tar_add_number(tar, number, err) < 0 || !*text)
            return *text ? -1 : 0;
    }
}

static int field(struct ck_tar *tar, const char *key, const char *value, size_t len,
                 struct ck_error *err)
{
    struct ck_tar_fields *f = &tar->fields;
    struct {
        const char *key;
        uint64_t *into;
        bool *has;
    } numbers[] = {
        {"size", &f->size, &f->has_size},
        {"uid", &f->uid, &f->has_uid},
        {"gid", &f->gid, &f->has_gid},
        {"GNU.sparse.size", &f->real_size, &f->has_real_size},
        {"GNU.sparse.realsize", &f->real_size, &f->has_real_size},
        {"GNU.sparse.major", &f->sparse_major, &f->seen},
        {"GNU.sparse.minor", &f->sparse_minor, &f->seen},
    };
    uint64_t number = 0;

    if (!strncmp(key, XATTR_PREFIX, sizeof XATTR_PREFIX - 1)) {
        f->has_xattrs = true;
        return 0;
    }
    if (strlen(value) != len)
        return ck_tar_bad(tar, err, "a field of the extended header holds a NUL");
    if (!strcmp(key, "path"))
        f->path = value;
    else if (!strcmp(key, "linkpath"))
        f->link = value;
    else if (!strcmp(key, "GNU.sparse.name"))
        f->sparse_name = value;
    else if (!strcmp(key, "GNU.sparse.map"))
        return sparse_map(tar, value, err);
    else if (!strcmp(key, "mtime") && pax_time(value, &f->mtime, &f->mtime_nsec) < 0)
        return ck_tar_bad(tar, err, "mtime is not a time");
    f->has_mtime |= !strcmp(key, "mtime");
    if (!strcmp(key, "GNU.sparse.offset") || !strcmp(key, "GNU.sparse.numbytes"))
        return sparse_map(tar, value, err);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (strcmp(key, numbers[i].key) != 0)
            continue;
        if (decimal(&value, 0, &number) < 0)
            return ck_tar_bad(tar, err, "a number in the extended header is none");
        *numbers[i].into = number;
        *numbers[i].has = true;
    }
    return 0;
}

int ck_tar_read_pax(struct ck_tar *tar, struct ck_error *err)
{
    size_t cursor = 0, len = 0;
    char *key = NULL, *value = NULL;
    int more;

    tar->fields = (struct ck_tar_fields){.seen = true};
    tar->map_count = 0;
    while ((more = record(&tar->pax, &cursor, &key, &value, &len)) > 0)
        if (field(tar, key, value, len, err) < 0)
            return -1;
    return more < 0 ? ck_tar_bad(tar, err, "the extended header is malformed") : 0;
}

int ck_tar_xattr(const struct ck_tar *tar, size_t *cursor, const char **name, const uint8_t **value,
                 size_t *size)
{
    char *key = NULL, *text = NULL;

    while (tar->entry.has_xattrs && record(&tar->pax, cursor, &key, &text, size) > 0) {
        if (strncmp(key, XATTR_PREFIX, sizeof XATTR_PREFIX - 1) != 0)
            continue;
        *name = key + sizeof XATTR_PREFIX - 1;
        *value = (const uint8_t *)text;
        return 1;
    }
    return 0;
}
