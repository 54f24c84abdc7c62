/* ck_launcher_end.c - from a container's end to nothing left of it. */
#include "ck_launcher.h"

enum { END_ROUNDS = 100000 }; /* of 1 ms; then the kernel ends what is left, with us */

/* ---- release: each step may be repeated and may find nothing to do */

static void drop_sources(struct ck_container *c)
{
    char path[48];

    for (unsigned slot = 0; c->sources; slot++, c->sources >>= 1) {
        if (!(c->sources & 1))
            continue;
        ck_source_path(path, c, slot);
        ck_umount(path);
        if (ck_unlinkat(AT_FDCWD, path, AT_REMOVEDIR) == -ENOTDIR)
            ck_unlinkat(AT_FDCWD, path, 0);
    }
}

/* Let nothing remain of a container, then tell its caller so. */
void ck_launcher_release(struct ck_launcher *l, struct ck_container *c, uint16_t kind)
{
    const struct ck_event event = {.report = c->failed, .state = c->state};

    ck_life_forget(l, c);
    ck_exec_drop_all(l, c);
    ck_log_finish(l, c);
    drop_sources(c);
    if (!ck_pool_keep(l, c)) {
        if (c->dir[0] && c->release & CK_REL_DIR && c->flags == CK_PLAN_EPHEMERAL)
            ck_pool_drop_dir(l, c->dir);
        if (c->release & CK_HAS_CGROUP)
            ck_pool_trash_cgroup(l, c->number);
    }
    ck_close_at(&c->lock);
    ck_close_at(&c->user);
    ck_launcher_unwatch(l, &c->report);
    ck_launcher_unwatch(l, &c->pidfd);
    ck_launcher_unwatch(l, &c->adopter);
    ck_request_tell(l, c, kind, &event);
    ck_launcher_unwatch(l, &c->channel);
    c->status = CK_FREE;
    l->present--;
    if (!(c->release & CK_SETTLED))
        l->live--;
    if (c - l->containers < l->first_free)
        l->first_free = (uint32_t)(c - l->containers);
}

/* ---- how it ended */

/* Whether a count in the container's cgroup has grown since it was last asked, and how far. */
static bool has_grown(const struct ck_launcher *l, const struct ck_container *c,
                      const char *controller, const char *file, const char *name, uint32_t *count)
{
    const uint32_t before = *count;
    const char *found;
    char text[512];

    if (ck_pool_read_cgroup(l, c->number, controller, file, text) > 0 &&
        (found = strstr(text, name)))
        *count = (uint32_t)atoi(found + strlen(name));
    return *count > before;
}

/* Without a limit of its own, a kill that nobody asked for may be due to one of a group above; that of
 * an exec, to its container's end.  What was refused a process has ended of that if it ended badly, and
 * nobody killed it or asked it to. */
static uint32_t cause_of(const struct ck_launcher *l, struct ck_container *c)
{
    struct ck_container *whole = c->within ? c->within : c;
    const char *file = l->unified >= 0 ? "memory.events" : "memory.oom_control";
    const bool killed = c->state.signal == SIGKILL, failed = c->state.signal || c->state.code;
    const bool odd = c->within && killed && !c->cause && !ck_exec_is_ending(whole);
    const bool oom =
        (!c->within || odd) && has_grown(l, whole, "memory", file, "oom_kill ", &whole->oom_kills);
    const bool refused = !c->within && has_grown(l, c, "pids", "pids.events", "max ", &c->refused);

    if (oom || refused) /* the count stays: no group for another container */
        c->release |= CK_SPOILT;
    if (oom && failed) /* else it got over what was killed */
        return CK_CAUSE_OOM;
    if (c->cause && c->state.signal)
        return c->cause;
    if (refused && failed && !killed && !(c->state.flags & CK_STATE_STOP_ASKED))
        return CK_CAUSE_PIDS;
    return c->state.signal ? CK_CAUSE_SIGNAL : CK_CAUSE_EXITED;
}

/* The last number of a line that the kernel has written, as proc_pid_stat(5) ends, or the one behind a
 * word; negative: it is not there. */
