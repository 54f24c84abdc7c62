/* ck_plan.c - the validator: what it lets through, the launcher and the child may trust.
 *
 * The launcher does not trust Python any more than a helper trusts its client: sizes, offsets,
 * lists, slots, sections and the order that keeps privileges sane are all checked here, once.
 */
#define _GNU_SOURCE
#include "ck_plan.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

/* What a field of an op holds.  OPT_*: may be absent. */
enum field { NONE, SLOT_IN, SLOT_OUT, SLOT_OPT, TEXT, OPT_TEXT, LIST, OPT_LIST, BYTES, OPT_BYTES };

/* When a child op may run: before the root is entered, after it, after the identity is dropped. */
enum phase { ANY, BEFORE_PIVOT, AFTER_PIVOT, PRIVILEGED };

struct spec {
    uint8_t section;
    uint8_t phase;
    uint8_t fd[3];
    uint8_t arena[3];
};

static const struct spec specs[CK_OP_END] = {
    [CK_OP_LOCK] = {CK_PREPARE, ANY, {NONE}, {TEXT}},
    [CK_OP_CGROUP] = {CK_PREPARE, ANY, {NONE}, {OPT_LIST}},
    [CK_OP_NETNS] = {CK_PREPARE, ANY, {SLOT_OUT}, {NONE}},
    [CK_OP_SOURCE] = {CK_PREPARE, ANY, {SLOT_IN}, {NONE}},
    [CK_OP_CLONE] = {CK_PREPARE, ANY, {SLOT_IN, SLOT_OUT}, {NONE}},
    [CK_OP_UPPER_TMPFS] = {CK_PREPARE, ANY, {NONE}, {NONE}},
    [CK_OP_UPPER_DIR] = {CK_PREPARE, ANY, {NONE}, {TEXT}},
    [CK_OP_OVERLAY] = {CK_PREPARE, ANY, {SLOT_OUT}, {LIST, OPT_TEXT}},
    [CK_OP_FILE] = {CK_PREPARE, ANY, {SLOT_OUT}, {OPT_BYTES}},
    [CK_OP_ID_MAP] = {CK_PREPARE, ANY, {NONE}, {TEXT, TEXT}},
    [CK_OP_STATE] = {CK_PREPARE, ANY, {NONE}, {NONE}},
    [CK_OP_JOIN_NET] = {CK_CHILD, BEFORE_PIVOT, {SLOT_IN}, {NONE}},
    [CK_OP_ROOT] = {CK_CHILD, BEFORE_PIVOT, {SLOT_IN}, {NONE}},
    [CK_OP_MOUNT_FS] = {CK_CHILD, BEFORE_PIVOT, {NONE}, {TEXT, TEXT, OPT_LIST}},
    [CK_OP_MOVE_MOUNT] = {CK_CHILD, BEFORE_PIVOT, {SLOT_IN}, {TEXT}},
    [CK_OP_TEMPLATE] = {CK_CHILD, BEFORE_PIVOT, {NONE}, {TEXT, TEXT}},
    [CK_OP_MASK] = {CK_CHILD, BEFORE_PIVOT, {NONE}, {TEXT}},
    [CK_OP_READ_ONLY] = {CK_CHILD, BEFORE_PIVOT, {NONE}, {TEXT}},
    [CK_OP_MKDIR] = {CK_CHILD, BEFORE_PIVOT, {NONE}, {TEXT}},
    [CK_OP_COPY_FD] = {CK_CHILD, BEFORE_PIVOT, {SLOT_IN}, {TEXT}},
    [CK_OP_ROOT_READ_ONLY] = {CK_CHILD, BEFORE_PIVOT, {NONE}, {NONE}},
    [CK_OP_PIVOT] = {CK_CHILD, BEFORE_PIVOT, {NONE}, {NONE}},
    [CK_OP_HOSTNAME] = {CK_CHILD, PRIVILEGED, {NONE}, {TEXT}},
    [CK_OP_LOOPBACK] = {CK_CHILD, PRIVILEGED, {NONE}, {NONE}},
    [CK_OP_SYSCTL] = {CK_CHILD, PRIVILEGED, {NONE}, {TEXT, TEXT}},
    [CK_OP_RLIMIT] = {CK_CHILD, PRIVILEGED, {NONE}, {NONE}},
    [CK_OP_OOM_SCORE] = {CK_CHILD, PRIVILEGED, {NONE}, {NONE}},
    [CK_OP_KEYRING] = {CK_CHILD, PRIVILEGED, {NONE}, {NONE}},
    [CK_OP_STDIO] = {CK_CHILD, ANY, {SLOT_OPT, SLOT_OPT, SLOT_OPT}, {NONE}},
    [CK_OP_SESSION] = {CK_CHILD, ANY, {NONE}, {NONE}},
    [CK_OP_UMASK] = {CK_CHILD, ANY, {NONE}, {NONE}},
    [CK_OP_GROUPS] = {CK_CHILD, PRIVILEGED, {NONE}, {OPT_BYTES}},
    [CK_OP_IDS] = {CK_CHILD, PRIVILEGED, {NONE}, {NONE}},
    [CK_OP_CAPS] = {CK_CHILD, AFTER_PIVOT, {NONE}, {NONE}},
    [CK_OP_CHDIR] = {CK_CHILD, AFTER_PIVOT, {NONE}, {TEXT}},
    [CK_OP_NO_NEW_PRIVS] = {CK_CHILD, ANY, {NONE}, {NONE}},
    [CK_OP_SECCOMP] = {CK_CHILD, AFTER_PIVOT, {NONE}, {BYTES}},
    [CK_OP_EXEC] = {CK_CHILD, AFTER_PIVOT, {NONE}, {LIST, LIST, LIST}},
    [CK_OP_DROP_CGROUP] = {CK_RELEASE, ANY, {NONE}, {NONE}},
    [CK_OP_DROP_SOURCES] = {CK_RELEASE, ANY, {NONE}, {NONE}},
    [CK_OP_DROP_DIR] = {CK_RELEASE, ANY, {NONE}, {TEXT}},
};

