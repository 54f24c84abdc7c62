/* ck_ops_ns.c - child ops on the namespaces it is in: network, host name, sysctls, keyring. */
#include "ck_child.h"

int ck_op_join_net(struct ck_child *child, const struct ck_op *op)
{
    return ck_setns(child->slots[op->fd[0]], CLONE_NEWNET);
}

int ck_op_hostname(struct ck_child *child, const struct ck_op *op)
{
    const char *name = ck_plan_text(&child->plan, op->arena[0]);

    return ck_sethostname(name, strlen(name));
}

int ck_op_loopback(struct ck_child *child, const struct ck_op *op)
{
    return ck_loopback_up();
}

/* Write to a procfs of our own: what lies at the container's /proc is read-only or not ours. */
static int write_proc(const char *path, const char *value)
{
    CK_CLEANUP_FD int proc = ck_new_mount("proc", "", 0, 0);

    CK_TRY(proc);
    return ck_write_text(proc, path, value);
}

int ck_op_sysctl(struct ck_child *child, const struct ck_op *op)
{
    char path[256] = "sys/";
    const char *name = ck_plan_text(&child->plan, op->arena[0]);

    if (strlen(name) >= sizeof path - 4)
        return -ENAMETOOLONG;
    memcpy(path + 4, name, strlen(name) + 1);
    return write_proc(path, ck_plan_text(&child->plan, op->arena[1]));
}

int ck_op_oom_score(struct ck_child *child, const struct ck_op *op)
{
    char value[24];

    snprintf(value, sizeof value, "%d", (int)op->value[0] - 1000);
    return write_proc("self/oom_score_adj", value);
}

int ck_op_keyring(struct ck_child *child, const struct ck_op *op)
{
    return ck_session_keyring();
}
