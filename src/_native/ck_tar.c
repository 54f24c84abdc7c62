#include "ck_tar.h"

#include <stdio.h>
#include <stdlib.h>

#include "ck_acl.h"

#define ID_MAX        0xfffffffe /* 2^32-1 means "leave it" to chown */
#define BAD_NUMBER    "a number of its header does not fit, or is not a number"
#define INTO(member)  offsetof(struct ck_tar_entry, member)
#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* The ustar header, POSIX.1-1988. */
enum { /* clang-format off */
    NAME = 0, SIZE = 124, CHECKSUM = 148, TYPE = 156, LINK = 157, MAGIC = 257, DEV_MAJOR = 329,
    PREFIX = 345,
};

/* The numbers of an entry: the PAX record that gives it ("=" is no key), else its field of the
 * header; and what is allowed. */
static const struct number {
    const char *key;
    size_t into;
    unsigned at, width;
    int64_t least, most;
} numbers[] = {
    {"=",                   INTO(mode),         100,       8,  0,         INT64_MAX},
    {"uid",                 INTO(uid),          108,       8,  0,         ID_MAX},
    {"gid",                 INTO(gid),          116,       8,  0,         ID_MAX},
    {"size",                INTO(size),         SIZE,      12, 0,         INT64_MAX},
    {"mtime",               INTO(mtime),        136,       12, INT64_MIN, INT64_MAX},
    {"=",                   INTO(dev_major),    DEV_MAJOR, 8,  0,         0xfff},
    {"=",                   INTO(dev_minor),    337,       8,  0,         0xfffff},
}; /* clang-format on */

int ck_tar_fail(const struct ck_tar *tar, int code, int error, const char *why)
{
    tar->err->code = code;
    tar->err->errnum = -error;
    snprintf(tar->err->detail, sizeof tar->err->detail, "entry %llu (%.300s): %s",
             (unsigned long long)tar->count, tar->entry.path ? tar->entry.path : "", why);
    return -1;
}

int ck_tar_bad(const struct ck_tar *tar, const char *why)
{
    return ck_tar_fail(tar, CK_E_ARCHIVE, 0, why);
}

/* ---- numbers */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A numeric header field: octal text between spaces or NULs, or big-endian two's complement whose
 * first bit is set as the mark. */
static int read_field(const uint8_t *field, size_t width, int64_t *out)
{
    int64_t value = 0;
    size_t i = 0;

    if (field[0] & 0x80) {
        value = (field[0] & 0x7f) - (field[0] & 0x40 ? 0x80 : 0);
        for (i = 1; i < width; i++) {
            if (__builtin_mul_overflow(value, 256, &value))
                return -1;
            value += field[i];
        }
    } else {
        while (i < width && (field[i] == ' ' || field[i] == 0))
            i++;
        for (; i < width && field[i] >= '0' && field[i] <= '7'; i++) /* 36 bits at most */
            value = value * 8 + field[i] - '0';
        for (; i < width; i++)
            if (field[i] != ' ' && field[i] != 0)
                return -1;
    }
    *out = value;
    return 0;
}

/* The number at the front of a text, and where it ends; UINT64_MAX: it is larger.  (strtoull is
 * another function of glibc from one version of its headers to the next.) */
static uint64_t read_digits(const char *text, char **end)
{
    uint64_t value = 0;
    bool over = false;

    for (; is_digit(*text); text++)
        over |= __builtin_mul_overflow(value, 10, &value) ||
                __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value);
    *end = (char *)text;
    return over ? UINT64_MAX : value;
}

/* A record's value: [-]digits, with a fraction when nsec is given. */
static int read_decimal(const char *text, int64_t *out, int64_t *nsec)
{
    bool negative = *text == '-';
    const char *digits = text + negative;
    char *at;
    uint64_t whole = read_digits(digits, &at);
    int64_t unit = 1000000000, part = 0;

    if (!is_digit(*digits) || whole > INT64_MAX)
        return -1;
    if (nsec && *at == '.')
        for (at++; is_digit(*at); at++)
            part += (*at - '0') * (unit /= 10);
    if (*at)
        return -1;
    *out = negative ? -(int64_t)whole - (part > 0) : (int64_t)whole;
    if (nsec)
        *nsec = negative && part ? 1000000000 - part : part;
    return 0;
}

static bool checksum_ok(const uint8_t *block)
{
    int64_t said;
    int sum = 0;

    for (unsigned i = 0; i < CK_TAR_BLOCK; i++)
        sum += block[i];
    for (unsigned i = CHECKSUM; i < CHECKSUM + 8; i++) /* counted as spaces */
        sum += ' ' - block[i];
    return read_field(block + CHECKSUM, 8, &said) == 0 && said == sum;
}

