/* archive.h - tar archives for the C tests, built in a buffer. */
#ifndef ARCHIVE_H
#define ARCHIVE_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

static uint8_t archive[1 << 16];
static size_t used;

static inline void put(const void *data, size_t len)
{
    size_t padded = (len + 511) / 512 * 512;

    CHECK(used + padded <= sizeof archive);
    memset(archive + used, 0, padded);
    memcpy(archive + used, data, len);
    used += padded;
}

static inline void sign(uint8_t *block)
{
    unsigned sum = 0;
    char text[8];

    memset(block + 148, ' ', 8);
    for (int i = 0; i < 512; i++)
        sum += block[i];
    snprintf(text, sizeof text, "%06o", sum);
    memcpy(block + 148, text, 7);
}

static inline uint8_t *put_header(const char *name, char type, unsigned long size)
{
    uint8_t block[512] = {0};

    memcpy(block, name, strlen(name));
    snprintf((char *)block + 100, 8, "%07o", 0644u);
    snprintf((char *)block + 108, 8, "%07o", 1000u);
    snprintf((char *)block + 116, 8, "%07o", 100u);
    snprintf((char *)block + 124, 12, "%011lo", size);
    snprintf((char *)block + 136, 12, "%011lo", 1600000000ul);
    block[156] = (uint8_t)type;
    memcpy(block + 257, "ustar\00000", 8);
    sign(block);
    put(block, sizeof block);
    return archive + used - 512;
}

static inline void put_pax(const char *records, size_t len)
{
    put_header("pax", 'x', len);
    put(records, len);
}

static inline uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    return *state ^= *state << 5;
}

static inline void put_old_sparse(const char *name)
{
    uint8_t *block = put_header(name, 'S', 15), more[512] = {0};

    memcpy(block + 257, "ustar  \0", 8);
    memset(block + 345, 0, 155);
    for (unsigned i = 0; i < 2; i++)
        snprintf((char *)block + 386 + 24 * i, 24, "%011o%c%011o", i * 100, 0, 5);
    for (unsigned i = 2; i < 4; i++)
        snprintf((char *)block + 386 + 24 * i, 24, "%011o%c%011o", i * 100, 0, 0);
    block[482] = 1;
    snprintf((char *)block + 483, 12, "%011o", 1000u);
    sign(block);
    snprintf((char *)more, 24, "%011o%c%011o", 900u, 0, 5u);
    put(more, sizeof more);
    put("0123456789abcde", 15);
}

/* An archive with every kind of header that is read. */
static inline void put_one_of_each(void)
{
    static const char records[] = "17 path=new/name\n27 SCHILY.xattr.user.abc=c\n"
                                  "24 GNU.sparse.size=1000\n28 GNU.sparse.map=0,5,100,5\n";
    static const char sparse[] = "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
                                 "28 GNU.sparse.realsize=1000\n";
    char name[200];

    put_header("d", '5', 0);
    put_header("LongLink", 'L', 200);
    put(memset(name, 'n', sizeof name), sizeof name);
    put_header("f", '0', 0);
    put_header("d/f", '0', 700);
    put(memset(name, 'f', sizeof name), 200);
    put(memset(name, 'f', sizeof name), 188);
    put_pax(records, sizeof records - 1);
    put_header("f", '0', 10);
    put("0123456789", 10);
    put_pax(sparse, sizeof sparse - 1);
    put_header("sparse", '0', 522);
    put("2\n0\n5\n100\n5\n", 12);
    put("0123456789", 10);
    put_old_sparse("old");
    memcpy(put_header("link", '2', 0) + 157, "d", 1);
    sign(archive + used - 512);
    memcpy(put_header("hard", '1', 0) + 157, "d/f", 3);
    sign(archive + used - 512);
    put_header("link/through", '0', 0);
    put_header("fifo", '6', 0);
    put_header("d/.wh.gone", '0', 0);
    put_header("d/.wh..wh..opq", '0', 0);
    put_header("f", '5', 0);
    put_header("d", '0', 0);
    memset(archive + used, 0, 1024);
    used += 1024;
}

#endif
