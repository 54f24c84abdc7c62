#include "ck_child.h"

#include <errno.h>

#include "ck_sys_ns.h"

static ck_handler *const handlers[CK_OP_END] = {
    [CK_OP_JOIN_NET] = ck_op_join_net,
    [CK_OP_ROOT] = ck_op_root,
    [CK_OP_MOUNT_FS] = ck_op_mount_fs,
    [CK_OP_MOVE_MOUNT] = ck_op_move_mount,
    [CK_OP_TEMPLATE] = ck_op_template,
    [CK_OP_MASK] = ck_op_mask,
    [CK_OP_READ_ONLY] = ck_op_read_only,
    [CK_OP_MKDIR] = ck_op_mkdir,
    [CK_OP_COPY_FD] = ck_op_copy_fd,
    [CK_OP_ROOT_READ_ONLY] = ck_op_root_read_only,
    [CK_OP_PIVOT] = ck_op_pivot,
    [CK_OP_HOSTNAME] = ck_op_hostname,
    [CK_OP_LOOPBACK] = ck_op_loopback,
    [CK_OP_SYSCTL] = ck_op_sysctl,
    [CK_OP_RLIMIT] = ck_op_rlimit,
    [CK_OP_OOM_SCORE] = ck_op_oom_score,
    [CK_OP_KEYRING] = ck_op_keyring,
    [CK_OP_STDIO] = ck_op_stdio,
    [CK_OP_SESSION] = ck_op_session,
    [CK_OP_UMASK] = ck_op_umask,
    [CK_OP_GROUPS] = ck_op_groups,
    [CK_OP_IDS] = ck_op_ids,
    [CK_OP_CAPS] = ck_op_caps,
    [CK_OP_CHDIR] = ck_op_chdir,
    [CK_OP_NO_NEW_PRIVS] = ck_op_no_new_privs,
    [CK_OP_SECCOMP] = ck_op_seccomp,
    [CK_OP_EXEC] = ck_op_exec,
};

_Noreturn void ck_child_run(struct ck_child *child)
{
    const struct ck_op *ops = child->plan.ops[CK_CHILD];
    int n = child->plan.header->n_ops[CK_CHILD];

    for (int i = 0; i < n; i++) {
        struct ck_report report = {.section = CK_CHILD, .index = (uint16_t)i, .code = ops[i].code};
        int error;

        child->aux = 0;
        if (ops[i].code == CK_OP_EXEC) /* "about to": a failure sends a second report */
            ck_send(child->report, &report, sizeof report, NULL, 0);
        error = handlers[ops[i].code](child, &ops[i]);
        if (error < 0 && !(ops[i].code != CK_OP_RLIMIT && ops[i].flags & CK_F_OPTIONAL)) {
            report.errnum = (uint16_t)-error;
            report.aux = child->aux;
            ck_send(child->report, &report, sizeof report, NULL, 0);
            break;
        }
    }
    ck_exit(127);
}