static int read_number(const char *path, const char *word)
{
    char text[1024];
    const char *found;
    ssize_t n;

    CK_OPEN(fd, ck_openat(AT_FDCWD, path, O_RDONLY, 0));
    CK_TRY(n = ck_read(fd, text, sizeof text - 1));
    text[n] = 0;
    found = word ? strstr(text, word) : strrchr(text, ' ');
    return found ? atoi(found + (word ? strlen(word) : 1)) : -ENODATA;
}

/* How a process has ended that somebody traces: until its tracer has waited for it, nobody else can
 * (ptrace(2)), though its pidfd says that it is dead.  What /proc does not tell us of it is 0 there.
 * 0, or -EAGAIN: it lives. */
static int look_at_traced(int pidfd, int *code, int *signal)
{
    char path[64], link[8];
    int pid, status = -EPERM;

    if (ck_wait_for(pidfd, POLLIN, 0) <= 0)
        return -EAGAIN;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
    pid = read_number(path, "\nPid:");
    snprintf(path, sizeof path, "/proc/%d/ns/mnt", pid);
    if (pid > 0 && ck_readlinkat(AT_FDCWD, path, link, sizeof link) == -ENOENT) {
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        status = read_number(path, NULL);
    }
    *signal = status < 0 ? SIGKILL : status & 0x7f;
    *code = *signal ? 0 : status >> 8 & 0xff;
    return 0;
}

/* The end of a process, and what it has used: 0 of a traced one, which is waited for as one that nobody
 * knows when its tracer has let go of it. */
static int collect(struct ck_launcher *l, int pidfd, int *code, int *signal, struct ck_usage *usage)
{
    struct rusage used = {0};
    int error = ck_wait_pidfd(pidfd, code, signal, &used);

    if (error == -EAGAIN) {
        CK_TRY(look_at_traced(pidfd, code, signal));
        l->strangers = true;
        error = 0;
    }
    CK_TRY(error);
    usage->user_us = (uint64_t)used.ru_utime.tv_sec * 1000000 + (uint64_t)used.ru_utime.tv_usec;
    usage->system_us = (uint64_t)used.ru_stime.tv_sec * 1000000 + (uint64_t)used.ru_stime.tv_usec;
    usage->max_rss_kib = (uint64_t)used.ru_maxrss;
    return 0;
}

/* For good, or to be started again. */
static void finish(struct ck_launcher *l, struct ck_container *c)
{
    c->state.finished_ns = ck_now(CLOCK_REALTIME);
    if (c->within)
        return ck_exec_finish(l, c);
    if (c->flags == CK_PLAN_EPHEMERAL || !ck_life_ended(l, c))
        ck_launcher_release(l, c, CK_EXITED);
}

void ck_launcher_fail(struct ck_launcher *l, struct ck_container *c)
{
    if (c->pidfd >= 0)
        l->strangers |= ck_kill_and_wait(c->pidfd) < 0;
    ck_end_orphans(l->orphans);
    if (!c->state.restarts)
        return ck_launcher_release(l, c, CK_FAILED);
    if (!c->state.signal)
        c->state.code = 127; /* what ran before can not run again: that ends it, as with Docker */
    c->state.cause = cause_of(l, c);
    ck_life_forget(l, c);
    finish(l, c);
}

void ck_launcher_ended(struct ck_launcher *l, struct ck_container *c)
{
    struct ck_state *state = &c->state;

    if (c->status == CK_ENDED)
        return ck_exec_finish(l, c);
    if (c->adopter >= 0 && !ck_exec_is_over(l, c))
        return;
    if (c->pidfd < 0) /* of an exec nothing was heard: it died at birth, or its agent before */
        state->signal = SIGKILL;
    else if (collect(l, c->pidfd, &state->code, &state->signal, &state->usage) == -EAGAIN)
        return;
    ck_end_orphans(l->orphans);
    ck_launcher_unwatch(l, &c->pidfd);
    ck_launcher_unwatch(l, &c->report); /* open when it could not be read */
    if (!(c->release & CK_ABOUT_TO_EXEC) && !c->failed.errnum && !(c->within && c->life.dying))
        c->failed = (struct ck_report){CK_CHILD, 0, 0, ECHILD, state->signal}; /* during set-up */
    if (c->failed.errnum && !c->within)
        return ck_launcher_fail(l, c);
    ck_exec_drop_all(l, c);
    ck_log_finish(l, c); /* whoever reads that it has ended finds all that it said */
    state->cause = cause_of(l, c);
    finish(l, c);
}

