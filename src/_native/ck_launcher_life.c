/* ck_launcher_life.c - what happens to a container while it lives: signals, pauses, restarts;
 * what is told of it: its record and events; and the timers of all that. */
#include <stdarg.h>

#include "ck_launcher.h"
#include "ck_pause.h"

enum {
    MS = 1000000,           /* ns */
    EVENTS_MOST = 64 << 20, /* bytes; engines begin a new file long before */
};

/* ---- events */

void ck_event_write(struct ck_launcher *l, const char *kind, const struct ck_container *c,
                    const char *format, ...)
{
    const int flags = O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK; /* a FIFO would be waited for */
    CK_CLEANUP_FD int fd = ck_openat(l->store, "events", flags, 0600);
    char line[512];
    va_list args;
    int n;

    if (ck_lseek(fd, 0, SEEK_END) > EVENTS_MOST)
        return;
    n = snprintf(line, 256, "{\"t\":%llu,\"kind\":\"%s\",\"id\":\"%.64s\"",
                 (unsigned long long)ck_now(CLOCK_REALTIME), kind, c->dir + strlen("containers/"));
    va_start(args, format);
    n += vsnprintf(line + n, 250, format, args);
    va_end(args);
    n += snprintf(line + n, 3, "}\n");
    ck_write(fd, line, (size_t)n); /* a full disk loses an event, never a container */
}

/* ---- pauses; who asked waits until the kernel has frozen them all */

int ck_life_set_freezer(struct ck_launcher *l, const struct ck_container *c, bool frozen)
{
    char group[128];

    ck_pool_group(l, c->number, "", group);
    return ck_exec_hierarchy(l, c) < 0 ? -EOPNOTSUPP : ck_pool_freeze(l, group, frozen);
}

static int set_status(struct ck_container *c, uint16_t status)
{
    c->state.status = status;
    return ck_launcher_write_state(c);
}

static void thaw(struct ck_launcher *l, struct ck_container *c)
{
    if (!c->life.frozen)
        return;
    ck_life_set_freezer(l, c, false);
    c->life.frozen = false;
    set_status(c, CK_STATE_RUNNING);
    ck_event_write(l, "unpause", c, "%s", "");
    ck_health_schedule(l, c);
}

/* 1: it was so before. */
int ck_life_freeze(struct ck_launcher *l, struct ck_container *c, bool frozen)
{
    if (c->status != CK_RUNNING)
        return -ESRCH;
    if (c->life.frozen == frozen)
        return 1;
    if (c->life.dying) /* what is frozen does not die */
        return -EINTR;
    if (!frozen)
        return thaw(l, c), 0;
    CK_TRY(ck_life_set_freezer(l, c, true));
    c->life.frozen = true;
    set_status(c, CK_STATE_PAUSED);
    ck_event_write(l, "pause", c, "%s", "");
    return 0;
}

/* ---- signals */

/* Of several causes the gravest is told: they are numbered so. */
void ck_life_kill(struct ck_launcher *l, struct ck_container *c, int signal, uint32_t cause)
{
    if (cause && (!c->cause || cause < c->cause))
        c->cause = cause;
    if (c->within)
        return ck_exec_kill(l, c, signal);
    if (c->pidfd < 0 || !signal)
        return;
    ck_pidfd_kill(c->pidfd, signal);
    if (signal == SIGKILL) {
        c->life.dying = true;
        thaw(l, c);
    }
    if (c->flags == CK_PLAN_KEPT)
        ck_event_write(l, "kill", c, ",\"signal\":%d", signal);
}

int ck_life_signal(struct ck_launcher *l, struct ck_container *c, const uint32_t value[4])
{
    if (value[0] >= NSIG)
        return -EINVAL;
    if (value[2] & CK_STOP_ASKED) {
        c->state.flags |= CK_STATE_STOP_ASKED;
        if (c->status == CK_RUNNING)
            ck_launcher_write_state(c);
        if (c->status == CK_RESTARTING) { /* it does not run, and will not */
            set_status(c, CK_STATE_STOPPED);
            ck_launcher_release(l, c, CK_EXITED);
            return 0;
        }
        if (value[0])
            thaw(l, c);
    }
    if (c->pidfd < 0)
        return -ESRCH;
    ck_life_kill(l, c, (int)value[0], value[1]);
    return 0;
}

/* ---- restarts */

int ck_life_restart(struct ck_start *start, const struct ck_op *op)
{
    start->container->life.policy = (uint32_t)op->value[0];
    start->container->life.retries = (uint32_t)op->value[1];
    return op->value[0] <= CK_RESTART_UNLESS_STOPPED ? 0 : -EINVAL;
}