/* ---- the arena */

const char *ck_plan_text(const struct ck_plan *plan, uint32_t offset)
{
    return offset ? plan->arena + offset : NULL;
}

static uint32_t load_u32(const char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof value);
    return value;
}

const char *ck_plan_list(const struct ck_plan *plan, uint32_t offset, uint32_t *count)
{
    *count = offset ? load_u32(plan->arena + offset) : 0;
    return offset ? plan->arena + offset + 4 : NULL;
}

const char *ck_plan_next(const char *item)
{
    return item + strlen(item) + 1;
}

const void *ck_plan_bytes(const struct ck_plan *plan, uint32_t offset, uint32_t *length)
{
    *length = offset ? load_u32(plan->arena + offset) : 0;
    return offset ? plan->arena + offset + 4 : NULL;
}

static int check_counted(const struct ck_plan *plan, uint32_t offset, int is_list)
{
    uint32_t count, left;
    const char *at, *end = plan->arena + plan->arena_size;

    if (offset % 4 || offset > plan->arena_size - 4)
        return -EINVAL;
    count = load_u32(plan->arena + offset);
    left = plan->arena_size - offset - 4;
    if (count > left)
        return -EINVAL;
    if (!is_list)
        return 0;
    at = plan->arena + offset + 4;
    for (; count > 0; count--) {
        const char *nul = at < end ? memchr(at, 0, (size_t)(end - at)) : NULL;
        if (!nul)
            return -EINVAL;
        at = nul + 1;
    }
    return 0;
}

static int check_arena(const struct ck_plan *plan, uint32_t offset, enum field field)
{
    if (field == NONE)
        return offset ? -EINVAL : 0;
    if (!offset)
        return field == OPT_TEXT || field == OPT_LIST || field == OPT_BYTES ? 0 : -EINVAL;
    if (offset >= plan->arena_size || plan->arena_size < 8)
        return -EINVAL;
    if (field == TEXT || field == OPT_TEXT)
        return 0; /* the arena ends with NUL, so every text ends */
    return check_counted(plan, offset, field == LIST || field == OPT_LIST);
}

/* ---- slots and order */

struct progress {
    uint64_t filled; /* slots that hold a descriptor by now */
    int rooted, pivoted, dropped, ended;
};

static int check_slot(struct progress *now, int16_t slot, enum field field)
{
    if (field == NONE || (field == SLOT_OPT && slot == -1))
        return slot == -1 ? 0 : -EINVAL;
    if (slot == -1 && field == SLOT_OUT)
        return 0; /* nothing to fill: a host network namespace */
    if (slot < 0 || slot >= CK_SLOTS)
        return -EINVAL;
    if (field == SLOT_OUT) {
        if (now->filled >> slot & 1)
            return -EINVAL;
        now->filled |= 1ULL << slot;
        return 0;
    }
    return now->filled >> slot & 1 ? 0 : -EINVAL;
}