/* ---- children that nobody knows */

/* Whether somebody waits for a process that has ended. */
static bool is_known(const struct ck_launcher *l, pid_t pid)
{
    bool known = pid == l->spare.pid;

    for (const struct ck_container *c = l->containers; c < l->containers + l->used; c++) {
        if (c->within && c->adopter >= 0)
            known |= ck_wait_for(c->adopter, POLLIN, 0) != 0;
        if (c->within && c->pidfd >= 0)
            known |= ck_wait_for(c->pidfd, POLLIN, 0) != 0; /* it may be the one */
        else if (c->status != CK_FREE)
            known |= (pid_t)c->state.pid == pid || (c->within && c->status == CK_STARTING);
    }
    return known;
}

/* What an exec clones with CLONE_PARENT is a child of ours, and its container does not end before
 * somebody has waited for it (pid_namespaces(7)).  Our filters refuse that flag; a caller's may not. */
void ck_launcher_reap(struct ck_launcher *l)
{
    siginfo_t end = {0};

    while (l->strangers && ck_look_at_end(P_ALL, 0, &end) == 0 && end.si_pid &&
           !is_known(l, end.si_pid) && ck_reap_one(end.si_pid) > 0)
        end.si_pid = 0;
}

/* ---- the end of the launcher */

/* All are killed before any is waited for: they die at the same time. */
static void end_all(struct ck_launcher *l)
{
    struct ck_container *const end = l->containers + l->used;

    for (struct ck_container *c = l->containers; c < end; c++) {
        if (c->status == CK_FREE || c->within)
            continue;
        ck_life_kill(l, c, SIGKILL, CK_CAUSE_OWNER);
        c->state.flags |= CK_STATE_STOP_ASKED;
    }
    for (int round = 0, left = 1; left && round < END_ROUNDS; round++) {
        left = 0;
        for (struct ck_container *c = l->containers; c < end; c++) {
            if (c->status == CK_FREE || c->within)
                continue;
            ck_exec_drop_all(l, c); /* until its execs are waited for, it does not end */
            if (c->pidfd < 0)
                finish(l, c);
            else if (ck_wait_for(c->pidfd, POLLIN, 1) != 0)
                ck_launcher_ended(l, c);
            left |= c->status != CK_FREE;
        }
        ck_launcher_reap(l);
    }
}

/* The owner has gone or closed the engine: end everything, then leave nothing behind. */
_Noreturn void ck_launcher_shutdown(struct ck_launcher *l)
{
    char name[64];
    int left = 0;

    end_all(l);
    ck_pool_close(l);
    while (l->trashed)
        ck_pool_drop_cgroup(l, l->trash[--l->trashed]);
    ck_launcher_leave_group(l);
    for (int i = 0; i < l->n_controllers; i++) { /* of "cpu,cpuacct", the second is gone */
        const char *plus = strchr(l->hello.controllers[i], '+');
        snprintf(name, sizeof name, "../containerkit-%s%s", l->hello.id, plus ? plus : "");
        left |= ck_unlinkat(l->controllers[i], name, AT_REMOVEDIR) == -EBUSY;
    }
    snprintf(name, sizeof name, "%s.sock", l->hello.id);
    ck_unlinkat(l->run, name, 0);
    snprintf(name, sizeof name, "../%llx:%llx", (unsigned long long)l->hello.root_dev,
             (unsigned long long)l->hello.root_ino);
    ck_unlinkat(l->run, name, AT_REMOVEDIR); /* the last one's is empty now */
    snprintf(name, sizeof name, "owners/%s", l->hello.id);
    if (!left) /* else the next recovery removes what is busy yet */
        ck_unlinkat(l->store, name, 0);
    ck_exit(0);
}
