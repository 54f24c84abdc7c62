/* ck_launcher_life.c - what happens to a container while it lives: signals, pauses, limits, health. */
#include <stdarg.h>

#include "ck_launcher.h"

/* ---- events */

void ck_event_write(struct ck_launcher *l, const char *kind, const struct ck_container *c,
                    const char *format, ...)
{
    CK_CLEANUP_FD int fd = ck_openat(l->store, "events", O_WRONLY | O_APPEND | O_CREAT, 0600);
    char line[512];
    va_list args;
    int n;

    n = snprintf(line, 256, "{\"t\":%llu,\"kind\":\"%s\",\"id\":\"%.64s\"",
                 (unsigned long long)ck_now(CLOCK_REALTIME), kind, c->dir + strlen("containers/"));
    va_start(args, format);
    n += vsnprintf(line + n, 250, format, args);
    va_end(args);
    n += snprintf(line + n, 3, "}\n");
    if (fd >= 0)
        ck_write(fd, line, (size_t)n);
}

/* ---- prepare ops */

int ck_life_restart(struct ck_start *start, const struct ck_op *op)
{
    return -ENOSYS;
}

int ck_life_health(struct ck_start *start, const struct ck_op *op)
{
    return -ENOSYS;
}

/* ---- requests */

int ck_life_signal(struct ck_launcher *l, struct ck_container *c, const uint32_t value[4])
{
    if (value[2] & CK_STOP_ASKED)
        c->state.flags |= CK_STATE_STOP_ASKED;
    if (value[1])
        c->cause = value[1];
    return c->pidfd < 0 || !value[0] ? 0 : ck_pidfd_kill(c->pidfd, (int)value[0]);
}

int ck_life_freeze(struct ck_launcher *l, struct ck_container *c, int frozen)
{
    return -ENOSYS;
}

int ck_life_update(struct ck_launcher *l, struct ck_container *c, const char *list, size_t size,
                   int32_t *failed)
{
    return -ENOSYS;
}

/* ---- timers */

void ck_life_probed(struct ck_launcher *l, struct ck_container *c, int code)
{
}

void ck_life_due(struct ck_launcher *l, uint64_t when)
{
    if (!l->due || when < l->due)
        l->due = when;
}

int ck_life_patience(const struct ck_launcher *l)
{
    const uint64_t now = l->due ? ck_now(CLOCK_MONOTONIC) : 0;

    if (!l->due)
        return -1;
    return l->due <= now ? 0 : (int)((l->due - now) / 1000000 + 1);
}

void ck_life_work(struct ck_launcher *l)
{
    if (!l->due || ck_now(CLOCK_MONOTONIC) < l->due)
        return;
    l->due = 0;
    ck_exec_work(l);
}
