#include "ck_tar.h"

#include <stdlib.h>
#include <string.h>

#define SEGMENTS_MAX 262144u /* 4 MiB of sparse map */
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

/* A PAX time: seconds with an optional fraction, possibly negative. */
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
    if (*text)
        return -1;
    *seconds = negative ? -(int64_t)whole : (int64_t)whole;
    if (negative && part) {
        *seconds -= 1;
        part = 1000000000 - part;
    }
    *nsec = part;
    return 0;
}

/* ---- the sparse map */

int ck_tar_add_segment(struct ck_tar *tar, uint64_t offset, uint64_t length, struct ck_error *err)
{
    if (tar->map.count == tar->map.cap) {
        size_t cap = tar->map.cap ? tar->map.cap * 2 : 64;
        struct ck_tar_segment *grown;

        if (cap > SEGMENTS_MAX)
            return ck_tar_bad(tar, err, "the sparse map has too many segments");
        grown = realloc(tar->map.segments, cap * sizeof *grown);
        if (!grown)
            return ck_tar_bad(tar, err, "no memory for the sparse map");
        tar->map.segments = grown;
        tar->map.cap = cap;
    }
    tar->map.segments[tar->map.count++] = (struct ck_tar_segment){offset, length};
    return 0;
}

/* Ascending, disjoint, inside the file, and exactly the data that the stream holds. */
int ck_tar_attach_map(struct ck_tar *tar, struct ck_error *err)
{
    struct ck_tar_entry *entry = &tar->entry;
    uint64_t end = 0, sum = 0;

    for (size_t i = 0; i < tar->map.count; i++) {
        const struct ck_tar_segment *s = &tar->map.segments[i];
        if (s->offset < end || s->length > INT64_MAX - s->offset ||
            s->offset + s->length > entry->real_size)
            return ck_tar_bad(tar, err, "the sparse map does not fit the file");
        end = s->offset + s->length;
        sum += s->length;
    }
    if (sum != entry->size)
        return ck_tar_bad(tar, err, "the sparse map does not fit the data");
    entry->segments = tar->map.segments;
    entry->sparse = true;
    return 1;
}

/* PAX 1.0: decimal lines at the head of the data, in whole blocks; one block of them. */
int ck_tar_map_block(struct ck_tar *tar, struct ck_error *err)
{
    if (tar->entry.size < CK_TAR_BLOCK)
        return ck_tar_bad(tar, err, "the sparse map is longer than the data");
    tar->entry.size -= CK_TAR_BLOCK;
    for (size_t i = 0; i < CK_TAR_BLOCK; i++) {
        uint8_t c = tar->block[i];

        if (c >= '0' && c <= '9' && tar->map.digits++ < 18) {
            tar->map.value = tar->map.value * 10 + (uint64_t)(c - '0');
            continue;
        }
        if (c != '\n' || !tar->map.digits)
            return ck_tar_bad(tar, err, "the sparse map holds no numbers");
        if (tar->map.at == 0) {
            if (tar->map.value > SEGMENTS_MAX)
                return ck_tar_bad(tar, err, "the sparse map has too many segments");
            tar->map.numbers = 1 + 2 * (size_t)tar->map.value;
        } else if (tar->map.at % 2) {
            if (ck_tar_add_segment(tar, tar->map.value, 0, err) < 0)
                return -1;
        } else {
            tar->map.segments[tar->map.count - 1].length = tar->map.value;
        }
        tar->map.value = 0;
        tar->map.digits = 0;
        if (++tar->map.at == tar->map.numbers) {
            return ck_tar_attach_map(tar, err);
        }
    }
    return 0;
}

/* ---- records */

/* One "length key=value\n" record at *cursor: ends key and value with NULs (the first pass writes
 * them).  Returns 1, 0 at the end, -1 when malformed. */
static int record(uint8_t *pax, size_t size, size_t *cursor, char **key, char **value, size_t *len)
{
    size_t start = *cursor, at = start, length = 0;
    uint8_t *end;

    if (at == size)
        return 0;
    for (; at < size && at < start + 9 && pax[at] >= '0' && pax[at] <= '9'; at++)
        length = length * 10 + (size_t)(pax[at] - '0');
    if (at == start || at == size || pax[at] != ' ' || length > size - start ||
        length < at - start + 3)
        return -1;
    end = pax + start + length - 1;
    *key = (char *)pax + ++at;
    while (pax + at < end && pax[at] != '=' && pax[at] != 0)
        at++;
    if (pax + at == end || (*end != '\n' && *end != 0))
        return -1;
    pax[at] = 0;
    *end = 0;
    *value = (char *)pax + at + 1;
    *len = (size_t)(end - pax) - at - 1;
    *cursor = start + length;
    return 1;
}

