/* ck_launcher_exec.c - further processes of a running container.
 *
 * The container's agent clones an exec's first process.  What that starts stays in a group of its
 * own, "<container's number>/x<the exec's>", and is killed as a whole when the first process has
 * ended: what is left then is frozen, killed and thawed, until the group can be removed.
 */

#include "ck_launcher.h"

enum {
    ROUNDS = 8, /* of killing at once */
    RETRY_NS = 2000000,
    LOST_MS = 100,
};

static int watch(struct ck_launcher *l, const struct ck_exec *e, int fd, int kind)
{
    return ck_launcher_watch(l, fd, kind, e->generation, (size_t)(e - l->execs));
}

int ck_exec_hierarchy(const struct ck_launcher *l, const struct ck_container *c)
{
    int index = c->release & CK_HAS_CGROUP ? ck_pool_controller(l, "freezer") : -1;

    return index < 0 ? -1 : l->controllers[index];
}

static const char *group_path(const struct ck_launcher *l, const struct ck_exec *e, char out[128],
                              const char *file)
{
    char name[64];

    snprintf(name, sizeof name, "x%u%s", e->number, file);
    return ck_pool_group(l, e->container->number, name, out);
}

/* ---- the end of an exec */

/* Whether the container's first process is on its way out, and takes all others with it: it has left
 * its namespaces (pid_namespaces(7)), though it ends only when all are waited for. */
bool ck_exec_is_ending(const struct ck_container *c)
{
    char path[40], link[8];

    snprintf(path, sizeof path, "/proc/%u/ns/mnt", c->state.pid);
    return ck_readlinkat(AT_FDCWD, path, link, sizeof link) == -ENOENT;
}

static void done(struct ck_launcher *l, struct ck_exec *e)
{
    struct ck_event *event = &e->event;
    const int code = event->signal ? 128 + event->signal : event->code;
    int error;

    if (event->report.errnum && !event->report.code && ck_exec_is_ending(e->container))
        event->report.errnum = ESRCH;
    error = -event->report.errnum;
    ck_launcher_unwatch(l, &e->pidfd);
    ck_launcher_unwatch(l, &e->report);
    ck_close_at(&e->master);
    e->event.finished_ns = ck_now(CLOCK_REALTIME);
    ck_launcher_tell(e->channel, error ? CK_FAILED : CK_EXITED, event, -1, -1);
    ck_launcher_unwatch(l, &e->channel);
    e->status = CK_EXEC_FREE;
    if (e->flags & CK_EXEC_PROBE)
        ck_life_probed(l, e->container, error ? error : code);
}

/* Kill all that is in an exec's group now; returns one of them, 0 when it is empty. */
static pid_t kill_group(struct ck_launcher *l, const struct ck_exec *e)
{
    const int dir = ck_exec_hierarchy(l, e->container);
    CK_CLEANUP_FD int procs = -1;
    char path[128];
    pid_t found;

    ck_pool_freeze(l, group_path(l, e, path, ""), true);
    procs = ck_openat(dir, group_path(l, e, path, "/cgroup.procs"), O_RDONLY, 0);
    found = ck_kill_listed(procs, false);
    ck_close_at(&procs); /* it may be the last descriptor that there is */
    ck_pool_freeze(l, group_path(l, e, path, ""), false);
    return found;
}

/* Remove its group, which is all that is left of it, and tell its end.  While something in the group
 * is dying, that wakes us again. */
static void finish(struct ck_launcher *l, struct ck_exec *e)
{
    const int dir = ck_exec_hierarchy(l, e->container);
    char path[128];

    e->status = CK_EXEC_ENDING;
    ck_launcher_unwatch(l, &e->pidfd);
    for (int round = 0; round < ROUNDS; round++) {
        pid_t pid;
        if (dir < 0 || ck_unlinkat(dir, group_path(l, e, path, ""), AT_REMOVEDIR) != -EBUSY)
            return done(l, e);
        pid = kill_group(l, e);
        e->pidfd = pid ? ck_pidfd_open(pid) : -1;
        if (e->pidfd >= 0 && watch(l, e, e->pidfd, CK_WATCH_EXEC_PIDFD) >= 0)
            return;
        ck_launcher_unwatch(l, &e->pidfd);
    }
    ck_life_due(l, ck_now(CLOCK_MONOTONIC) + RETRY_NS);
}

