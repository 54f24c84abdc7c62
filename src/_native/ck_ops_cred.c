/* ck_ops_cred.c - child ops that give up rights; after CAPS nothing privileged follows. */
#include <linux/filter.h>

#include "ck_child.h"

int ck_op_groups(struct ck_child *child, const struct ck_op *op)
{
    uint32_t length;
    const char *groups = ck_plan_list(&child->plan, op->arena[0], &length);

    return ck_set_groups(length / sizeof(uint32_t), (const void *)groups);
}

int ck_op_ids(struct ck_child *child, const struct ck_op *op)
{
    uint32_t uid = (uint32_t)op->value[0], gid = (uint32_t)op->value[1];

    for (int i = 0; uid && i < 3; i++) /* so that it may open /dev/stdout; /dev/null refuses */
        ck_fchownat(i, "", uid, gid, AT_EMPTY_PATH);
    return ck_set_ids(uid, gid);
}

CK_OP_IS(ck_op_caps, ck_set_caps(op->value[0], op->value[1]))

CK_OP_IS(ck_op_no_new_privs, ck_no_new_privs())

int ck_op_seccomp(struct ck_child *child, const struct ck_op *op)
{
    uint32_t length;
    const char *filter = ck_plan_list(&child->plan, op->arena[0], &length);

    return ck_seccomp((const void *)filter, length / sizeof(struct sock_filter));
}