static int sparse_field(struct ck_tar *tar, struct ck_tar_fields *fields, const char *key,
                        const char *value, struct ck_error *err)
{
    uint64_t n = 0, length;

    if (!strcmp(key, "name")) {
        fields->sparse_name = value;
        return 0;
    }
    if (!strcmp(key, "map")) {
        for (; *value; value += *value == ',') {
            if (decimal(&value, ',', &n) < 0 || *value++ != ',' ||
                decimal(&value, ',', &length) < 0)
                return ck_tar_bad(tar, err, "the sparse map holds no numbers");
            if (ck_tar_add_segment(tar, n, length, err) < 0)
                return -1;
        }
        fields->sparse_minor = 1;
        return 0;
    }
    if (decimal(&value, 0, &n) < 0)
        return ck_tar_bad(tar, err, "a GNU.sparse field is not a number");
    if (!strcmp(key, "size") || !strcmp(key, "realsize")) {
        fields->real_size = n;
        fields->has_real_size = true;
    } else if (!strcmp(key, "major")) {
        fields->sparse_major = (unsigned)(n > 99 ? 99 : n);
    } else if (!strcmp(key, "minor")) {
        fields->sparse_minor = (unsigned)(n > 99 ? 99 : n);
    } else if (!strcmp(key, "offset")) {
        return ck_tar_add_segment(tar, n, 0, err);
    } else if (!strcmp(key, "numbytes")) {
        if (!tar->map.count)
            return ck_tar_bad(tar, err, "GNU.sparse.numbytes without an offset");
        tar->map.segments[tar->map.count - 1].length = n;
    }
    return 0;
}

static int pax_field(struct ck_tar *tar, struct ck_tar_fields *fields, const char *key,
                     const char *value, size_t len, struct ck_error *err)
{
    const char *text = value;
    uint64_t n = 0;
    bool is_uid = !strcmp(key, "uid"), is_gid = !strcmp(key, "gid"), is_size = !strcmp(key, "size");

    if (!strncmp(key, XATTR_PREFIX, sizeof XATTR_PREFIX - 1)) {
        fields->has_xattrs = true;
        return 0;
    }
    if (strlen(value) != len)
        return ck_tar_bad(tar, err, "an extended header field holds a NUL");
    if (!strcmp(key, "path")) {
        fields->path = value;
    } else if (!strcmp(key, "linkpath")) {
        fields->link = value;
    } else if (!strcmp(key, "mtime")) {
        if (pax_time(value, &fields->mtime, &fields->mtime_nsec) < 0)
            return ck_tar_bad(tar, err, "mtime is not a time");
        fields->has_mtime = true;
    } else if (is_uid || is_gid || is_size) {
        if (decimal(&text, 0, &n) < 0)
            return ck_tar_bad(tar, err, "size, uid or gid in an extended header is not a number");
        fields->has_uid |= is_uid;
        fields->has_gid |= is_gid;
        fields->has_size |= is_size;
        *(is_uid ? &fields->uid : is_gid ? &fields->gid : &fields->size) = (int64_t)n;
    } else if (!strncmp(key, "GNU.sparse.", 11)) {
        return sparse_field(tar, fields, key + 11, value, err);
    }
    return 0;
}

int ck_tar_read_records(struct ck_tar *tar, struct ck_tar_fields *fields, struct ck_error *err)
{
    size_t cursor = 0, len = 0;
    char *key = NULL, *value = NULL;
    int more;

    while ((more = record(tar->meta, tar->meta_size, &cursor, &key, &value, &len)) > 0)
        if (pax_field(tar, fields, key, value, len, err) < 0)
            return -1;
    return more < 0 ? ck_tar_bad(tar, err, "the extended header is malformed") : 0;
}

int ck_tar_xattr(const struct ck_tar *tar, size_t *cursor, const char **name, const uint8_t **value,
                 size_t *size)
{
    char *key = NULL, *text = NULL;

    if (!tar->entry.has_xattrs)
        return 0;
    while (record(tar->pax, tar->pax_size, cursor, &key, &text, size) > 0) {
        if (strncmp(key, XATTR_PREFIX, sizeof XATTR_PREFIX - 1) != 0)
            continue;
        *name = key + sizeof XATTR_PREFIX - 1;
        *value = (const uint8_t *)text;
        return 1;
    }
    return 0;
}