/* ---- PAX records */

/* One "length key=value\n" record at *cursor.  Ends key and value with NULs, which a walk over
 * records that were taken finds; a first walk takes none in a key. */
int ck_tar_record(const struct ck_tar *tar, size_t *cursor, char **key, char **value, size_t *len)
{
    size_t left = tar->text[CK_TAR_PAX].size - *cursor;
    char *start = tar->text[CK_TAR_PAX].data + *cursor, *at, *end;
    uint64_t length = read_digits(start, &at); /* a NUL follows the text */
    bool again = tar->entry.texts & 1u << CK_TAR_PAX;

    if (!left)
        return 0;
    if (!is_digit(*start) || *at != ' ' || length > left || length < (size_t)(at - start) + 3)
        return -1;
    end = start + length - 1;
    *key = ++at;
    while (at < end && *at != '=' && *at != 0)
        at++;
    if (at == end || *at != (again ? 0 : '=') || *end != (again ? 0 : '\n'))
        return -1;
    *at = *end = 0;
    *value = at + 1;
    *len = (size_t)(end - *value);
    *cursor += length;
    return 1;
}

static int take_record(struct ck_tar *tar, const char *key, const char *value, size_t len)
{
    struct ck_tar_entry *e = &tar->entry;

    if (ck_begins(key, CK_TAR_XATTR)) {
        if (!strcmp(key, CK_TAR_XATTR "system.posix_acl_access"))
            e->denied |= 0777 & ~ck_acl_xattr(value, len);
        e->has_xattrs = true;
        return 0;
    }
    if (strlen(value) != len)
        return ck_tar_bad(tar, "a field of the extended header holds a NUL");
    e->sparse |= ck_begins(key, "GNU.sparse.");
    if (!strcmp(key, "path"))
        e->path = value;
    else if (!strcmp(key, "linkpath"))
        e->link = value;
    else if (!strcmp(key, "GNU.sparse.name"))
        e->sparse_name = value;
    else if (!strcmp(key, CK_TAR_ACL))
        e->denied |= 0777 & ~ck_acl_text(value);
    for (size_t i = 0; i < LENGTH(numbers); i++) {
        int64_t *into = (int64_t *)((char *)e + numbers[i].into);

        if (strcmp(key, numbers[i].key) != 0)
            continue;
        if (read_decimal(value, into, into == &e->mtime ? &e->mtime_nsec : NULL) < 0)
            return ck_tar_bad(tar, BAD_NUMBER);
        e->given |= 1u << i;
    }
    return 0;
}

/* ---- extended headers */

static int begin_meta(struct ck_tar *tar, unsigned kind)
{
    int64_t size = -1;
    char *data = NULL;

    if (tar->entry.texts & 1u << kind) /* the entry points into the first */
        return ck_tar_bad(tar, "two extended headers of a kind for one entry");
    if (read_field(tar->block + SIZE, 12, &size) == 0 && size >= 0 && (size_t)size <= tar->meta_max)
        data = realloc(tar->text[kind].data, (size_t)size + CK_TAR_BLOCK); /* padding, or a NUL */
    if (!data)
        return ck_tar_bad(tar, "the extended header is too large");
    tar->text[kind].data = data;
    tar->text[kind].size = (size_t)size;
    tar->text_now = kind;
    tar->meta = true;
    return 0;
}

static int take_meta(struct ck_tar *tar)
{
    unsigned bit = 1u << tar->text_now;
    char *data = tar->text[tar->text_now].data, *key = NULL, *value = NULL;
    size_t cursor = 0, len = 0;
    int more = 0;

    tar->meta = false;
    data[tar->text[tar->text_now].size] = 0;
    if (tar->text_now == CK_TAR_GLOBAL) /* of all entries that follow: other engines skip it too */
        return 0;
    if (tar->text_now == CK_TAR_PAX)
        while ((more = ck_tar_record(tar, &cursor, &key, &value, &len)) > 0)
            CK_TRY(take_record(tar, key, value, len));
    else
        *(tar->text_now == CK_TAR_LONG_PATH ? &tar->entry.path : &tar->entry.link) = data;
    tar->entry.texts |= bit;
    return more < 0 ? ck_tar_bad(tar, "the extended header is malformed") : 0;
}

/* ---- entries */

