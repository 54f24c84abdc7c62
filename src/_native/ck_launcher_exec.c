/* ck_launcher_exec.c - further processes of a running container.
 *
 * The container's agent clones an exec's first process.  What that starts stays in a group of its
 * own, "<container's number>/x<the exec's>", and is killed as a whole when the first process has
 * ended: what is left then is frozen, killed and thawed, until the group can be removed.
 *
 * Without groups it stays in a namespace of control groups of its own, which shows nothing else and
 * is left with CAP_SYS_ADMIN only: whatever is in there is killed, until there is nothing.
 */
#include <dirent.h>

#include "ck_launcher.h"

#define ENTRY(at) ((const struct dirent *)(const void *)(at))

enum {
    RETRY_NS = 2000000,
    SELDOM_NS = 250000000,
    LOST_MS = 1000,
    OVERDUE_NS = 500000000,
    LOOK_EVERY = 16
};

int ck_exec_hierarchy(const struct ck_launcher *l, const struct ck_container *c)
{
    int index = c->release & CK_HAS_CGROUP ? ck_pool_controller(l, "freezer") : -1;

    return index < 0 ? -1 : l->controllers[index];
}

static const char *group_path(const struct ck_launcher *l, const struct ck_container *e,
                              char out[128], const char *file)
{
    char name[64];

    snprintf(name, sizeof name, "x%u%s", e->number, file);
    return ck_pool_group(l, e->within->number, name, out);
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

static void done(struct ck_launcher *l, struct ck_container *e)
{
    struct ck_container *c = e->within;
    const bool probe = e->channel < 0 && !e->life.told;
    int code = e->state.signal ? 128 + e->state.signal : e->state.code;

    if (e->failed.errnum && !e->failed.code && ck_exec_is_ending(c))
        e->failed.errnum = ESRCH;
    if (e->failed.errnum)
        code = -e->failed.errnum;
    ck_launcher_release(l, e, code < 0 ? CK_FAILED : CK_EXITED);
    if (probe)
        ck_life_probed(l, c, code);
}

/* A number may have become another process's since it was found: so a process is held by a pidfd, looked
 * at again, and only then killed, through the pidfd.  Has it ended meanwhile, that hits nothing. */

static bool is_marked(int proc, pid_t pid, ino_t namespace)
{
    char path[40];
    struct stat its;

    snprintf(path, sizeof path, "%d/ns/cgroup", pid);
    return ck_fstatat(proc, path, &its, 0) == 0 && its.st_ino == namespace;
}

/* Kill all that is in a namespace of control groups; returns one of them, 0: there is none. */
static pid_t kill_marked(int namespace)
{
    CK_CLEANUP_FD int proc = ck_openat(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY, 0);
    _Alignas(8) char entries[4096];
    struct stat wanted;
    pid_t found = 0;

    if (ck_fstat(namespace, &wanted) < 0)
        return 0;
    for (ssize_t n; (n = ck_getdents(proc, entries, sizeof entries)) > 0;)
        for (const char *at = entries; at < entries + n; at += ENTRY(at)->d_reclen) {
            const pid_t pid = atoi(ENTRY(at)->d_name); /* 0: none; 1: ourselves */
            if (pid <= 1 || !is_marked(proc, pid, wanted.st_ino))
                continue;
            CK_CLEANUP_FD int pidfd = ck_pidfd_open(pid);
            if (is_marked(proc, pid, wanted.st_ino) && ck_pidfd_kill(pidfd, SIGKILL) == 0)
                found = pid;
        }
    return found;
}

/* Some of the processes that a group lists.  To look whether they are in it is to read its list again. */
struct members {
    int dir;
    const char *list;
    pid_t pid[64], found;
    int pidfd[64], n;
};

static void kill_member(pid_t pid, void *arg)
{
    struct members *some = arg;

    for (int i = 0; i < some->n; i++)
        if (some->pid[i] == pid && ck_pidfd_kill(some->pidfd[i], SIGKILL) == 0)
            some->found = pid;
}

static void kill_members(struct members *some)
{
    /* opened anew: of one that is open, version 1 may tell what it has told before */
    CK_CLEANUP_FD int list = some->n ? ck_openat(some->dir, some->list, O_RDONLY, 0) : -1;

    ck_each_listed(list, kill_member, some);
    while (some->n > 0)
        ck_close_at(&some->pidfd[--some->n]);
}

static void hold_member(pid_t pid, void *arg)
{
    struct members *some = arg;
    int pidfd = ck_pidfd_open(pid);

    if (pidfd < 0)
        return;
    some->pid[some->n] = pid;
    some->pidfd[some->n++] = pidfd;
    if (some->n == 64)
        kill_members(some);
}

/* Kill all that is in an exec's group now; returns one of them, 0 when it is empty. */
static pid_t kill_group(struct ck_launcher *l, const struct ck_container *e)
{
    struct members some = {.dir = ck_exec_hierarchy(l, e->within)};
    char path[128], file[128];

    if (e->lock >= 0)
        return kill_marked(e->lock);
    ck_pool_freeze(l, group_path(l, e, path, ""), true);
    some.list = group_path(l, e, file, "/cgroup.procs");
    int list = ck_openat(some.dir, some.list, O_RDONLY, 0);
    ck_each_listed(list, hold_member, &some);
    ck_close_at(&list); /* it may be the last descriptor that there is */
    kill_members(&some);
    ck_pool_freeze(l, group_path(l, e, path, ""), false);
    return some.found;
}

/* Its first process is dead: kill what it has left, until its adopter has waited for all of it and ends
 * as that did.  Code in the container can stop an adopter: it is let go on, less and less often. */
bool ck_exec_is_over(struct ck_launcher *l, struct ck_container *e)
{
    if (ck_wait_for(e->adopter, POLLIN, 0) > 0) {
        ck_launcher_unwatch(l, &e->pidfd);
        e->pidfd = ck_steal_fd(&e->adopter);
        return true;
    }
    if (e->pidfd >= 0 && ck_wait_for(e->pidfd, POLLIN, 0) > 0)
        ck_launcher_unwatch(l, &e->pidfd);
    if (e->pidfd >= 0)
        return false;
    kill_group(l, e);
    ck_pidfd_kill(e->adopter, SIGCONT);
    e->life.backoff = e->life.backoff ? e->life.backoff * 2 : RETRY_NS;
    if (e->life.backoff > SELDOM_NS)
        e->life.backoff = SELDOM_NS;
    ck_life_due(l, ck_now(CLOCK_MONOTONIC) + e->life.backoff);
    return false;
}

/* Whether a container's first process has children that are dead and not waited for. */
static bool has_zombies(const struct ck_container *c)
{
    char text[4096], path[64], link[8];
    char *at = text;
    ssize_t n;

    snprintf(path, sizeof path, "/proc/%u/task/%u/children", c->state.pid, c->state.pid);
    CK_CLEANUP_FD int list = ck_openat(AT_FDCWD, path, O_RDONLY, 0);
    n = ck_read(list, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    for (long pid; (pid = strtol(at, &at, 10)) > 0;) {
        snprintf(path, sizeof path, "/proc/%ld/ns/mnt", pid);
        if (ck_readlinkat(AT_FDCWD, path, link, sizeof link) == -ENOENT)
            return true;
    }
    return false;
}

/* What an exec leaves comes to the container's first process, which may wait for nobody: then each that is
 * killed here stays a zombie, and they are as many as the limit of processes allows.  So once there may
 * be such, later execs have an adopter. */
static void consider_adopters(struct ck_container *c, uint32_t number, bool killed)
{
    if (!(c->release & (CK_ADOPTS | CK_HAS_INIT)) &&
        (killed || (number % LOOK_EVERY == 0 && has_zombies(c))))
        ck_agent_adopt(c);
}

/* Remove its group, which is all that is left of it, and tell its end.  While something in the group
 * is dying, that wakes us again. */
void ck_exec_finish(struct ck_launcher *l, struct ck_container *e)
{
    const int dir = ck_exec_hierarchy(l, e->within);
    bool empty;
    char path[128];

    e->status = CK_ENDED;
    ck_launcher_unwatch(l, &e->pidfd);
    empty = e->lock >= 0 ? kill_group(l, e) == 0
                         : ck_unlinkat(dir, group_path(l, e, path, ""), AT_REMOVEDIR) != -EBUSY;
    consider_adopters(e->within, e->number, !empty);
    if (empty)
        return done(l, e);
    e->pidfd = ck_pidfd_open(kill_group(l, e)); /* of 0 there is none */
    if (e->pidfd < 0 || ck_container_watch(l, e, e->pidfd, CK_WATCH_PIDFD) < 0)
        ck_life_due(l, ck_now(CLOCK_MONOTONIC) + RETRY_NS);
}

void ck_exec_kill(struct ck_launcher *l, struct ck_container *e, int signal)
{
    if (e->status != CK_ENDED) /* then it is of somebody else */
        ck_pidfd_kill(e->pidfd, signal);
    if (signal != SIGKILL)
        return;
    if (!e->life.dying)
        e->life.at = ck_now(CLOCK_MONOTONIC) + OVERDUE_NS;
    e->life.dying = true;
    ck_life_due(l, e->life.at);
    kill_group(l, e);
}

/* What was killed may not die for long: it waits for a device or a server, or a tracer holds it where it
 * is about to end (PTRACE_EVENT_EXIT).  Whoever waits is told that it was killed; its entry stays until
 * it has really ended. */
void ck_exec_overdue(struct ck_launcher *l, struct ck_container *e, uint64_t now)
{
    struct ck_event event;

    if (e->life.told)
        return;
    if (now < e->life.at)
        return ck_life_due(l, e->life.at);
    e->life.told = true;
    ck_pidfd_kill(e->adopter, SIGKILL);
    if (e->status != CK_ENDED) {
        e->state.signal = SIGKILL;
        e->state.cause = e->cause ? e->cause : CK_CAUSE_SIGNAL;
        e->state.finished_ns = ck_now(CLOCK_REALTIME);
    }
    if (e->channel < 0)
        return ck_life_probed(l, e->within, 128 + SIGKILL);
    event = (struct ck_event){.report = e->failed, .state = e->state};
    ck_launcher_tell(e->channel, e->failed.errnum ? CK_FAILED : CK_EXITED, &event, -1, -1);
    ck_launcher_unwatch(l, &e->channel);
}

/* ---- its first process */

/* It says, and so does the agent, which process it is. */
void ck_exec_found(struct ck_launcher *l, struct ck_container *e, int pidfd)
{
    if (e->pidfd < 0 && ck_container_watch(l, e, pidfd, CK_WATCH_PIDFD) < 0) {
        ck_kill_and_wait(pidfd); /* its end would not be seen: the end of its reports tells */
        e->failed = (struct ck_report){CK_CHILD, 0, 0, ENOMEM, 0};
    } else if (e->pidfd < 0) {
        e->pidfd = ck_steal_fd(&pidfd);
        if (e->release & CK_QUIET) /* nobody waits for what it says next: its end tells */
            ck_epoll_set(l->epoll, EPOLL_CTL_DEL, e->report, 0, 0);
        if (e->life.dying)
            ck_pidfd_kill(e->pidfd, SIGKILL);
    }
    ck_close_at(&pidfd);
}

/* ---- requests */

/* Make its group and give the plan to the agent; what a failure leaves, finish removes. */
static int begin(struct ck_launcher *l, struct ck_container *e, const void *plan, size_t size,
                 const int *fds, int n)
{
    struct ck_container *c = e->within;
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
    } else if (!(l->hello.flags & CK_BARE)) {
        CK_TRY(ck_unshare(CLONE_NEWCGROUP));
        CK_TRY(e->lock = ck_openat(AT_FDCWD, "/proc/self/ns/cgroup", O_RDONLY, 0));
        CK_TRY(ck_unshare(CLONE_NEWCGROUP)); /* what else we clone is not in that one */
    }
    if (e->channel >= 0)
        CK_TRY(ck_container_watch(l, e, e->channel, CK_WATCH_CHANNEL));
    CK_TRY(ck_container_watch(l, e, e->report, CK_WATCH_REPORT));
    out[0] = theirs;
    out[1] = group >= 0 ? group : e->lock >= 0 ? e->lock : theirs;
    n += size > CK_PLAN_INLINE; /* its memfd is behind the inputs */
    memcpy(out + 2, fds, sizeof *fds * (size_t)n);
    return ck_agent_send(l, c, plan, size, out, n + 2);
}

int ck_exec_start(struct ck_launcher *l, struct ck_container *c, const void *plan, size_t size,
                  const int *fds, int n_fds, int channel, int quiet)
{
    struct ck_container *e = NULL;
    struct ck_plan checked;
    uint32_t at;
    int error = ck_plan_check(plan, size, &checked, &at);

    if (!error && (checked.header->flags != CK_PLAN_EXEC || checked.header->n_inputs != n_fds))
        error = -EINVAL;
    else if (!error && c->status != CK_RUNNING)
        error = -ESRCH;
    else if (!error && c->life.frozen)
        error = -EBUSY; /* its agent is frozen, too */
    else if (!error && !(e = ck_launcher_new(l, channel)))
        error = -EMFILE;
    if (error)
        return ck_launcher_refuse(channel, ~0U, error);
    e->within = c;
    e->flags = CK_PLAN_EXEC;
    e->release = CK_SETTLED | (quiet ? CK_QUIET : 0);
    e->number = ++l->last_exec;
    l->strangers = true;
    e->state.started_ns = ck_now(CLOCK_REALTIME);
    if (channel < 0)
        c->life.probe->exec = e;
    error = begin(l, e, plan, size, fds, n_fds);
    if (error < 0) {
        e->failed = (struct ck_report){CK_CHILD, 0, 0, (uint16_t)-error, 0};
        ck_exec_finish(l, e);
    }
    return 0;
}

/* ---- all of them */

/* One that does not end: all others are not to wait for it. */
static void lose(struct ck_launcher *l, struct ck_container *e)
{
    if (e->pidfd >= 0 && e->status != CK_ENDED) {
        e->state.signal = SIGKILL;
        e->state.cause = e->cause;
    }
    l->strangers = true;
    done(l, e);
}

/* The container has been killed, so that each step here ends; but not what hangs in the kernel, and no
 * group that somebody has made another one in. */
void ck_exec_drop_all(struct ck_launcher *l, struct ck_container *c)
{
    if (c->life.frozen) /* so it neither dies nor starts again */
        ck_life_set_freezer(l, c, false);
    ck_agent_end(c);
    for (struct ck_container *e = l->containers; e < l->containers + l->used; e++) {
        if (e->status == CK_FREE || e->within != c)
            continue;
        ck_launcher_hear(l, e, false);
        if (e->status == CK_STARTING && !e->failed.errnum)
            e->failed = (struct ck_report){CK_CHILD, 0, 0, ESRCH, 0};
        ck_life_kill(l, e, SIGKILL, c->cause);
        for (int tries = 0; e->status != CK_FREE; tries++) {
            ck_wait_for(e->pidfd >= 0 ? e->pidfd : e->report, POLLIN, 1); /* -1: a pause */
            ck_launcher_hear(l, e, false);
            if (tries >= LOST_MS)
                lose(l, e);
            else if (e->pidfd >= 0 || e->adopter >= 0 || e->status == CK_ENDED)
                ck_launcher_ended(l, e);
        }
    }
}
