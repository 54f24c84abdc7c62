#include "ck_tar.h"

#include <stdlib.h>
#include <string.h>

#define ID_MAX 0xfffffffeu /* 2^32-1 means "leave it" to chown */

enum state { AT_HEADER, AT_META, AT_OLD_MAP, AT_PAX_MAP };

/* The ustar header, POSIX.1-1988; GNU reuses the prefix for times and the sparse map. */
enum { /* clang-format off */
    NAME = 0, MODE = 100, UID = 108, GID = 116, SIZE = 124, MTIME = 136, CHECKSUM = 148, TYPE = 156,
    LINK = 157, MAGIC = 257, DEV_MAJOR = 329, DEV_MINOR = 337, PREFIX = 345,
    GNU_MAP = 386, GNU_EXTENDED = 482, GNU_REAL_SIZE = 483,
    MAP_EXTENDED = 504, /* in a block that continues an old GNU sparse map */
}; /* clang-format on */

int ck_tar_bad(const struct ck_tar *tar, struct ck_error *err, const char *why)
{
    return ck_fail(err, CK_E_ARCHIVE, 0, "entry %llu (%.300s): %s", (unsigned long long)tar->count,
                   tar->path, why);
}

/* ---- numbers */

/* Big-endian two's complement, in a field whose first bit is set as the mark. */
static int base256(const uint8_t *field, size_t width, int64_t *out)
{
    uint64_t sign = field[0] & 0x40 ? UINT64_MAX : 0, value = sign << 7 | (field[0] & 0x7f);

    for (size_t i = 1; i < width; i++) {
        if (value >> 55 != sign >> 55) /* the shift would lose more than copies of the sign */
            return -1;
        value = value << 8 | field[i];
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
    for (; i < width && field[i] >= '0' && field[i] <= '7'; i++) /* 36 bits at most */
        value = value << 3 | (uint64_t)(field[i] - '0');
    for (; i < width; i++)
        if (field[i] != ' ' && field[i] != 0)
            return -1;
    *out = (int64_t)value;
    return 0;
}

static bool checksum_ok(const uint8_t *block)
{
    int64_t said, sum = 0, signed_sum = 0; /* old Suns added signed bytes */

    for (size_t i = 0; i < CK_TAR_BLOCK; i++) {
        uint8_t c = i >= CHECKSUM && i < CHECKSUM + 8 ? ' ' : block[i];
        sum += c;
        signed_sum += (int8_t)c;
    }
    return number(block + CHECKSUM, 8, &said) == 0 && (said == sum || said == signed_sum);
}

/* ---- sparse files */

/* Old GNU: pairs of 12-byte numbers, in the header and in the blocks right after it. */
static int old_map(struct ck_tar *tar, const uint8_t *at, unsigned pairs, struct ck_error *err)
{
    for (; pairs && at[0] && at[12]; pairs--, at += 24) {
        int64_t offset, length;

        if (number(at, 12, &offset) < 0 || number(at + 12, 12, &length) < 0)
            return ck_tar_bad(tar, err, "the sparse map holds no numbers");
        if (ck_tar_add_number(tar, (uint64_t)offset, err) < 0 ||
            ck_tar_add_number(tar, (uint64_t)length, err) < 0)
            return -1;
    }
    return 0;
}

/* Ascending, disjoint, inside the file, and exactly the data that the stream holds. */
static int attach_map(struct ck_tar *tar, struct ck_error *err)
{
    struct ck_tar_entry *e = &tar->entry;
    uint64_t end = 0, sum = 0;

    for (size_t i = 0; i + 1 < tar->map_count; i += 2) {
        uint64_t offset = tar->map[i], length = tar->map[i + 1];
        if (offset < end || offset > e->real_size || length > e->real_size - offset)
            return ck_tar_bad(tar, err, "the sparse map does not fit the file");
        end = offset + length;
        sum += length;
    }
    if (sum != e->size || tar->map_count % 2)
        return ck_tar_bad(tar, err, "the sparse map does not fit the data");
    e->sparse = true;
    e->map = tar->map;
    return 1;
}

/* Find the sparse map.  Returns 1 when the entry is whole, 0 when blocks of the map follow. */
static int find_map(struct ck_tar *tar, const struct ck_tar_fields *f, struct ck_error *err)
{
    int64_t real_size = 0;

    if (tar->block[TYPE] == 'S') {
        tar->map_count = 0;
        if (number(tar->block + GNU_REAL_SIZE, 12, &real_size) < 0 || real_size < 0)
            return ck_tar_bad(tar, err, "the real size is not a number");
        tar->entry.real_size = (uint64_t)real_size;
        if (old_map(tar, tar->block + GNU_MAP, 4, err) < 0)
            return -1;
        tar->state = tar->block[GNU_EXTENDED] ? AT_OLD_MAP : AT_HEADER;
        return tar->state == AT_HEADER ? attach_map(tar, err) : 0;
    }
    if (tar->entry.type != '0' || !f->has_real_size)
        return 1;
    tar->entry.real_size = f->real_size;
    if (f->sparse_major == 0)
        return attach_map(tar, err);
    if (f->sparse_major != 1 || f->sparse_minor != 0)
        return ck_tar_bad(tar, err, "an unknown version of the sparse format");
    tar->map_count = 0;
    tar->map_due = tar->map_value = tar->map_digits = 0;
    tar->state = AT_PAX_MAP;
    return 0;
}

/* ---- entries */

static void copy_field(char *into, const uint8_t *field, size_t width)
{
    size_t len = strnlen((const char *)field, width);

    memcpy(into, field, len);
    into[len] = 0;
}

/* The path and the link text: PAX before GNU before the header's own fields. */
static int set_names(struct ck_tar *tar, const struct ck_tar_fields *f, struct ck_error *err)
{
    const char *path = f->sparse_name ? f->sparse_name : f->path;
    size_t prefix = 0;

    if (!tar->has_long_path) {
        if (!memcmp(tar->block + MAGIC, "ustar\0", 6) && tar->block[PREFIX]) {
            copy_field(tar->path, tar->block + PREFIX, 155);
            prefix = strlen(tar->path);
            tar->path[prefix++] = '/';
        }
        copy_field(tar->path + prefix, tar->block + NAME, 100);
    }
    if (!tar->has_long_link)
        copy_field(tar->link, tar->block + LINK, 100);
    if ((path && strlen(path) >= CK_TAR_PATH) || (f->link && strlen(f->link) >= CK_TAR_PATH))
        return ck_tar_bad(tar, err, "a path or link longer than 4095 bytes");
    if (path)
        strcpy(tar->path, path);
    tar->entry.path = tar->path;
    tar->entry.link = f->link ? f->link : tar->link;
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
        (device && number(block + DEV_MAJOR, 8, &major) < 0) ||
        (device && number(block + DEV_MINOR, 8, &minor) < 0))
        return ck_tar_bad(tar, err, "a field of the header is not a number");
    uid = f->has_uid ? (int64_t)f->uid : uid;
    gid = f->has_gid ? (int64_t)f->gid : gid;
    size = f->has_size ? (int64_t)f->size : size;
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
    e->has_xattrs = f->has_xattrs;
    return 0;
}

