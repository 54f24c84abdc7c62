/* ck_launcher_health.c - probes of a running container, by Docker's rules.
 *
 * A probe is an exec with a plan of its own.  It begins one interval after the start or after the end
 * of the one before; what fails in the start period does not count before one has succeeded.
 */
#include "ck_launcher.h"

enum { MS = 1000000 /* ns */ };

int ck_health_open(struct ck_start *start, const struct ck_op *op)
{
    struct ck_container *c = start->container;
    struct ck_probe *probe = c->life.probe;
    uint32_t size;
    const char *bytes = ck_plan_list(&start->plan, op->arena[0], &size);

    if (start->again)
        return 0;
    if (probe || !op->flags || size > CK_PLAN_INLINE)
        return -EINVAL;
    probe = c->life.probe = ck_map(-1, sizeof *probe + size);
    if (!probe)
        return -ENOMEM;
    *probe = (struct ck_probe){.size = size, .retries = op->flags, .out = -1};
    probe->interval = (op->value[0] >> 32) * MS;
    probe->timeout = (op->value[0] & 0xffffffff) * MS;
    probe->start_period = (op->value[1] >> 32) * MS;
    probe->start_interval = (op->value[1] & 0xffffffff) * MS;
    memcpy(probe->plan, bytes, size);
    return 0; /* whether it is a plan, is asked whenever it begins */
}

void ck_health_forget(struct ck_launcher *l, struct ck_container *c)
{
    if (!c->life.probe)
        return;
    ck_launcher_unwatch(l, &c->life.probe->out);
    ck_unmap(c->life.probe, sizeof *c->life.probe + c->life.probe->size);
    c->life.probe = NULL;
}

static bool in_start_period(const struct ck_container *c, uint64_t now)
{
    return c->state.health == CK_HEALTH_STARTING &&
           now - c->life.started < c->life.probe->start_period;
}

void ck_health_schedule(struct ck_launcher *l, struct ck_container *c)
{
    struct ck_probe *probe = c->life.probe;
    const uint64_t now = ck_now(CLOCK_MONOTONIC);

    if (!probe)
        return;
    probe->at = now + (probe->running                                     ? probe->timeout
                       : in_start_period(c, now) && probe->start_interval ? probe->start_interval
                                                                          : probe->interval);
    ck_life_due(l, probe->at);
}

/* Take what the probe has written; beyond the room for it, it is dropped. */
void ck_health_output(struct ck_launcher *l, struct ck_container *c)
{
    struct ck_probe *probe = c->life.probe;
    char rest[1024];

    for (int i = 0; probe && probe->out >= 0 && i < 64; i++) {
        const size_t room = sizeof probe->output - probe->used;
        ssize_t n = ck_read(probe->out, room ? probe->output + probe->used : rest,
                            room ? room : sizeof rest);
        if (n == 0)
            ck_launcher_unwatch(l, &probe->out);
        if (n <= 0)
            return;
        probe->used += room ? (size_t)n : 0;
    }
}

/* Whole, for whoever reads it meanwhile. */
static void write_output(struct ck_launcher *l, struct ck_container *c)
{
    CK_CLEANUP_FD int fd = -1;
    char path[112], made[116];

    snprintf(path, sizeof path, "%s/health", c->dir);
    snprintf(made, sizeof made, "%s.new", path);
    fd = ck_openat(l->store, made, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK, 0600);
    ck_write(fd, c->life.probe->output, c->life.probe->used);
    ck_renameat(l->store, made, l->store, path);
}

static int begin(struct ck_launcher *l, struct ck_container *c)
{
    struct ck_probe *probe = c->life.probe;
    CK_CLEANUP_FD int theirs = -1;
    int pair[2];

    CK_TRY(ck_pipe(pair));
    probe->out = pair[0];
    theirs = pair[1];
    CK_TRY(ck_set_nonblocking(probe->out));
    CK_TRY(ck_container_watch(l, c, probe->out, CK_WATCH_PROBE));
    return ck_exec_start(l, c, probe->plan, probe->size, (int[]){theirs, theirs}, 2, -1, 1);
}

void ck_health_work(struct ck_launcher *l, struct ck_container *c, uint64_t now)
{
    struct ck_probe *probe = c->life.probe;
    int error;

    if (c->life.frozen || (probe->late && probe->running))
        return; /* it begins anew when it goes on, or when this one has ended */
    if (probe->at > now)
        return ck_life_due(l, probe->at);
    if (probe->running) {
        probe->late = true;
        return ck_life_kill(l, probe->exec, SIGKILL, CK_CAUSE_TIMEOUT);
    }
    probe->running = true;
    probe->late = false;
    probe->used = 0;
    probe->at = now + probe->timeout;
    ck_life_due(l, probe->at);
    error = begin(l, c);
    if (error < 0)
        ck_life_probed(l, c, error);
}

/* As Docker counts: a success makes it healthy at once, so many failures in a row unhealthy. */
static uint16_t judge(struct ck_container *c, int code)
{
    struct ck_probe *probe = c->life.probe;

    c->state.probe_code = code;
    if (code == 0) {
        c->state.failing = 0;
        return CK_HEALTHY;
    }
    if (in_start_period(c, ck_now(CLOCK_MONOTONIC)))
        return CK_HEALTH_STARTING;
    if (c->state.failing < UINT16_MAX)
        c->state.failing++;
    return c->state.failing >= probe->retries ? CK_UNHEALTHY : c->state.health;
}

void ck_life_probed(struct ck_launcher *l, struct ck_container *c, int code)
{
    static const char *const words[] = {"none", "starting", "healthy", "unhealthy"};
    struct ck_probe *probe = c->life.probe;
    const uint16_t before = c->state.health;

    if (!probe || !probe->running)
        return;
    probe->running = false;
    ck_health_output(l, c);
    ck_launcher_unwatch(l, &probe->out);
    if (c->pidfd < 0 ||
        (code == 128 + SIGKILL && ck_exec_is_ending(c))) /* it ends with its container */
        return;
    write_output(l, c);
    c->state.health = judge(c, probe->late ? -ETIMEDOUT : code);
    ck_launcher_write_state(c);
    if (c->state.health != before)
        ck_event_write(l, "health", c, ",\"status\":\"%s\"", words[c->state.health]);
    ck_health_schedule(l, c);
}
