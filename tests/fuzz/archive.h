/* archive.h - a mutator that knows tar: checksums are right again, headers and PAX records are made
 * of words that mean something.  The last byte of an input is no part of the archive: options. */
#ifndef ARCHIVE_H
#define ARCHIVE_H

#include "fuzz.h"

enum { BLOCK = 512 };

static const char *const names[] = {
    "a", "a/b", "d", "d/", "d/e/f", "l", "l/x", "l/x/y", "", ".", "./", "..", "../x", "../../victim",
    "a/../../x", "/", "/mnt/victim", "/mnt/victim/file", "/mnt/layers/destination", "/etc/x",
    ".wh.a", ".wh.d", "d/.wh.e", ".wh.", ".wh..", ".wh..wh..opq", "d/.wh..wh..opq", ".wh..wh.x/y",
    ".wh.l", "a//b", "\xff", "../victim/directory/inner", "l/../../x", "l/directory/inner",
};
static const char *const keys[] = {
    "path", "linkpath", "size", "uid", "gid", "mtime", "SCHILY.xattr.user.a", "GNU.sparse.major",
    "SCHILY.xattr.security.capability", "SCHILY.xattr.trusted.overlay.opaque", "GNU.sparse.minor",
    "SCHILY.xattr.user.overlay.redirect", "SCHILY.xattr.", "GNU.sparse.size", "GNU.sparse.realsize",
    "GNU.sparse.name", "GNU.sparse.map", "GNU.sparse.offset", "GNU.sparse.numbytes", "x",
    "GNU.sparse.numblocks",
};
static const char *const values[] = {
    "0", "1", "-1", "5", "512", "513", "1000", "1.5", "-1.000000001", "4294967294", "4294967295",
    "9223372036854775807", "18446744073709551615", "-9223372036854775808", "0,5", "0,5,100,5",
    "100,5,0,5", "2\n0\n5\n100\n5\n", "", "y",
};

#define PICK(pool, random) (pool)[draw(random, sizeof(pool) / sizeof *(pool))]

static inline uint64_t size_of(const uint8_t *block)
{
    uint64_t size = 0;

    for (int i = 124; i < 136 && block[i] >= '0' && block[i] <= '7'; i++)
        size = size * 8 + block[i] - '0';
    return size;
}

static inline void sign(uint8_t *block)
{
    unsigned sum = 0;

    memset(block + 148, ' ', 8);
    for (int i = 0; i < BLOCK; i++)
        sum += block[i];
    snprintf((char *)block + 148, 8, "%06o", sum);
}

/* The place of the next header, if this block is one. */
static inline size_t after(const uint8_t *data, size_t at)
{
    uint64_t size = strchr("123456", data[at + 156]) && data[at + 156] ? 0 : size_of(data + at);

    return at + BLOCK + (size_t)(size + BLOCK - 1) / BLOCK * BLOCK;
}

static inline void sign_all(uint8_t *data, size_t size)
{
    static const uint8_t zeros[BLOCK];

    for (size_t at = 0; at + BLOCK <= size; at = after(data, at))
        if (memcmp(data + at, zeros, BLOCK) != 0)
            sign(data + at);
}

static inline void put_header(uint8_t *block, char type, size_t size, uint32_t *random)
{
    const char *name = PICK(names, random), *link = PICK(names, random);

    memset(block, 0, BLOCK);
    memcpy(block, name, strlen(name));
    snprintf((char *)block + 100, 8, "%07o", draw(random, 010000));
    snprintf((char *)block + 108, 8, "%07o", draw(random, 3));
    snprintf((char *)block + 116, 8, "%07o", draw(random, 3));
    snprintf((char *)block + 124, 12, "%011o", (unsigned)size);
    snprintf((char *)block + 136, 12, "%011o", draw(random, 1 << 30));
    block[156] = (uint8_t)type;
    memcpy(block + 157, link, strlen(link));
    memcpy(block + 257, draw(random, 4) ? "ustar\00000" : "ustar  \0", 8);
    if (type == 'S')
        snprintf((char *)block + 386, 97, "%011o%c%011o", draw(random, 9), 0, (unsigned)size);
    sign(block);
}

static inline size_t put_records(char *at, size_t room, uint32_t *random)
{
    size_t used = 0;

    for (uint32_t n = draw(random, 4); n-- > 0;) {
        const char *key = PICK(keys, random);
        const char *value = draw(random, 3) ? PICK(values, random) : PICK(names, random);
        size_t length = strlen(key) + strlen(value) + 3;

        length += length + 1 > 9 ? 2 : 1;
        length += length > 99;
        if (used + length + 1 > room)
            break;
        used += (size_t)snprintf(at + used, room - used, "%zu %s=%s\n", length, key, value);
    }
    return used;
}

/* An entry, perhaps behind an extended header of its own; in whole blocks. */
static inline size_t make_entry(uint8_t out[8 * BLOCK], uint32_t *random)
{
    size_t used = 0, size = 0;

    memset(out, 0, 8 * BLOCK);
    if (draw(random, 2)) {
        char kind = "xxxLKg"[draw(random, 6)];
        const char *name = PICK(names, random);
        if (kind == 'x' || kind == 'g')
            size = put_records((char *)out + BLOCK, 2 * BLOCK, random);
        else
            memcpy(out + BLOCK, name, size = strlen(name));
        put_header(out, kind, size, random);
        used = BLOCK + (size + BLOCK - 1) / BLOCK * BLOCK;
    }
    size = draw(random, 3) ? draw(random, 30) : draw(random, 2 * BLOCK);
    put_header(out + used, "0000112255346S7\0"[draw(random, 16)], size, random);
    memset(out + used + BLOCK, 'd', size);
    return after(out, used);
}

static inline size_t insert_entry(uint8_t *data, size_t size, size_t most, uint32_t *random)
{
    uint8_t entry[8 * BLOCK];
    size_t at = 0, length = make_entry(entry, random);

    for (uint32_t skip = draw(random, 8); skip > 0 && at + BLOCK <= size; skip--)
        at = after(data, at);
    if (at > size)
        at = 0;
    if (size + length > most)
        return size;
    memmove(data + at + length, data + at, size - at);
    memcpy(data + at, entry, length);
    return size + length;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    uint32_t random = seed | 1;

    if (draw(&random, 3) == 0)
        size = insert_entry(data, size, most, &random);
    else
        size = LLVMFuzzerMutate(data, size, most);
    if (draw(&random, 16))
        sign_all(data, size);
    return size;
}

#endif