static int take_entry(struct ck_tar *tar, char type, struct ck_error *err)
{
    struct ck_tar_fields fields = tar->fields;
    size_t len;

    tar->entry = (struct ck_tar_entry){0};
    if (set_names(tar, &fields, err) < 0)
        return -1;
    tar->fields = (struct ck_tar_fields){0};
    tar->has_long_path = tar->has_long_link = false;
    len = strlen(tar->path);
    if (type == 0 || type == '7' || type == 'S')
        type = '0';
    if (type == '0' && len && tar->path[len - 1] == '/')
        type = '5'; /* v7 had no other way to say directory */
    if (type < '0' || type > '6')
        return ck_tar_bad(tar, err, "an unknown type of entry");
    tar->entry.type = type;
    return set_numbers(tar, &fields, err) < 0 ? -1 : find_map(tar, &fields, err);
}

/* ---- extended headers */

static struct ck_tar_text *meta_text(struct ck_tar *tar)
{
    return tar->meta_type == 'x' ? &tar->pax : &tar->other;
}

static int begin_meta(struct ck_tar *tar, char type, struct ck_error *err)
{
    struct ck_tar_text *text;
    int64_t size;

    if (number(tar->block + SIZE, 12, &size) < 0 || size < 0)
        return ck_tar_bad(tar, err, "size is not a number");
    if ((uint64_t)size > tar->meta_max)
        return ck_tar_bad(tar, err, "the extended header is too large");
    if ((type == 'x' && tar->fields.seen) || (type == 'L' && tar->has_long_path) ||
        (type == 'K' && tar->has_long_link))
        return ck_tar_bad(tar, err, "two extended headers of a kind for one entry");
    tar->meta_type = type;
    text = meta_text(tar);
    text->size = (size_t)size;
    if (text->size + CK_TAR_BLOCK > text->cap) { /* room for the padding, and never nothing */
        uint8_t *grown = realloc(text->data, text->size + CK_TAR_BLOCK);
        if (!grown)
            return ck_tar_bad(tar, err, "no memory for the extended header");
        text->data = grown;
        text->cap = text->size + CK_TAR_BLOCK;
    }
    tar->state = AT_META;
    return 0;
}

