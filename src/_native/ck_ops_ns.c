/* ck_ops_ns.c - child ops on the namespaces it is in: network, host name, sysctls, keyring. */
#include <linux/magic.h>

#include "ck_child.h"
#include "ck_path.h"

CK_OP_IS(ck_op_join_net, ck_setns(child->slots[op->fd[0]], CLONE_NEWNET))

CK_OP_IS(ck_op_hostname, ck_sethostname(ck_child_text(child, op, 0)))

/* Write to a procfs of our own, never attached anywhere: what lies at the container's /proc is
 * read-only or not ours (CVE-2025-52881). */
static int write_proc(const char *path, const char *value)
{
    CK_OPEN(proc, ck_new_mount("proc", "", 0, 0));
    CK_TRY(ck_path_type(proc) == PROC_SUPER_MAGIC ? 0 : -EXDEV);
    return ck_path_write(proc, path, value);
}

int ck_op_sysctl(struct ck_child *child, const struct ck_op *op)
{
    char path[256];

    if (snprintf(path, sizeof path, "sys/%s", ck_child_text(child, op, 0)) >= (int)sizeof path)
        return -ENAMETOOLONG;
    return write_proc(path, ck_child_text(child, op, 1));
}

CK_OP_IS(ck_op_oom_score, write_proc("self/oom_score_adj", ck_child_text(child, op, 0)))

CK_OP_IS(ck_op_keyring, ck_session_keyring())

int ck_op_chroot(struct ck_child *child, const struct ck_op *op)
{
    child->parent = ck_getppid();
    CK_TRY(ck_adopt_orphans());
    CK_TRY(child->orphans = ck_openat(AT_FDCWD, "/proc/thread-self/children", O_RDONLY, 0));
    if (op->value[0])
        return 0;
    CK_TRY(ck_fchdir(op->fd[0] < 0 ? child->user : child->slots[op->fd[0]]));
    return ck_chroot(".");
}
