/* ck_child.h - the child section's interpreter: from a fresh clone to exec.
 *
 * The child is single-threaded, allocates nothing, and talks only through its report socket: one
 * ck_report with errnum 0 right before exec (then end-of-file says that exec happened), or one
 * that names the failed step.  Between the last filter of system calls and the exec it makes
 * no call, unless it leaves an init.
 */
#pragma once

#include "ck_plan.h"
#include "ck_sys_ns.h"

struct ck_child {
    struct ck_plan plan;
    int slots[CK_SLOTS]; /* -1: empty */
    int root;            /* O_PATH of the new root until pivot */
    int last;            /* mount of MOUNT_FS; -1: none yet */
    int user;            /* of an exec: its container's user namespace or TREE, if it has one */
    bool entered;        /* it is in its working directory */
    int orphans;         /* proc_tid_children(5) of itself; 0: it has a pid namespace */
    pid_t parent;        /* otherwise */
    int report;          /* socket to the launcher */
    void *memory;        /* the launcher's table, in this copy of it */
    size_t memory_size;
    int32_t aux;         /* the running op's own detail for the report */
    char **argv, **envp; /* once it is ready for the exec */
};

typedef int ck_handler(struct ck_child *child, const struct ck_op *op);

enum { CK_REPORT_FD = 3 }; /* the one descriptor beyond the streams that is open during execve */

/* The handler of an op that is one call. */
#define CK_OP_IS(name, call)                                                                       \
    int name(struct ck_child *child, const struct ck_op *op)                                       \
    {                                                                                              \
        return (int)(call);                                                                        \
    }

static inline const char *ck_child_text(const struct ck_child *child, const struct ck_op *op, int i)
{
    return ck_plan_text(&child->plan, op->arena[i]);
}

/* Where the launcher keeps what children clone and mount on, in their copies of its namespace. */
#define CK_NEW_ROOT "/new"
#define CK_TEMPLATE_DEV "/tmpl/dev"
#define CK_GROUPS "/groups"
/* Where a child has made what is its container's own (ck_launcher_own.c). */
#define CK_OWN "/own"
#define CK_OWN_DEV "/dev"
#define CK_OWN_GROUPS CK_OWN "/cgroup"
#define CK_OWN_DIR CK_OWN "/empty"
#define CK_OWN_FILE CK_OWN "/file"

/* Make what every container's /dev has; nodes that can not be made are bound from a directory. */
int ck_fill_dev(int dir, const char *from);
/* End all that have come to us, and what comes from those; of our own children none.
 * children: proc_tid_children(5) of ourselves; -1: the kernel does it, with a pid namespace. */
void ck_end_orphans(int children);
/* Call act for each process but 1 that a file lists: cgroup.procs, proc_tid_children(5). */
void ck_each_listed(int file, void (*act)(pid_t pid, void *arg), void *arg);
/* Map what an EXEC hands over. */
int ck_child_ready(struct ck_child *child, const struct ck_op *op);
/* Close all but the streams and what reports a failed exec.  No later step uses a slot. */
int ck_child_close(struct ck_child *child);
_Noreturn void ck_child_run(struct ck_child *child);
int ck_child_tell(int socket, uint16_t section, int index, uint16_t code, int error, int32_t aux);

#define CK_CHILD_OP(name, number, phase, slots, arguments, handler) ck_handler handler;
#include "ck_ops.h"
