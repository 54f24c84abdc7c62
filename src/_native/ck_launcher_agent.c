/* ck_launcher_agent.c - the process in a container's namespaces that makes its execs.
 *
 * A clone of the launcher that has joined all of the container's namespaces and control groups and
 * waits for plans, for 30 s after the last.  It clones with CLONE_PARENT, so that the launcher is the
 * parent of every exec.  No process of the container can see it.
 *
 * An exec may have an adopter: the parent of its first process, to which comes what that orphans
 * (PR_SET_CHILD_SUBREAPER).  It waits for all of it, and ends as the first process has ended.
 */
#include <sys/socket.h>

#include "ck_launcher.h"

enum {
    AGENT_SOCKET = CK_CONTROL_FD, /* all that an agent holds, and */
    AGENT_USER,                   /* its container's user namespace or TREE, if it has one */
    AGENT_IDLE_MS = 30000,
    SEND_MS = 1000, /* until the agent has taken what others sent */
};

/* ---- within the agent, and its children */

static int enter(struct ck_launcher *l, const struct ck_container *c)
{
    if (c->release & CK_HAS_CGROUP)
        CK_TRY(ck_pool_join_cgroup(l, c->number));
    return ck_setns(c->pidfd, CK_SPARE_NAMESPACES | CLONE_NEWCGROUP |
                                  (c->release & CK_HOST_NET ? 0 : CLONE_NEWNET));
}

/* The exec's first process.  It sends a pidfd of itself before anything else: from then on the
 * launcher knows it, whatever happens to the agent.  So does the agent, whom no process of the
 * container can stop.  For a plan in a memfd, which is the last descriptor, there is its size. */
static _Noreturn void run(const void *plan, size_t size, const int *fds, int n, int way, int user)
{
    struct ck_child child = {.root = -1, .last = -1, .user = user, .report = fds[0]};
    int self = ck_pidfd_open(ck_getpid()), error = self;
    uint32_t at;

    if (error >= 0)
        error = (int)ck_send(child.report, "", 1, &self, 1);
    if (error >= 0 && way >= 0 && ck_setns(way, CLONE_NEWCGROUP) < 0)
        error = ck_write_all(way, "0", 1); /* no namespace: the tasks of a group */
    if (size == sizeof size) {
        memcpy(&size, plan, sizeof size);
        plan = ck_map(fds[n - 1], size);
    }
    if (error >= 0)
        error = plan ? ck_plan_check(plan, size, &child.plan, &at) : -ENOMEM;
    ck_close(AGENT_SOCKET);
    for (int i = 0; i < CK_SLOTS; i++)
        child.slots[i] = i + 2 < n ? fds[i + 2] : -1;
    if (error >= 0)
        ck_child_run(&child);
    ck_child_tell(child.report, CK_CHILD, 0, 0, error, 0);
    ck_exit(126);
}

/* In the adopter: all signals are held, those of a terminal too, since it is to end last. */
static _Noreturn void adopt(struct ck_launcher *l, pid_t first)
{
    int status = 0, its;

    /* the container sees it, as its init: it keeps no rights, no descriptors, nothing of others */
    if (ck_close_range(0, ~0U, 0) < 0 || ck_set_caps(0, 0) < 0 || ck_no_new_privs() < 0)
        ck_exit(126);
    ck_unmap(l, sizeof *l);
    ck_name_process("ck-adopter");
    for (pid_t pid; (pid = ck_wait_any(&its)) > 0;)
        status = pid == first ? its : status;
    ck_set_signals(NULL, 0);
    if (status & 0x7f)
        ck_kill(ck_getpid(), status & 0x7f);
    ck_exit(status >> 8 & 0xff);
}

/* In what becomes the adopter; returns in its child, or where there is room for one process alone, which
 * is the exec's then. */
static void start_adopted(struct ck_launcher *l, int report, int group)
{
    CK_CLEANUP_FD int pidfd = -1, own = -1;
    int pid;

    ck_set_signals(NULL, ~0ULL);
    pid = ck_clone(0, group, &pidfd);
    if (pid > 0 && ck_adopt_orphans() >= 0)
        adopt(l, pid);
    if (pid == -EAGAIN && group >= 0) {
        pid = own = ck_openat(group, "cgroup.procs", O_WRONLY, 0);
        pid = pid < 0 ? pid : ck_write_all(own, "0", 1);
    } else if (pid == -EAGAIN) {
        pid = 0;
    }
    if (pid != 0) {
        ck_child_tell(report, CK_CHILD, 0, 0, pid < 0 ? pid : -ENOSYS, 0);
        ck_exit(126);
    }
    ck_set_signals(NULL, 0);
}