/* The path and the link text: of an extended header, else of the header's own fields. */
static int take_names(struct ck_tar *tar)
{
    struct ck_tar_entry *e = &tar->entry;
    const char *block = (const char *)tar->block;
    bool split = !memcmp(block + MAGIC, "ustar\0", 6) && block[PREFIX];

    snprintf(tar->path, sizeof tar->path, "%.155s%s%.100s", split ? block + PREFIX : "",
             split ? "/" : "", block + NAME);
    snprintf(tar->link, sizeof tar->link, "%.100s", block + LINK);
    if (e->sparse_name)
        e->path = e->sparse_name;
    if (!e->path)
        e->path = tar->path;
    if (!e->link)
        e->link = tar->link;
    if (strlen(e->path) >= CK_TAR_PATH || strlen(e->link) >= CK_TAR_PATH)
        return ck_tar_bad(tar, "a path or link longer than 4095 bytes");
    return 0;
}

static int take_numbers(struct ck_tar *tar)
{
    struct ck_tar_entry *e = &tar->entry;
    bool device = e->type == '3' || e->type == '4';

    for (size_t i = 0; i < LENGTH(numbers); i++) {
        const struct number *n = &numbers[i];
        int64_t *into = (int64_t *)((char *)e + n->into);
        bool wanted = (device || n->at < DEV_MAJOR) && !(e->given >> i & 1);

        if ((wanted && read_field(tar->block + n->at, n->width, into) < 0) || *into < n->least ||
            *into > n->most)
            return ck_tar_bad(tar, BAD_NUMBER);
    }
    e->mode &= 07777 & ~(int64_t)e->denied;
    /* Some readers skip so many bytes, others read a header there.  A hard link's are nobody's. */
    if (e->size && e->type != '0' && e->type != '1')
        return ck_tar_bad(tar, "only a file has data, and it is none");
    if (e->type != '0')
        e->size = 0;
    return 0;
}

static int take_entry(struct ck_tar *tar, char type)
{
    struct ck_tar_entry *e = &tar->entry;

    CK_TRY(take_names(tar));
    e->type = type == 0 || type == '7' || type == 'S' ? '0' : type;
    if (e->type == '0' && type != 'S' && *e->path && e->path[strlen(e->path) - 1] == '/')
        e->type = '5'; /* v7 had no other way to say directory */
    if (e->type < '0' || e->type > '6')
        return ck_tar_bad(tar, "an unknown type of entry");
    e->sparse = e->type == '0' && (e->sparse || type == 'S');
    CK_TRY(take_numbers(tar));
    return 1;
}

/* ---- the stream */

/* One block where a header is due.  Returns 1 when the entry is whole. */
static int take_header(struct ck_tar *tar)
{
    static const uint8_t zeros[CK_TAR_BLOCK];
    static const char kinds[CK_TAR_TEXTS] = {'x', 'L', 'K', 'g'};
    char type = (char)tar->block[TYPE];
    const char *kind = memchr(kinds, type, sizeof kinds);

    if (!memcmp(tar->block, zeros, CK_TAR_BLOCK)) {
        if (tar->entry.texts)
            return ck_tar_bad(tar, "an extended header without its entry");
        tar->ended = ++tar->zero_blocks == 2;
        return 0;
    }
    tar->count++;
    if (tar->zero_blocks)
        return ck_tar_bad(tar, "a lone block of zeros before this entry");
    if (!checksum_ok(tar->block))
        return ck_tar_bad(tar, "the header's checksum is wrong");
    if (kind)
        return begin_meta(tar, (unsigned)(kind - kinds));
    return take_entry(tar, type);
}

int ck_tar_next(struct ck_tar *tar, const uint8_t **at, size_t *left)
{
    int got = 0;

    if (!tar->within) {
        tar->entry = (struct ck_tar_entry){0};
        tar->text[CK_TAR_PAX].size = 0;
        tar->within = true;
    }
    while (got == 0 && !tar->ended) {
        bool meta = tar->meta;
        size_t size = meta ? tar->text[tar->text_now].size : CK_TAR_BLOCK;
        size_t due = (size + CK_TAR_BLOCK - 1) / CK_TAR_BLOCK * CK_TAR_BLOCK - tar->have;
        size_t part = due < *left ? due : *left;
        uint8_t *into = meta ? (uint8_t *)tar->text[tar->text_now].data : tar->block;

        memcpy(into + tar->have, *at, part);
        *at += part;
        *left -= part;
        tar->have += part;
        if (part < due)
            return 0;
        tar->have = 0;
        got = meta ? take_meta(tar) : take_header(tar);
    }
    tar->within = false;
    if (tar->ended)
        *left = 0;
    return got;
}

int ck_tar_finish(const struct ck_tar *tar)
{
    if (tar->meta || tar->have || (tar->within && tar->entry.texts))
        return ck_tar_bad(tar, "the archive ends inside the header that follows");
    return 0;
}

void ck_tar_free(struct ck_tar *tar)
{
    for (unsigned i = 0; i < CK_TAR_TEXTS; i++)
        free(tar->text[i].data);
    *tar = (struct ck_tar){0};
}
