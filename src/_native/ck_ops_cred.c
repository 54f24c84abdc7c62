/* ck_ops_cred.c - child ops that give up rights; after CAPS nothing privileged follows. */
#include <linux/filter.h>
#include <linux/magic.h>

#include "ck_child.h"
#include "ck_path.h"

int ck_op_groups(struct ck_child *child, const struct ck_op *op)
{
    uint32_t length;
    const char *groups = ck_plan_list(&child->plan, op->arena[0], &length);

    return ck_set_groups(length / sizeof(uint32_t), (const void *)groups);
}

/* So that it may open /dev/stdout.  Only what is made for it: pipes, and its own terminal.  What the
 * caller gave may have a name on the host, which keeps its owner. */
static void give_streams(const struct ck_child *child, const struct ck_op *op)
{
    bool own = false;

    for (int i = 0; i < child->plan.header->n_ops[CK_CHILD]; i++)
        own |= child->plan.ops[CK_CHILD][i].code == CK_OP_PTY;
    for (int i = 0; op->value[0] && i < 3; i++)
        if (own || ck_path_type(i) == PIPEFS_MAGIC)
            ck_fchownat(i, "", (uint32_t)op->value[0], (uint32_t)op->value[1], AT_EMPTY_PATH);
}

/* All rights in there, and none of the host's any more. */
int ck_op_join_user(struct ck_child *child, const struct ck_op *op)
{
    give_streams(child, op);
    CK_TRY(ck_setns(op->fd[0] < 0 ? child->user : child->slots[op->fd[0]], CLONE_NEWUSER));
    return ck_not_dumpable();
}

int ck_op_ids(struct ck_child *child, const struct ck_op *op)
{
    give_streams(child, op);
    CK_TRY(ck_set_ids((uint32_t)op->value[0], (uint32_t)op->value[1]));
    return ck_not_dumpable(); /* a change of ids makes it what fs.suid_dumpable says */
}

CK_OP_IS(ck_op_caps, ck_set_caps(op->value[0], op->value[1]))

CK_OP_IS(ck_op_no_new_privs, ck_no_new_privs())

CK_OP_IS(ck_op_unconfined, 0)

int ck_op_seccomp(struct ck_child *child, const struct ck_op *op)
{
    uint32_t length;
    const char *filter = ck_plan_list(&child->plan, op->arena[0], &length);

    return ck_seccomp((const void *)filter, length / sizeof(struct sock_filter));
}