static void kill_exec(struct ck_launcher *l, struct ck_exec *e, int signal, uint32_t cause)
{
    if (cause && !e->event.cause)
        e->event.cause = cause;
    if (e->status != CK_EXEC_ENDING && e->pidfd >= 0) /* then it is of somebody else */
        ck_pidfd_kill(e->pidfd, signal);
    if (signal != SIGKILL)
        return;
    e->flags |= CK_EXEC_KILLED;
    kill_group(l, e);
}

/* ---- its first process */

static void started(struct ck_launcher *l, struct ck_exec *e)
{
    e->status = CK_EXEC_RUNNING;
    if (e->flags & CK_EXEC_QUIET) /* which is heard late: it counts from when it was asked for */
        return;
    e->event.started_ns = ck_now(CLOCK_REALTIME);
    ck_launcher_tell(e->channel, CK_STARTED, &e->event, e->pidfd, e->master);
    ck_close_at(&e->master);
}

/* One that its caller has killed has ended, however far it had come. */
static void on_end(struct ck_launcher *l, struct ck_exec *e)
{
    struct ck_event *event = &e->event;

    ck_end_orphans(l->orphans);
    ck_launcher_unwatch(l, &e->report);
    if (e->status == CK_EXEC_STARTING && !event->report.errnum && !(e->flags & CK_EXEC_KILLED))
        event->report = (struct ck_report){CK_CHILD, 0, 0, ECHILD, event->signal};
    if (!event->signal)
        event->cause = CK_CAUSE_EXITED;
    else if (!event->cause)
        event->cause = event->signal == SIGKILL && !ck_exec_is_ending(e->container) &&
                               ck_launcher_was_oom(l, e->container)
                           ? CK_CAUSE_OOM
                           : CK_CAUSE_SIGNAL;
    finish(l, e);
}

/* Nothing was heard of it: it died at birth, or the agent did before.  It has been in the agent's
 * process group only, and can be waited for by that. */
static void lost(struct ck_launcher *l, struct ck_exec *e)
{
    for (int i = 0; i < LOST_MS && e->agent && ck_wait_group(e->agent) == 0; i++)
        ck_wait_for(-1, 0, 1); /* it is about to be dead */
    e->event.signal = SIGKILL;
    on_end(l, e);
}

/* Take one report; 0 when there is no more now. */
static int on_report(struct ck_launcher *l, struct ck_exec *e)
{
    struct ck_report report;
    int fd = -1, n = 1;
    ssize_t got =
        e->report < 0 ? -EAGAIN : ck_receive(e->report, &report, sizeof report, &fd, &n, 0);

    if (got == -EAGAIN)
        return 0;
    if (got <= 0) {
        ck_launcher_unwatch(l, &e->report);
        if (e->pidfd < 0)
            lost(l, e);
        return 0;
    }
    if (n == 1 && got > 1) { /* its terminal's master */
        ck_close_at(&e->master);
        e->master = fd;
    } else if (n == 1 && e->pidfd >= 0) { /* its pidfd, again */
        ck_close(fd);
    } else if (n == 1 && watch(l, e, fd, CK_WATCH_EXEC_PIDFD) < 0) {
        ck_kill_and_wait(fd); /* its end would not be seen: the end of its reports tells */
        ck_close(fd);
        e->event.report = (struct ck_report){CK_CHILD, 0, 0, ENOMEM, 0};
    } else if (n == 1) {
        e->pidfd = fd;
        if (e->flags & CK_EXEC_QUIET) /* nobody waits for what it says next: its end tells */
            ck_epoll_set(l->epoll, EPOLL_CTL_DEL, e->report, 0, 0);
        if (e->flags & CK_EXEC_KILLED)
            ck_pidfd_kill(fd, SIGKILL);
    } else if (report.errnum) {
        e->event.report = report;
    } else {
        e->flags |= CK_EXEC_ABOUT;
    }
    return 1;
}