/* One exec; its descriptors are the socket for reports, the way into its group or namespace, the plan's
 * inputs, the memfd. */
static void serve(struct ck_launcher *l, int grouped, int error, bool *adopts)
{
    int fds[CK_FDS_MAX + 2], n = CK_FDS_MAX + 2, pidfd = -1, group;
    ssize_t got = ck_receive(AGENT_SOCKET, l->packet, sizeof l->packet, fds, &n, 1);

    if (got == 1 && n == 0) {
        *adopts = true;
        return;
    }
    if (got <= 0 || n < 2)
        ck_exit(0);
    group = grouped && l->unified >= 0 ? fds[1] : -1;
    if (!error)
        error = ck_clone(CLONE_PARENT, *adopts ? -1 : group, &pidfd);
    if (!error && *adopts)
        start_adopted(l, fds[0], group);
    if (!error) {
        if (grouped && l->unified >= 0) /* it is in the group: its directory leads to the host's */
            ck_close_at(&fds[1]);
        run(l->packet, (size_t)got, fds, n, fds[1], AGENT_USER);
    }
    if (error < 0)
        ck_child_tell(fds[0], CK_CHILD, 0, 0, error, 0);
    else
        ck_send(fds[0], "", *adopts ? 2 : 1, &pidfd, 1);
    ck_close_at(&pidfd);
    while (n > 0)
        ck_close(fds[--n]);
}

static _Noreturn void run_agent(struct ck_launcher *l, const struct ck_container *c)
{
    const int grouped = ck_exec_hierarchy(l, c) >= 0, error = enter(l, c);
    bool adopts = c->release & CK_ADOPTS;

    if (ck_dup_to(c->agent.socket, AGENT_SOCKET) < 0)
        ck_exit(126);
    if (ck_close_range(AGENT_SOCKET + 1 + (ck_dup_to(c->user, AGENT_USER) >= 0), ~0U, 0) < 0)
        ck_exit(126);
    for (;;) {
        if (error < 0 || ck_wait_for(AGENT_SOCKET, POLLIN, AGENT_IDLE_MS) == 0)
            ck_shutdown(AGENT_SOCKET, SHUT_RD); /* what was sent before is served all the same */
        serve(l, grouped, error, &adopts);
    }
}

/* ---- the agent, seen from the launcher */

static int make_agent(struct ck_launcher *l, struct ck_container *c)
{
    const uint32_t group = c->release & CK_HAS_CGROUP ? c->number : 0;

    c->agent = (struct ck_agent){.pidfd = -1};
    const pid_t pid = ck_pool_clone(l, group, 0, &c->agent.pidfd, &c->agent.socket);
    if (pid == 0)
        run_agent(l, c);
    return pid;
}

void ck_agent_adopt(struct ck_container *c)
{
    c->release |= CK_ADOPTS;
    if (c->agent.socket > 0)
        ck_send(c->agent.socket, "", 1, NULL, 0); /* a full socket: the next agent is told */
}

void ck_agent_end(struct ck_container *c)
{
    if (c->agent.socket <= 0)
        return;
    if (c->agent.pidfd >= 0)
        ck_kill_and_wait(c->agent.pidfd);
    ck_close_at(&c->agent.pidfd);
    ck_close_at(&c->agent.socket);
}

/* There is nothing to enter, and a filter around us may refuse CLONE_PARENT. */
static int run_bare(const struct ck_container *c, const void *plan, size_t size, const int *fds,
                    int n)
{
    CK_CLEANUP_FD int pidfd = -1;
    const int pid = ck_clone(0, -1, &pidfd);

    if (pid == 0)
        run(plan, size, fds, n, -1, c->user);
    return pid;
}

int ck_agent_send(struct ck_launcher *l, struct ck_container *c, const void *plan, size_t size,
                  const int *fds, int n)
{
    const void *packet = size > CK_PLAN_INLINE ? &size : plan;
    const size_t length = size > CK_PLAN_INLINE ? sizeof size : size;
    ssize_t sent = -EPIPE;

    if (l->hello.flags & CK_BARE)
        return run_bare(c, plan, size, fds, n);
    if (c->agent.socket > 0)
        sent = ck_send(c->agent.socket, packet, length, fds, n);
    if (sent == -EAGAIN && ck_wait_for(c->agent.socket, POLLOUT, SEND_MS) > 0)
        sent = ck_send(c->agent.socket, packet, length, fds, n);
    if (sent != -EPIPE && sent != -ECONNRESET)
        return (int)sent;
    ck_agent_end(c);
    CK_TRY(make_agent(l, c));
    return (int)ck_send(c->agent.socket, packet, length, fds, n);
}
