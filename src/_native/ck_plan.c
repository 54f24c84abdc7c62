/* ck_plan.c - the validator: what it lets through, the launcher and the child may trust.
 *
 * The launcher does not trust Python any more than a helper trusts its client: sizes, offsets,
 * lists, slots, sections and the order that keeps privileges sane are all checked here, once.
 */
#include "ck_plan.h"

#include <sched.h>

#include "ck_sys.h"

/* When a child op may run: before the root is entered, after it, before rights are given up. */
enum phase { ANY, BEFORE_PIVOT, AFTER_PIVOT, PRIVILEGED };

struct spec {
    uint8_t section, phase;
    char slots[4], arguments[4]; /* the letters of ck_ops.h */
};

static const struct spec specs[CK_OP_END] = {
#define CK_PREPARE_OP(name, number, phase, slots, arguments, ...)                                  \
    [number] = {CK_PREPARE, phase, slots, arguments},
#define CK_CHILD_OP(name, number, phase, slots, arguments, ...)                                    \
    [number] = {CK_CHILD, phase, slots, arguments},
#include "ck_ops.h"
};

/* ---- the arena */

const char *ck_plan_text(const struct ck_plan *plan, uint32_t offset)
{
    return offset ? plan->arena + offset : NULL;
}

const char *ck_plan_list(const struct ck_plan *plan, uint32_t offset, uint32_t *count)
{
    const char *at = plan->arena + offset;

    memcpy(count, at, sizeof *count); /* of what is absent: 0, as the arena begins */
    return offset ? at + sizeof *count : NULL;
}

const char *ck_plan_next(const char *item)
{
    return item + strlen(item) + 1;
}

static int check_argument(const struct ck_plan *plan, uint32_t offset, char kind)
{
    const char *end = plan->arena + plan->arena_size, *at;
    uint32_t count;

    if (!offset)
        return kind == '-' || (kind >= 'A' && kind <= 'Z') ? 0 : -EINVAL;
    if (kind == '-' || offset >= plan->arena_size)
        return -EINVAL;
    if (kind == 't' || kind == 'T')
        return 0; /* the arena ends with NUL, so every text ends */
    if (offset % 4 || plan->arena_size - offset < 4)
        return -EINVAL;
    at = ck_plan_list(plan, offset, &count);
    if (count > (size_t)(end - at))
        return -EINVAL;
    for (; (kind == 'l' || kind == 'L') && count > 0; count--) {
        if (at == end)
            return -EINVAL;
        at = ck_plan_next(at);
    }
    return 0;
}

/* ---- slots and order */

struct progress {
    uint64_t filled; /* slots that hold a descriptor by now */
    uint64_t made;   /* codes of prepare ops that were there */
    int rooted, pivoted, dropped, ended;
    int ids, caps, filters; /* how many of these steps; what says that it has no filter counts */
};

static int check_slot(struct progress *now, int16_t slot, char kind)
{
    if (slot == -1) /* an out slot may stay empty: the host's network namespace */
        return kind == 'i' ? -EINVAL : 0;
    if (kind == '-' || slot < 0 || slot >= CK_SLOTS || (now->filled >> slot & 1) == (kind == 'o'))
        return -EINVAL;
    now->filled |= 1ULL << slot;
    return 0;
}

/* Nothing is executed with the caller's ids or rights, or without a filter, unless the plan says so. */
static bool is_confined(const struct progress *now)
{
    return now->ids == 1 && now->caps == 1 && now->filters > 0;
}

/* What may fail, and the program starts all the same: nothing that confines it. */
static bool may_be_optional(uint16_t code)
{
    return code == CK_OP_MOUNT_FS || code == CK_OP_MOVE_MOUNT || code == CK_OP_TEMPLATE ||
           code == CK_OP_LINK || code == CK_OP_OOM_SCORE || code == CK_OP_KEYRING ||
           code == CK_OP_CHDIR || code == CK_OP_RLIMIT; /* whose flags are a number */
}