/* Take what it has said: it was executed when its socket is closed, by the agent also, or it has
 * ended. */
static void hear(struct ck_launcher *l, struct ck_exec *e, bool ended)
{
    while (e->status == CK_EXEC_STARTING && on_report(l, e))
        continue;
    if (e->status == CK_EXEC_STARTING && e->flags & CK_EXEC_ABOUT && !e->event.report.errnum &&
        (ended || e->report < 0))
        started(l, e);
}

/* Something has come or ended: see how far it is.  Whether it has ended is asked before its last
 * words are read. */
static void go_on(struct ck_launcher *l, struct ck_exec *e)
{
    struct ck_event *event = &e->event;
    int ended = -EAGAIN;

    if (e->status == CK_EXEC_ENDING)
        return finish(l, e);
    if (e->pidfd >= 0)
        ended = ck_launcher_wait(e->pidfd, &event->code, &event->signal, &event->usage);
    if (ended == -ECHILD) /* found for another that was lost: it had no session yet */
        event->signal = SIGKILL;
    hear(l, e, ended != -EAGAIN);
    if (ended != -EAGAIN)
        on_end(l, e);
}

static void on_channel(struct ck_launcher *l, struct ck_exec *e)
{
    struct ck_packet packet;
    int n = 0;
    ssize_t got = ck_receive(e->channel, &packet, sizeof packet, NULL, &n, 0);

    if (got == -EAGAIN)
        return;
    if (ck_launcher_is_packet(&packet, got) && packet.kind == CK_KILL)
        return kill_exec(l, e, (int)(packet.value & 0xffff), packet.value >> 16);
    /* who has closed his half may listen */
    ck_epoll_set(l->epoll, EPOLL_CTL_DEL, e->channel, 0, 0);
    kill_exec(l, e, SIGKILL, CK_CAUSE_REMOVED);
}

void ck_exec_event(struct ck_launcher *l, uint64_t tag)
{
    struct ck_exec *e = &l->execs[ck_tag_index(tag) % CK_EXECS];

    if (e->generation != ck_tag_generation(tag) || e->status == CK_EXEC_FREE)
        return;
    if (ck_tag_kind(tag) == CK_WATCH_EXEC_CHANNEL)
        on_channel(l, e);
    else
        go_on(l, e);
}

/* ---- requests */

static struct ck_exec *new_exec(struct ck_launcher *l, struct ck_container *c, int channel)
{
    struct ck_exec *e = l->execs;

    while (e < l->execs + CK_EXECS && e->status != CK_EXEC_FREE)
        e++;
    if (e == l->execs + CK_EXECS)
        return NULL;
    if (e >= l->execs + l->n_execs)
        l->n_execs = (uint32_t)(e - l->execs) + 1;
    *e = (struct ck_exec){.status = CK_EXEC_STARTING, .generation = e->generation + 1};
    e->container = c;
    e->number = ++l->last_exec;
    e->channel = channel;
    e->event.started_ns = ck_now(CLOCK_REALTIME); /* until it says that it has */
    e->pidfd = e->report = e->master = -1;
    return e;
}

