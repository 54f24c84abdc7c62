/* ck_ops_proc.c - child ops on the process itself: limits, standard streams, exec. */
#include <sys/sysmacros.h>

#include "ck_child.h"
#include "ck_path.h"

CK_OP_IS(ck_op_rlimit, ck_set_rlimit(op->flags, op->value[0], op->value[1]))

/* -ENODEV: something else was put there. */
static int open_device(const char *path, unsigned major, unsigned minor)
{
    struct stat st;

    CK_OPEN(fd, ck_path_open(AT_FDCWD, path, O_RDWR | O_NOCTTY, CK_PATH_NO_SYMLINKS));
    CK_TRY(ck_fstat(fd, &st));
    if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(major, minor))
        return -ENODEV;
    return ck_steal_fd(&fd);
}

/* A stream that were a directory would stay open during execve, and lead out. */
int ck_op_stdio(struct ck_child *child, const struct ck_op *op)
{
    struct stat st;

    for (int i = 0; i < 3; i++) {
        CK_CLEANUP_FD int null = -1;
        child->aux = i;
        if (op->fd[i] < 0)
            CK_TRY(null = open_device("/dev/null", 1, 3));
        else if (ck_fstat(child->slots[op->fd[i]], &st) == 0 && S_ISDIR(st.st_mode))
            return -EISDIR;
        CK_TRY(ck_dup_to(null < 0 ? child->slots[op->fd[i]] : null, i));
    }
    return 0;
}

CK_OP_IS(ck_op_session, ck_setsid())

/* The terminal belongs to the container's own devpts, and nothing of the caller's is in here.  The
 * console may be one, too, where there is a place for it. */
int ck_op_pty(struct ck_child *child, const struct ck_op *op)
{
    const struct ck_report report = {.section = CK_CHILD, .code = CK_OP_PTY};
    CK_CLEANUP_FD int tree = -1;

    CK_OPEN(master, open_device("/dev/pts/ptmx", 5, 2));
    CK_OPEN(slave, ck_open_slave(master, (uint16_t)op->value[0], (uint16_t)op->value[1]));
    if (child->plan.header->flags != CK_PLAN_EXEC) /* which leaves no mounts behind */
        tree = ck_open_tree(slave, "", 0);
    if (tree >= 0)
        ck_move_mount(tree, AT_FDCWD, "/dev/console");
    CK_TRY(ck_setsid());
    for (int i = 0; i < 3; i++)
        CK_TRY(ck_dup_to(slave, i));
    CK_TRY(ck_take_tty(0));
    return (int)ck_send(child->report, &report, sizeof report, (int[]){master, slave}, 2);
}

CK_OP_IS(ck_op_umask, (ck_umask((mode_t)op->value[0]), 0))

int ck_op_chdir(struct ck_child *child, const struct ck_op *op)
{
    /* no link out of the root, into a descriptor of ours or to a deleted directory (CVE-2024-21626) */
    if (child->entered)
        return 0;
    CK_OPEN(dir, ck_path_open(AT_FDCWD, ck_child_text(child, op, 0), O_PATH | O_DIRECTORY, 0));
    CK_TRY(ck_fchdir(dir));
    child->entered = true;
    return 0;
}

static void fill_vector(char **vector, const char *item, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++, item = ck_plan_next(item))
        vector[i] = (char *)(uintptr_t)item;
    vector[n] = NULL;
}

/* Try the candidates as execvp(3) does: keep looking past what is not there, remember what was
 * there but may not be executed.  aux: the candidate that errno belongs to, counted from 1; it is
 * there even with ENOENT, when its interpreter is not. */
int ck_op_exec(struct ck_child *child, const struct ck_op *op)
{
    uint32_t n;
    const char *path = ck_plan_list(&child->plan, op->arena[0], &n);
    int error = -ENOENT;

    for (uint32_t i = 0; i < n; i++, path = ck_plan_next(path)) {
        int now = ck_execve(path, child->argv, child->envp);
        struct stat st;
        if (now == -ENOTDIR || (now == -ENOENT && ck_fstatat(AT_FDCWD, path, &st, 0) < 0))
            continue;
        error = now;
        child->aux = (int32_t)i + 1;
        if (now != -EACCES)
            break;
    }
    return error;
}

int ck_child_ready(struct ck_child *child, const struct ck_op *op)
{
    uint32_t argc, envc;
    const char *args = ck_plan_list(&child->plan, op->arena[1], &argc);
    const char *env = ck_plan_list(&child->plan, op->arena[2], &envc);

    child->argv = ck_map(-1, ((size_t)argc + envc + 2) * sizeof *child->argv);
    if (!child->argv)
        return -ENOMEM;
    child->envp = child->argv + argc + 1;
    fill_vector(child->argv, args, argc);
    fill_vector(child->envp, env, envc);
    return 0;
}

/* execve(2) opens the program, the interpreter of its "#!" line and its ELF interpreter while
 * close-on-exec descriptors are still open: "/proc/self/fd/N/.." in any of these paths would lead out
 * through a directory (CVE-2024-21626).  So all are closed here, but the socket for reports, which is no
 * directory, and what INIT reads. */
int ck_child_close(struct ck_child *child)
{
    unsigned first = CK_REPORT_FD + 1;

    if (child->orphans)
        CK_TRY(child->orphans = ck_dup_above(child->orphans, CK_REPORT_FD + 1));
    CK_TRY(ck_dup_to(child->report, CK_REPORT_FD));
    child->report = CK_REPORT_FD;
    CK_TRY(ck_set_cloexec(child->report));
    if ((unsigned)child->orphans > first)
        CK_TRY(ck_close_range(first, (unsigned)child->orphans - 1, 0));
    if (child->orphans)
        first = (unsigned)child->orphans + 1;
    for (int i = 0; i < CK_SLOTS; i++)
        child->slots[i] = -1;
    child->root = child->last = child->user = -1;
    return ck_close_range(first, ~0U, 0);
}
