/* plan.h - makes bytes a plan as far as sizes go: else all that is tried ends there. */
#ifndef PLAN_H
#define PLAN_H

#include "ck_plan.h"
#include "fuzz.h"

enum { HEADER = sizeof(struct ck_plan_header), OP = sizeof(struct ck_op) };

/* The header says how much there is, the arena begins and ends as it must. */
static inline void put_right(uint8_t *data, size_t size)
{
    struct ck_plan_header header;
    size_t ops;

    if (size <= HEADER)
        return;
    memcpy(&header, data, sizeof header);
    header.magic = CK_PLAN_MAGIC;
    header.version = CK_PLAN_VERSION;
    header.reserved0 = header.reserved1 = 0;
    for (int i = 0; i < 2; i++)
        while (HEADER + ((size_t)header.n_ops[0] + header.n_ops[1]) * OP + 8 > size &&
               header.n_ops[i])
            header.n_ops[i] /= 2;
    ops = HEADER + ((size_t)header.n_ops[0] + header.n_ops[1]) * OP;
    header.arena_size = size > ops ? (uint32_t)(size - ops) : 0;
    memcpy(data, &header, sizeof header);
    if (header.arena_size >= 4)
        memset(data + ops, 0, 4);
    data[size - 1] = 0;
}

#endif