/* Make its group and give the plan to the agent; what a failure leaves, finish removes. */
static int begin(struct ck_launcher *l, struct ck_exec *e, const void *plan, size_t size,
                 const int *fds, int n)
{
    struct ck_container *c = e->container;
    const int dir = ck_exec_hierarchy(l, c), v2 = l->unified >= 0;
    CK_CLEANUP_FD int theirs = -1, group = -1;
    int pair[2], out[CK_FDS_MAX + 2];
    char path[128];

    CK_TRY(ck_socketpair(pair));
    e->report = pair[0];
    theirs = pair[1];
    if (dir >= 0) {
        CK_TRY(ck_mkdirat(dir, group_path(l, e, path, ""), 0755));
        CK_TRY(group = ck_openat(dir, group_path(l, e, path, v2 ? "" : "/tasks"),
                                 v2 ? O_PATH | O_DIRECTORY : O_WRONLY, 0));
    }
    if (e->channel >= 0)
        CK_TRY(watch(l, e, e->channel, CK_WATCH_EXEC_CHANNEL));
    CK_TRY(watch(l, e, e->report, CK_WATCH_EXEC_REPORT));
    out[0] = theirs;
    out[1] = group < 0 ? theirs : group;
    if (size > CK_PLAN_INLINE) { /* its memfd is behind the inputs */
        plan = &size;
        n++;
    }
    memcpy(out + 2, fds, sizeof *fds * (size_t)n);
    CK_TRY(ck_agent_send(l, c, plan, plan == &size ? sizeof size : size, out, n + 2));
    return e->agent = c->agent.pid;
}

static int refuse(const struct ck_container *c, const void *plan, size_t size, int n_fds)
{
    struct ck_plan checked;
    uint32_t at;

    CK_TRY(ck_plan_check(plan, size, &checked, &at));
    if (checked.header->flags != CK_PLAN_EXEC || checked.header->n_inputs != n_fds)
        return -EINVAL;
    if (c->status != CK_RUNNING)
        return -ESRCH;
    return c->life.frozen ? -EBUSY : 0; /* its agent is frozen, too */
}

int ck_exec_start(struct ck_launcher *l, struct ck_container *c, const void *plan, size_t size,
                  const int *fds, int n_fds, int channel, int quiet)
{
    int error = refuse(c, plan, size, n_fds);
    struct ck_exec *e = error ? NULL : new_exec(l, c, channel);

    if (!e) {
        error = error ? error : -EMFILE;
        ck_launcher_refuse(channel, ~0U, error);
        return error;
    }
    e->flags = (quiet ? CK_EXEC_QUIET : 0) | (channel < 0 ? CK_EXEC_PROBE : 0);
    error = begin(l, e, plan, size, fds, n_fds);
    if (error < 0) {
        e->event.report = (struct ck_report){CK_CHILD, 0, 0, (uint16_t)-error, 0};
        finish(l, e);
    }
    return 0;
}

/* ---- all of them */

void ck_exec_kill_probe(struct ck_launcher *l, struct ck_container *c)
{
    for (struct ck_exec *e = l->execs; e < l->execs + l->n_execs; e++)
        if (e->status != CK_EXEC_FREE && e->flags & CK_EXEC_PROBE && e->container == c)
            kill_exec(l, e, SIGKILL, CK_CAUSE_TIMEOUT);
}

void ck_exec_work(struct ck_launcher *l)
{
    for (struct ck_exec *e = l->execs; e < l->execs + l->n_execs; e++)
        if (e->status == CK_EXEC_ENDING && e->pidfd < 0)
            finish(l, e);
}

/* The container has been killed, so that each step here ends; but not a group that somebody has made
 * another one in. */
void ck_exec_drop_all(struct ck_launcher *l, struct ck_container *c)
{
    ck_life_free_group(l, c); /* what is frozen neither dies nor starts again */
    ck_agent_end(l, c);
    for (struct ck_exec *e = l->execs; e < l->execs + l->n_execs; e++) {
        if (e->status == CK_EXEC_FREE || e->container != c)
            continue;
        hear(l, e, false);
        if (e->status == CK_EXEC_STARTING && !e->event.report.errnum)
            e->event.report = (struct ck_report){CK_CHILD, 0, 0, ESRCH, 0};
        kill_exec(l, e, SIGKILL, c->cause);
        for (int tries = 0; e->status != CK_EXEC_FREE; tries++) {
            int fd = e->pidfd >= 0 ? e->pidfd : e->report;
            ck_wait_for(fd, POLLIN, fd >= 0 ? -1 : 1);
            tries < LOST_MS ? go_on(l, e) : done(l, e);
        }
    }
}