static int check_order(struct progress *now, const struct ck_op *op, enum phase phase)
{
    if (now->ended)
        return -EINVAL;
    if (phase == BEFORE_PIVOT && (now->pivoted || now->dropped))
        return -EINVAL;
    if (phase == BEFORE_PIVOT && !now->rooted && op->code != CK_OP_JOIN_NET &&
        op->code != CK_OP_ROOT)
        return -EINVAL;
    if (phase == AFTER_PIVOT && !now->pivoted)
        return -EINVAL;
    if (phase == PRIVILEGED && now->dropped)
        return -EINVAL;
    if (op->code == CK_OP_ROOT && now->rooted)
        return -EINVAL;
    now->rooted |= op->code == CK_OP_ROOT;
    now->pivoted |= op->code == CK_OP_PIVOT;
    now->dropped |= op->code == CK_OP_CAPS || op->code == CK_OP_SECCOMP;
    now->ended |= op->code == CK_OP_EXEC;
    return 0;
}

static int check_op(const struct ck_plan *plan, int section, const struct ck_op *op,
                    struct progress *now)
{
    const struct spec *spec;
    int error;

    if (op->code == 0 || op->code >= CK_OP_END || op->reserved)
        return -EINVAL;
    spec = &specs[op->code];
    if (spec->section != section || (section != CK_PREPARE && op->code < CK_OP_JOIN_NET))
        return -EINVAL;
    if (op->code > CK_OP_EXEC && op->code < CK_OP_DROP_CGROUP)
        return -EINVAL; /* a hole in the numbering */
    if (op->code > CK_OP_STATE && op->code < CK_OP_JOIN_NET)
        return -EINVAL;
    for (int i = 0; i < 3; i++) {
        error = check_arena(plan, op->arena[i], spec->arena[i]);
        if (!error)
            error = check_slot(now, op->fd[i], spec->fd[i]);
        if (error)
            return error;
    }
    return section == CK_CHILD ? check_order(now, op, spec->phase) : 0;
}

/* ---- the whole */

static int check_header(const struct ck_plan_header *header, size_t size)
{
    const uint64_t needed = CLONE_NEWNS | CLONE_NEWPID;
    const uint64_t known =
        needed | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWUSER;
    size_t ops = 0;

    if (header->magic != CK_PLAN_MAGIC)
        return -EINVAL;
    if (header->version != CK_PLAN_VERSION)
        return -EPROTONOSUPPORT;
    for (int i = 0; i < 3; i++) {
        if (header->n_ops[i] > CK_PLAN_OPS_MAX)
            return -EINVAL;
        ops += header->n_ops[i];
    }
    if (header->n_inputs > CK_SLOTS || header->reserved0 || (header->flags & ~CK_PLAN_EPHEMERAL) ||
        (header->namespaces & ~known) || (header->namespaces & needed) != needed)
        return -EINVAL;
    return sizeof *header + ops * sizeof(struct ck_op) + header->arena_size == size ? 0 : -EINVAL;
}

int ck_plan_check(const void *bytes, size_t size, struct ck_plan *out, uint32_t *at)
{
    const struct ck_plan_header *header = bytes;
    const struct ck_op *op;
    struct progress now = {0};
    int error;

    *at = 0xffff0000;
    if (size < sizeof *header || size > CK_PLAN_MAX || (uintptr_t)bytes % 8)
        return -EINVAL;
    error = check_header(header, size);
    if (error)
        return error;
    op = (const void *)(header + 1);
    out->header = header;
    out->arena = (const char *)(op + header->n_ops[0] + header->n_ops[1] + header->n_ops[2]);
    out->arena_size = header->arena_size;
    if (out->arena_size < 4 || load_u32(out->arena) || out->arena[out->arena_size - 1])
        return -EINVAL;
    now.filled = header->n_inputs == 64 ? ~0ULL : (1ULL << header->n_inputs) - 1;
    for (int section = 0; section < 3; section++) {
        out->ops[section] = op;
        for (int i = 0; i < header->n_ops[section]; i++, op++) {
            *at = (uint32_t)section << 16 | (uint32_t)i;
            error = check_op(out, section, op, &now);
            if (error)
                return error;
        }
        if (section == CK_CHILD && !now.ended)
            return -EINVAL;
    }
    return 0;
}