/* Keep the plan, what it reads of the caller's, and its network; its sources are attached by now. */
int ck_life_remember(struct ck_start *start)
{
    struct ck_container *c = start->container;
    struct ck_again *again = c->life.again;
    const size_t size = start->plan_size;
    const int n = start->plan.header->n_inputs;

    if (!c->life.policy || again)
        return 0;
    again = c->life.again = ck_map(-1, sizeof *again + size);
    if (!again)
        return -ENOMEM;
    again->size = size;
    memcpy(again->plan, start->plan.header, size);
    for (int i = 0; i < CK_SLOTS; i++)
        if (i < n ? !(c->sources >> i & 1) : start->again_too >> i & 1)
            CK_TRY(again->inputs[i] = ck_dup_above(start->slots[i], CK_CONTROL_FD + 1));
    return 0;
}

void ck_life_forget(struct ck_launcher *l, struct ck_container *c)
{
    struct ck_again *again = c->life.again;

    for (int i = 0; again && i < CK_SLOTS; i++)
        if (again->inputs[i] > 0)
            ck_close(again->inputs[i]);
    if (again)
        ck_unmap(again, sizeof *again + again->size);
    c->life.again = NULL;
    ck_health_forget(l, c);
}

static bool wants_restart(const struct ck_container *c)
{
    if (!c->life.again || c->state.flags & CK_STATE_STOP_ASKED || c->cause == CK_CAUSE_OWNER)
        return false;
    if (c->life.policy != CK_RESTART_ON_FAILURE)
        return true;
    return (c->state.code || c->state.signal) &&
           (!c->life.retries || c->state.restarts < c->life.retries);
}

/* It runs now, for the first time or again. */
int ck_life_started(struct ck_launcher *l, struct ck_container *c)
{
    c->life.started = ck_now(CLOCK_MONOTONIC);
    c->state.health = c->life.probe ? CK_HEALTH_STARTING : CK_HEALTH_NONE;
    c->state.failing = 0;
    CK_TRY(set_status(c, CK_STATE_RUNNING));
    ck_event_write(l, c->state.restarts ? "restart" : "start", c, "%s", "");
    ck_health_schedule(l, c);
    return 0;
}

/* It has ended, and its record says how.  True: not for good. */
bool ck_life_ended(struct ck_launcher *l, struct ck_container *c)
{
    static const char *const causes[] = {"exited",     "signal",  "oom",  "timeout", "output",
                                         "owner-died", "removed", "lost", "pids"};
    const uint64_t now = ck_now(CLOCK_MONOTONIC);

    if (c->state.cause == CK_CAUSE_OOM)
        ck_event_write(l, "oom", c, "%s", "");
    ck_event_write(l, "die", c, ",\"code\":%d,\"signal\":%d,\"cause\":\"%s\"", c->state.code,
                   c->state.signal, causes[c->state.cause % 9]);
    c->life.frozen = c->life.dying = false;
    c->state.pid = 0;
    set_status(c, wants_restart(c) ? CK_STATE_RESTARTING : CK_STATE_STOPPED);
    if (c->state.status == CK_STATE_STOPPED)
        return false;
    c->life.backoff = ck_next_pause(c->life.backoff, now - c->life.started);
    c->status = CK_RESTARTING;
    c->life.at = now + c->life.backoff;
    ck_life_due(l, c->life.at);
    return true;
}

/* ---- timers */

void ck_life_due(struct ck_launcher *l, uint64_t when)
{
    if (!l->due || when < l->due)
        l->due = when;
}

void ck_life_work(struct ck_launcher *l)
{
    const uint64_t now = ck_now(CLOCK_MONOTONIC);

    if (!l->due || now < l->due)
        return;
    l->due = 0;
    for (struct ck_container *c = l->containers; c < l->containers + l->used; c++) {
        if (c->status == CK_RESTARTING && c->life.at <= now)
            ck_launcher_start_again(l, c);
        else if (c->status == CK_RESTARTING)
            ck_life_due(l, c->life.at);
        else if (c->status == CK_ENDED)
            ck_exec_finish(l, c);
        if (c->status == CK_RUNNING && c->adopter >= 0 && c->pidfd < 0)
            ck_launcher_ended(l, c);
        if (c->status != CK_FREE && c->within && c->life.dying)
            ck_exec_overdue(l, c, now);
        if (c->status == CK_RUNNING && c->life.probe)
            ck_health_work(l, c, now);
    }
}
