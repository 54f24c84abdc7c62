/* fuzz_plan.c - any bytes are a valid plan or refused; a valid one can be read to its end. */
#include "plan.h"

static const struct {
    char slots[4], arguments[4];
} specs[CK_OP_END] = {
#define CK_PREPARE_OP(name, number, phase, slots, arguments, ...) [number] = {slots, arguments},
#define CK_CHILD_OP(name, number, phase, slots, arguments, ...)   [number] = {slots, arguments},
#include "ck_ops.h"
};

static volatile size_t seen; /* so that what is read is read */

static size_t read_argument(const struct ck_plan *plan, uint32_t offset, char kind)
{
    const char *item = ck_plan_text(plan, offset);
    uint32_t count;
    size_t sum = 0;

    if (!item)
        return 0;
    if (kind == 't' || kind == 'T')
        return strlen(item);
    item = ck_plan_list(plan, offset, &count);
    for (uint32_t i = 0; i < count; i++) {
        sum += kind == 'b' || kind == 'B' ? (unsigned char)item[i] : strlen(item);
        if (kind == 'l' || kind == 'L')
            item = ck_plan_next(item);
    }
    return sum;
}

static void read_plan(const struct ck_plan *plan)
{
    const uint16_t *n = plan->header->n_ops;

    for (int section = 0; section < 2; section++)
        for (int i = 0; i < n[section]; i++) {
            const struct ck_op *op = &plan->ops[section][i];

            HOLDS(op->code < CK_OP_END && specs[op->code].slots[0]);
            for (int j = 0; j < 3; j++) {
                HOLDS(op->fd[j] >= -1 && op->fd[j] < CK_SLOTS);
                seen += read_argument(plan, op->arena[j], specs[op->code].arguments[j]);
            }
        }
    HOLDS(n[CK_CHILD] > 0);
    HOLDS(plan->ops[CK_CHILD][n[CK_CHILD] - 1].code == CK_OP_EXEC ||
          plan->ops[CK_CHILD][n[CK_CHILD] - 1].code == CK_OP_PARK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    void *bytes = exactly(data, size);
    struct ck_plan plan;
    uint32_t at;

    if (ck_plan_check(bytes, size, &plan, &at) == 0)
        read_plan(&plan);
    else
        HOLDS(at == 0xffff0000 || at >> 16 < 2);
    free(bytes);
    return 0;
}

/* One op copied to another place, left out, or with another number. */
static size_t change_op(uint8_t *data, size_t size, size_t most, uint32_t *random)
{
    struct ck_plan_header header;
    uint8_t op[OP], *from, *to;
    size_t n;

    memcpy(&header, data, sizeof header);
    n = (size_t)header.n_ops[0] + header.n_ops[1];
    if (n == 0 || HEADER + n * OP > size)
        return size;
    from = data + HEADER + draw(random, (uint32_t)n) * OP;
    to = data + HEADER + draw(random, (uint32_t)n) * OP;
    memcpy(op, from, OP);
    switch (draw(random, 4)) {
    case 0:
        memcpy(from, to, OP);
        memcpy(to, op, OP);
        return size;
    case 1:
        *from = (uint8_t)draw(random, CK_OP_END);
        return size;
    case 2:
        if (!header.n_ops[1])
            return size;
        memmove(from, from + OP, (size_t)(data + size - from) - OP);
        header.n_ops[1]--;
        size -= OP;
        break;
    default:
        if (size + OP > most)
            return size;
        memmove(to + OP, to, (size_t)(data + size - to));
        memcpy(to, op, OP);
        header.n_ops[draw(random, 2)]++;
        size += OP;
    }
    memcpy(data, &header, sizeof header);
    return size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    uint32_t random = seed | 1;

    if (size > HEADER && draw(&random, 3) == 0)
        size = change_op(data, size, most, &random);
    else
        size = LLVMFuzzerMutate(data, size, most);
    if (size > HEADER && draw(&random, 32))
        put_right(data, size);
    return size;
}
