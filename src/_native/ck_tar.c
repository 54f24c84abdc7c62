#include "ck_tar.h"

#include <stdlib.h>
#include <string.h>

#define ID_MAX 0xfffffffeu /* 2^32-1 means "leave it" to chown */

enum state { AT_HEADER, AT_META, AT_OLD_MAP, AT_PAX_MAP };

/* The ustar header, POSIX.1-1988; GNU reuses the prefix for times and the sparse map. */
enum {
    NAME = 0,
    MODE = 100,
    UID = 108,
    GID = 116,
    SIZE = 124,
    MTIME = 136,
    CHECKSUM = 148,
    TYPE = 156,
    LINK = 157,
    MAGIC = 257,
    DEV_MAJOR = 329,
    DEV_MINOR = 337,
    PREFIX = 345,
    GNU_MAP = 386,
    GNU_EXTENDED = 482,
    GNU_REAL_SIZE = 483,
    MAP_EXTENDED = 504, /* in a block that continues an old GNU sparse map */
};

int ck_tar_bad(const struct ck_tar *tar, struct ck_error *err, const char *why)
{
    return ck_fail(err, CK_E_ARCHIVE, 0, "entry %llu (%.300s): %s",
                   (unsigned long long)tar->count, tar->path, why);
}

/* ---- numbers */

/* A binary number, big-endian two's complement, in a field whose first bit is set as the mark. */
static int base256(const uint8_t *field, size_t width, int64_t *out)
{
    bool negative = (field[0] & 0x40) != 0;
    uint64_t value = negative ? UINT64_MAX : 0;

    for (size_t i = 0; i < width; i++) {
        uint8_t byte = field[i];
        if (i == 0)
            byte = negative ? byte : (uint8_t)(byte & 0x7f);
        if (value >> 55 != (negative ? 0x1ffu : 0u)) /* the next shift would lose a bit */
            return -1;
        value = value << 8 | byte;
    }
    *out = (int64_t)value;
    return 0;
}

/* A numeric header field: octal text between spaces or NULs, or base-256. */
static int number(const uint8_t *field, size_t width, int64_t *out)
{
    uint64_t value = 0;
    size_t i = 0;

    if (field[0] & 0x80)
        return base256(field, width, out);
    while (i < width && (field[i] == ' ' || field[i] == 0))
        i++;
    for (; i < width && field[i] >= '0' && field[i] <= '7'; i++) {
        if (value >> 60)
            return -1;
        value = value << 3 | (uint64_t)(field[i] - '0');
    }
    for (; i < width; i++)
        if (field[i] != ' ' && field[i] != 0)
            return -1;
    *out = (int64_t)value;
    return 0;
}