static int check_order(struct progress *now, const struct ck_op *op, enum phase phase)
{
    const int needs_root =
        phase == BEFORE_PIVOT && op->code != CK_OP_JOIN_NET && op->code != CK_OP_ROOT;

    if (now->ended || (phase == BEFORE_PIVOT && now->pivoted) ||
        (phase == AFTER_PIVOT && !now->pivoted) || (needs_root && !now->rooted) ||
        (op->code == CK_OP_ROOT && now->rooted) || (op->code == CK_OP_INIT && !now->dropped) ||
        ((phase == BEFORE_PIVOT || phase == PRIVILEGED) && now->dropped) ||
        (op->flags & CK_F_OPTIONAL && !may_be_optional(op->code)))
        return -EINVAL;
    now->ids += op->code == CK_OP_IDS;
    now->caps += op->code == CK_OP_CAPS;
    now->filters += op->code == CK_OP_SECCOMP || op->code == CK_OP_UNCONFINED;
    now->rooted |= op->code == CK_OP_ROOT;
    now->pivoted |= op->code == CK_OP_PIVOT;
    now->dropped |= op->code == CK_OP_CAPS || op->code == CK_OP_SECCOMP;
    now->ended |= op->code == CK_OP_EXEC || op->code == CK_OP_PARK;
    return !now->ended || is_confined(now) ? 0 : -EINVAL;
}

static int check_op(const struct ck_plan *plan, int section, const struct ck_op *op,
                    struct progress *now)
{
    static const uint64_t several =
        1U << CK_OP_SOURCE | 1U << CK_OP_CLONE | 1U << CK_OP_OVERLAY | 1U << CK_OP_FILE;
    const struct spec *spec = &specs[op->code < CK_OP_END ? op->code : 0];

    if (!spec->slots[0] || spec->section != section || op->reserved)
        return -EINVAL; /* a hole in the numbering, or misplaced */
    if (section == CK_PREPARE && (now->made & ~several) >> op->code & 1)
        return -EINVAL; /* what the first one holds would be lost */
    now->made |= section == CK_PREPARE ? 1ULL << op->code : 0;
    for (int i = 0; i < 3; i++) {
        CK_TRY(check_argument(plan, op->arena[i], spec->arguments[i]));
        CK_TRY(check_slot(now, op->fd[i], spec->slots[i]));
    }
    return section == CK_CHILD ? check_order(now, op, spec->phase) : 0;
}

/* ---- the whole */

/* An exec finds its namespaces and root there: it neither prepares nor leaves anything. */
static bool good_kind(const struct ck_plan_header *header)
{
    const uint64_t needed = CLONE_NEWNS | CLONE_NEWPID;
    const uint64_t known = needed | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;

    if (header->flags == CK_PLAN_EXEC)
        return !header->namespaces && !header->n_ops[CK_PREPARE];
    return (header->flags == CK_PLAN_EPHEMERAL || header->flags == CK_PLAN_KEPT) &&
           !(header->namespaces & ~known) &&
           (!header->namespaces || (header->namespaces & needed) == needed);
}

static int check_header(const struct ck_plan_header *header, size_t size)
{
    size_t ops = 0;

    if (header->magic != CK_PLAN_MAGIC)
        return -EINVAL;
    if (header->version != CK_PLAN_VERSION)
        return -EPROTONOSUPPORT;
    for (int i = 0; i < 2; i++) {
        if (header->n_ops[i] > CK_PLAN_OPS_MAX)
            return -EINVAL;
        ops += header->n_ops[i];
    }
    if (header->n_inputs > CK_SLOTS || header->reserved0 || header->reserved1 || !good_kind(header))
        return -EINVAL;
    return sizeof *header + ops * sizeof(struct ck_op) + header->arena_size == size ? 0 : -EINVAL;
}

int ck_plan_check(const void *bytes, size_t size, struct ck_plan *out, uint32_t *at)
{
    const struct ck_plan_header *header = bytes;
    const struct ck_op *op;
    struct progress now = {0};

    *at = 0xffff0000;
    if (!bytes || size < sizeof *header || size > CK_PLAN_MAX || (uintptr_t)bytes % 8)
        return -EINVAL;
    CK_TRY(check_header(header, size));
    op = (const void *)(header + 1);
    out->header = header;
    out->arena = (const char *)(op + header->n_ops[0] + header->n_ops[1]);
    out->arena_size = header->arena_size;
    if (out->arena_size < 4 || memcmp(out->arena, "\0\0\0", 4) != 0 ||
        out->arena[out->arena_size - 1])
        return -EINVAL;
    now.rooted = now.pivoted = !header->namespaces; /* it stays where it is */
    now.filled = header->n_inputs == 64 ? ~0ULL : (1ULL << header->n_inputs) - 1;
    for (int section = 0; section < 2; section++) {
        out->ops[section] = op;
        for (int i = 0; i < header->n_ops[section]; i++, op++) {
            *at = (uint32_t)section << 16 | (uint32_t)i;
            CK_TRY(check_op(out, section, op, &now));
        }
    }
    *at = 0xffff0000;
    return now.ended ? 0 : -EINVAL;
}