static int take_meta(struct ck_tar *tar, struct ck_error *err)
{
    const struct ck_tar_text *text = meta_text(tar);
    bool path = tar->meta_type == 'L';
    size_t len;

    tar->state = AT_HEADER;
    if (tar->meta_type == 'x')
        return ck_tar_read_pax(tar, err);
    if (tar->meta_type == 'g') /* of all entries that follow: other engines skip it too */
        return 0;
    len = strnlen((char *)text->data, text->size);
    if (len >= CK_TAR_PATH)
        return ck_tar_bad(tar, err, "a path or link longer than 4095 bytes");
    copy_field(path ? tar->path : tar->link, text->data, len);
    *(path ? &tar->has_long_path : &tar->has_long_link) = true;
    return 0;
}

/* ---- the stream */

static bool in_entry(const struct ck_tar *tar)
{
    return tar->fields.seen || tar->has_long_path || tar->has_long_link;
}

/* One block where a header is due.  Returns 1 when the entry is whole. */
static int take_header(struct ck_tar *tar, struct ck_error *err)
{
    static const uint8_t zeros[CK_TAR_BLOCK];
    char type = (char)tar->block[TYPE];

    if (!memcmp(tar->block, zeros, CK_TAR_BLOCK)) {
        if (in_entry(tar))
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
        return 0; /* a volume label is a header only */
    return take_entry(tar, type, err);
}

/* One block where more of an old GNU map is due. */
static int take_old_map(struct ck_tar *tar, struct ck_error *err)
{
    if (old_map(tar, tar->block, 21, err) < 0)
        return -1;
    if (tar->block[MAP_EXTENDED])
        return 0;
    tar->state = AT_HEADER;
    return attach_map(tar, err);
}

static int take_pax_map(struct ck_tar *tar, struct ck_error *err)
{
    int done = ck_tar_map_block(tar, err);

    if (done <= 0)
        return done;
    tar->state = AT_HEADER;
    return attach_map(tar, err);
}

int ck_tar_next(struct ck_tar *tar, const uint8_t **at, size_t *left, struct ck_error *err)
{
    static int (*const take[])(struct ck_tar *, struct ck_error *) = {
        [AT_HEADER] = take_header,
        [AT_META] = take_meta,
        [AT_OLD_MAP] = take_old_map,
        [AT_PAX_MAP] = take_pax_map,
    };
    int got = 0;

    while (got == 0 && !tar->ended) {
        bool meta = tar->state == AT_META;
        size_t want = CK_TAR_BLOCK, part;

        if (meta)
            want = (meta_text(tar)->size + CK_TAR_BLOCK - 1) / CK_TAR_BLOCK * CK_TAR_BLOCK;
        part = want - tar->have < *left ? want - tar->have : *left;
        memcpy((meta ? meta_text(tar)->data : tar->block) + tar->have, *at, part);
        *at += part;
        *left -= part;
        tar->have += part;
        if (tar->have < want)
            return 0;
        tar->have = 0;
        got = take[tar->state](tar, err);
    }
    if (tar->ended)
        *left = 0;
    return got;
}

int ck_tar_finish(const struct ck_tar *tar, struct ck_error *err)
{
    if (tar->state != AT_HEADER || tar->have || in_entry(tar))
        return ck_tar_bad(tar, err, "the archive ends inside the header that follows");
    return 0;
}

void ck_tar_free(struct ck_tar *tar)
{
    free(tar->pax.data);
    free(tar->other.data);
    free(tar->map);
    *tar = (struct ck_tar){0};
}