/* Old GNU: pairs of 12-byte numbers, in the header and in the blocks right after it. */
static int old_segments(struct ck_tar *tar, const uint8_t *at, unsigned pairs, struct ck_error *err)
{
    for (; pairs; pairs--, at += 24) {
        int64_t offset, length;

        if (!at[0] || !at[12])
            break;
        if (number(at, 12, &offset) < 0 || number(at + 12, 12, &length) < 0 || offset < 0 ||
            length < 0)
            return ck_tar_bad(tar, err, "the sparse map holds no numbers");
        if (ck_tar_add_segment(tar, (uint64_t)offset, (uint64_t)length, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- extended headers */

static int long_text(struct ck_tar *tar, char *into, struct ck_error *err)
{
    size_t len = strnlen((char *)tar->meta, tar->meta_size);

    if (len >= CK_TAR_PATH)
        return ck_tar_bad(tar, err, "a path or link longer than 4095 bytes");
    memcpy(into, tar->meta, len);
    into[len] = 0;
    return 0;
}

/* A whole extended header stands in tar->meta. */
static int take_meta(struct ck_tar *tar, struct ck_error *err)
{
    uint8_t *records = tar->meta;
    size_t cap = tar->meta_cap;

    tar->state = AT_HEADER;
    switch (tar->meta_type) {
    case 'L':
        tar->has_long_path = 1;
        return long_text(tar, tar->path, err);
    case 'K':
        tar->has_long_link = 1;
        return long_text(tar, tar->link, err);
    case 'g':
        if (ck_tar_read_records(tar, &tar->global, err) < 0)
            return -1;
        /* names, sizes and maps of all entries at once make no sense: only owner and time stay */
        tar->global.path = tar->global.link = tar->global.sparse_name = NULL;
        tar->global.has_size = tar->global.has_real_size = tar->global.has_xattrs = false;
        tar->global.sparse_major = tar->global.sparse_minor = 0;
        tar->map.count = 0;
        return 0;
    default:
        tar->has_pax = 1;
        tar->local = tar->global;
        tar->map.count = 0;
        if (ck_tar_read_records(tar, &tar->local, err) < 0)
            return -1;
        tar->meta = tar->pax; /* keep the records: the fields and xattrs point into them */
        tar->meta_cap = tar->pax_cap;
        tar->pax = records;
        tar->pax_cap = cap;
        tar->pax_size = tar->meta_size;
        return 0;
    }
}

static int begin_meta(struct ck_tar *tar, char type, struct ck_error *err)
{
    int64_t size;
    size_t cap;

    if (number(tar->block + SIZE, 12, &size) < 0 || size < 0)
        return ck_tar_bad(tar, err, "size is not a number");
    if ((uint64_t)size > tar->meta_max)
        return ck_tar_bad(tar, err, "the extended header is too large");
    if ((type == 'x' && tar->has_pax) ||
        (type == 'g' && (tar->has_pax || tar->has_long_path || tar->has_long_link)))
        return ck_tar_bad(tar, err, "two extended headers for one entry");
    cap = ((size_t)size + CK_TAR_BLOCK) / CK_TAR_BLOCK * CK_TAR_BLOCK; /* with room for a NUL */
    if (cap > tar->meta_cap) {
        uint8_t *grown = realloc(tar->meta, cap);
        if (!grown)
            return ck_tar_bad(tar, err, "no memory for the extended header");
        tar->meta = grown;
        tar->meta_cap = cap;
    }
    tar->meta_size = (size_t)size;
    tar->meta_type = type;
    if (size == 0)
        return take_meta(tar, err);
    tar->state = AT_META;
    return 0;
}

/* ---- entries */

static bool is_ustar(const uint8_t *block)
{
    return !memcmp(block + MAGIC, "ustar\0", 6);
}

static int checksum_ok(const uint8_t *block)
{
    int64_t said, sum = 0, signed_sum = 0; /* old Suns added signed bytes */

    for (size_t i = 0; i < CK_TAR_BLOCK; i++) {
        uint8_t c = i >= CHECKSUM && i < CHECKSUM + 8 ? ' ' : block[i];
        sum += c;
        signed_sum += (int8_t)c;
    }
    return number(block + CHECKSUM, 8, &said) == 0 && (said == sum || said == signed_sum);
}

/* The path and the link text: PAX before GNU before the header's own fields. */
static int set_names(struct ck_tar *tar, const struct ck_tar_fields *f, struct ck_error *err)
{
    const char *path = f->sparse_name ? f->sparse_name : f->path, *link = f->link;
    size_t name = strnlen((char *)tar->block + NAME, 100), prefix = 0;

    if (!tar->has_long_path) {
        if (is_ustar(tar->block))
            prefix = strnlen((char *)tar->block + PREFIX, 155);
        memcpy(tar->path, tar->block + PREFIX, prefix);
        if (prefix)
            tar->path[prefix++] = '/';
        memcpy(tar->path + prefix, tar->block + NAME, name);
        tar->path[prefix + name] = 0;
    }
    if (!tar->has_long_link) {
        size_t len = strnlen((char *)tar->block + LINK, 100);
        memcpy(tar->link, tar->block + LINK, len);
        tar->link[len] = 0;
    }
    if ((path && strlen(path) >= CK_TAR_PATH) || (link && strlen(link) >= CK_TAR_PATH))
        return ck_tar_bad(tar, err, "a path or link longer than 4095 bytes");
    if (path)
        memcpy(tar->path, path, strlen(path) + 1);
    tar->entry.path = tar->path;
    tar->entry.link = link ? link : tar->link;
    return 0;
}

static int set_numbers(struct ck_tar *tar, const struct ck_tar_fields *f, struct ck_error *err)
{
    struct ck_tar_entry *e = &tar->entry;
    int64_t mode, uid, gid, size, mtime, major = 0, minor = 0;
    const uint8_t *block = tar->block;
    bool device = e->type == '3' || e->type == '4';

    if (number(block + MODE, 8, &mode) < 0 || number(block + UID, 8, &uid) < 0 ||
        number(block + GID, 8, &gid) < 0 || number(block + SIZE, 12, &size) < 0 ||
        number(block + MTIME, 12, &mtime) < 0 ||
        (device && (number(block + DEV_MAJOR, 8, &major) < 0 ||
                    number(block + DEV_MINOR, 8, &minor) < 0)))
        return ck_tar_bad(tar, err, "a field of the header is not a number");
    uid = f->has_uid ? f->uid : uid;
    gid = f->has_gid ? f->gid : gid;
    size = f->has_size ? f->size : size;
    if (uid < 0 || uid > ID_MAX || gid < 0 || gid > ID_MAX)
        return ck_tar_bad(tar, err, "uid or gid does not fit 32 bits");
    if (size < 0)
        return ck_tar_bad(tar, err, "the size is negative");
    if (major < 0 || major > 0xfff || minor < 0 || minor > 0xfffff)
        return ck_tar_bad(tar, err, "the device number does not fit");
    e->mode = (uint32_t)mode & 07777;
    e->uid = (uint32_t)uid;
    e->gid = (uint32_t)gid;
    e->dev_major = (uint32_t)major;
    e->dev_minor = (uint32_t)minor;
    e->mtime = f->has_mtime ? f->mtime : mtime;
    e->mtime_nsec = f->has_mtime ? f->mtime_nsec : 0;
    e->size = e->type == '0' ? (uint64_t)size : 0; /* nothing else has data, whatever it says */
    e->real_size = e->size;
    return 0;
}

/* Find the sparse map.  Returns 1 when the entry is whole, 0 when blocks of the map follow. */
static int set_sparse(struct ck_tar *tar, const struct ck_tar_fields *f, struct ck_error *err)
{
    int64_t real_size = 0;

    if (tar->block[TYPE] == 'S') {
        tar->map.count = 0;
        if (number(tar->block + GNU_REAL_SIZE, 12, &real_size) < 0 || real_size < 0)
            return ck_tar_bad(tar, err, "the real size is not a number");
        tar->entry.real_size = (uint64_t)real_size;
        if (old_segments(tar, tar->block + GNU_MAP, 4, err) < 0)
            return -1;
        if (!tar->block[GNU_EXTENDED])
            return ck_tar_attach_map(tar, err);
        tar->state = AT_OLD_MAP;
        return 0;
    }
    if (tar->entry.type != '0' || !f->has_real_size)
        return 1;
    tar->entry.real_size = f->real_size;
    if (f->sparse_major == 0)
        return ck_tar_attach_map(tar, err);
    if (f->sparse_major != 1 || f->sparse_minor != 0)
        return ck_tar_bad(tar, err, "an unknown version of the sparse format");
    tar->map.count = tar->map.numbers = tar->map.at = 0;
    tar->map.value = 0;
    tar->map.digits = 0;
    tar->state = AT_PAX_MAP;
    return 0;
}

static int take_entry(struct ck_tar *tar, char type, struct ck_error *err)
{
    const struct ck_tar_fields *fields = tar->has_pax ? &tar->local : &tar->global;
    struct ck_tar_entry *e = &tar->entry;
    size_t len;

    memset(e, 0, sizeof *e);
    if (set_names(tar, fields, err) < 0)
        return -1;
    tar->has_long_path = tar->has_long_link = tar->has_pax = 0;
    len = strlen(tar->path);
    if (type == 0 || type == '7' || type == 'S')
        type = '0';
    if (type == '0' && len && tar->path[len - 1] == '/')
        type = '5'; /* v7 had no other way to say directory */
    if (type < '0' || type > '6')
        return ck_tar_bad(tar, err, "an unknown type of entry");
    e->type = type;
    e->has_xattrs = fields->has_xattrs;
    if (set_numbers(tar, fields, err) < 0)
        return -1;
    return set_sparse(tar, fields, err);
}

/* One block where a header is due.  Returns 1 when the entry is whole. */
static int take_header(struct ck_tar *tar, struct ck_error *err)
{
    static const uint8_t zeros[CK_TAR_BLOCK];
    char type = (char)tar->block[TYPE];

    if (!memcmp(tar->block, zeros, CK_TAR_BLOCK)) {
        if (tar->has_pax || tar->has_long_path || tar->has_long_link)
            return ck_tar_bad(tar, err, "an extended header without its entry");
        tar->ended = ++tar->zero_blocks == 2;
        return 0;
    }
    tar->count++;
    if (!tar->has_long_path)
        tar->path[0] = 0; /* messages name this entry or none */
    if (tar->zero_blocks)
        return ck_tar_bad(tar, err, "a lone block of zeros before this entry");
    if (!checksum_ok(tar->block))
        return ck_tar_bad(tar, err, "the header's checksum is wrong");
    if (type == 'x' || type == 'g' || type == 'L' || type == 'K')
        return begin_meta(tar, type, err);
    if (type == 'V')
        return 0; /* a volume label has a header only */
    return take_entry(tar, type, err);
}

/* ---- the stream */

/* Collect `want` bytes; returns 1 when they are there. */
static int fill(struct ck_tar *tar, uint8_t *into, size_t want, const uint8_t **at, size_t *left)
{
    size_t take = want - tar->have < *left ? want - tar->have : *left;

    memcpy(into + tar->have, *at, take);
    *at += take;
    *left -= take;
    tar->have += take;
    if (tar->have < want)
        return 0;
    tar->have = 0;
    return 1;
}

int ck_tar_next(struct ck_tar *tar, const uint8_t **at, size_t *left, struct ck_error *err)
{
    int got = 0;

    while (got == 0 && *left > 0 && !tar->ended) {
        size_t padded = (tar->meta_size + CK_TAR_BLOCK - 1) / CK_TAR_BLOCK * CK_TAR_BLOCK;
        bool meta = tar->state == AT_META;

        if (!fill(tar, meta ? tar->meta : tar->block, meta ? padded : CK_TAR_BLOCK, at, left))
            return 0;
        if (meta) {
            got = take_meta(tar, err);
        } else if (tar->state == AT_PAX_MAP) {
            got = ck_tar_map_block(tar, err);
            tar->state = got == 0 ? AT_PAX_MAP : AT_HEADER;
        } else if (tar->state == AT_OLD_MAP) {
            if (old_segments(tar, tar->block, 21, err) < 0)
                return -1;
            if (!tar->block[MAP_EXTENDED]) {
                tar->state = AT_HEADER;
                got = ck_tar_attach_map(tar, err);
            }
        } else {
            got = take_header(tar, err);
        }
    }
    if (tar->ended)
        *left = 0;
    return got;
}

int ck_tar_finish(const struct ck_tar *tar, struct ck_error *err)
{
    if (tar->state != AT_HEADER || tar->have || tar->has_pax || tar->has_long_path ||
        tar->has_long_link)
        return ck_tar_bad(tar, err, "the archive ends inside the header that follows");
    return 0;
}

void ck_tar_free(struct ck_tar *tar)
{
    free(tar->meta);
    free(tar->pax);
    free(tar->map.segments);
    tar->meta = tar->pax = NULL;
    tar->map.segments = NULL;
}
