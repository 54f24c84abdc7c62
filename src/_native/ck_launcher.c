#include "ck_launcher.h"

#include <sys/socket.h>

enum { STRANGERS_MS = 1000 };

/* ---- talking */

void ck_launcher_tell(int channel, uint16_t kind, const struct ck_event *event, int fd,
                      int terminal)
{
    const int fds[] = {fd, terminal};
    struct ck_event out = *event;

    out.packet =
        (struct ck_packet){CK_WIRE_MAGIC, CK_WIRE_VERSION, kind, sizeof out - sizeof out.packet, 0};
    if (ck_send(channel, &out, sizeof out, fds, (fd >= 0) + (fd >= 0 && terminal >= 0)) < 0)
        ck_shutdown(channel, SHUT_RDWR); /* it has gone, or is to see that it will not be told */
}

int ck_launcher_refuse(int channel, uint32_t at, int error)
{
    const struct ck_report report = {(uint16_t)(at >> 16), (uint16_t)at, 0, (uint16_t)-error, 0};

    ck_launcher_tell(channel, CK_FAILED, &(struct ck_event){.report = report}, -1, -1);
    ck_close_at(&channel);
    return error;
}

int ck_launcher_watch(struct ck_launcher *l, int fd, int kind, uint32_t generation, size_t index)
{
    const uint64_t tag = (uint64_t)kind << 56 | (uint64_t)generation << 16 | index;

    return ck_epoll_set(l->epoll, EPOLL_CTL_ADD, fd, EPOLLIN, tag);
}

int ck_container_watch(struct ck_launcher *l, const struct ck_container *c, int fd, int kind)
{
    return ck_launcher_watch(l, fd, kind, c->generation, (size_t)(c - l->containers));
}

/* Closing alone does not end a watch: callers have a copy of each pidfd. */
void ck_launcher_unwatch(struct ck_launcher *l, int *fd)
{
    if (*fd < 0)
        return;
    ck_epoll_set(l->epoll, EPOLL_CTL_DEL, *fd, 0, 0);
    ck_close_at(fd);
}

/* The kernel hands out the lowest number, so that a new one close to the limit says that few are left:
 * a start is refused while it, and requests about those that run, can still be answered. */
bool ck_launcher_is_full(int fd)
{
    uint64_t files[2] = {0};

    ck_get_rlimit(RLIMIT_NOFILE, files);
    return (unsigned)fd >= (files[0] < 4 * CK_FDS_MAX ? files[0] / 4 * 3 : files[0] - CK_FDS_MAX);
}

/* ---- requests */

bool ck_launcher_is_packet(const struct ck_packet *packet, ssize_t got)
{
    return got >= (ssize_t)sizeof *packet && packet->magic == CK_WIRE_MAGIC &&
           packet->version == CK_WIRE_VERSION && packet->size == (size_t)got - sizeof *packet;
}

void *ck_launcher_plan(void *behind, bool sealed, const int *fds, int *n, size_t *size)
{
    const int seals = 2 | 4 | 8; /* F_SEAL_SHRINK, GROW, WRITE: nobody can change it any more */
    const int memfd = sealed && *n > 0 ? fds[--*n] : -1;
    struct stat st = {0};

    if (!sealed)
        return *size > CK_PLAN_INLINE ? NULL : behind;
    if (ck_fstat(memfd, &st) < 0 || st.st_size > CK_PLAN_MAX || (ck_seals(memfd) & seals) != seals)
        return NULL;
    *size = (size_t)st.st_size;
    return ck_map(memfd, *size); /* NULL: an empty one */
}

static void start_request(struct ck_launcher *l, const struct ck_packet *packet, int *fds, int n)
{
    const bool sealed = packet->value == 1;
    size_t size = packet->size;
    void *plan = ck_launcher_plan(l->packet + sizeof *packet, sealed, fds, &n, &size);

    ck_launcher_start(l, plan, size, fds, n);
    if (sealed && plan)
        ck_unmap(plan, size);
}

/* The engine lets go: from now on it lives for its containers alone, or for its owner still. */
static void leave(struct ck_launcher *l, int owned)
{
    ck_pwrite(l->claim, "alone", 5, 0); /* over "owner": nobody waits for its end any more */
    if (!owned)
        ck_launcher_unwatch(l, &l->owner);
    ck_launcher_unwatch(l, &l->control);
    l->left = true;
}

/* One packet from the control socket; 0: there is none now, -1: the engine has closed it. */
static int on_control(struct ck_launcher *l)
{
    const struct ck_packet *packet = (const void *)l->packet;
    int fds[CK_FDS_MAX], n = CK_FDS_MAX;
    ssize_t got = ck_receive(l->control, l->packet, sizeof l->packet, fds, &n, 0);

    if (got == -EAGAIN || got == -EMSGSIZE)
        return got == -EMSGSIZE;
    if (got <= 0)
        return -1;
    if (ck_launcher_is_packet(packet, got) && packet->kind == CK_START && n >= 1)
        start_request(l, packet, fds, n);
    else if (ck_launcher_is_packet(packet, got) && packet->kind == CK_LEAVE)
        leave(l, packet->value == 1);
    while (n > 0)
        ck_close_at(&fds[--n]);
    return 1;
}

static void on_channel(struct ck_launcher *l, struct ck_container *c)
{
    struct ck_packet packet;
    int n = 0;
    ssize_t got = ck_receive(c->channel, &packet, sizeof packet, NULL, &n, 0);

    if (got == -EAGAIN)
        return;
    if (!ck_launcher_is_packet(&packet, got)) { /* the caller lets go of it */
        if (c->flags == CK_PLAN_KEPT && (c->status != CK_STARTING || c->state.restarts))
            return ck_launcher_unwatch(l, &c->channel);
        ck_epoll_set(l->epoll, EPOLL_CTL_DEL, c->channel, 0, 0); /* it is closed at the end */
        c->state.flags |= CK_STATE_STOP_ASKED;
        packet = (struct ck_packet){.kind = CK_KILL, .value = CK_CAUSE_REMOVED << 16 | SIGKILL};
    }
    if (packet.kind == CK_KILL)
        ck_life_kill(l, c, (int)(packet.value & 0xffff), packet.value >> 16);
}

/* It runs, or is parked.  The caller of an ephemeral one or of a quiet exec sees it end; but a terminal
 * he must be given. */
static void on_started(struct ck_launcher *l, struct ck_container *c, int parked)
{
    const struct ck_event event = {.state = c->state};
    int error;

    if (c->status != CK_STARTING)
        return;
    c->status = CK_RUNNING;
    if (c->flags != CK_PLAN_KEPT) {
        if (c->within ? !(c->release & CK_QUIET) : c->log.terminal || parked)
            ck_launcher_tell(c->channel, CK_STARTED, &event, c->pidfd, c->log.output[0]);
        ck_launcher_unwatch(l, &c->log.output[0]);
        return;
    }
    error = ck_life_started(l, c);
    if (error < 0) { /* nobody could see that it runs */
        c->status = CK_STARTING;
        c->failed = (struct ck_report){CK_CHILD, 0, 0, (uint16_t)-error, 0};
        ck_pidfd_kill(c->pidfd, SIGKILL);
        return;
    }
    if (!c->state.restarts) {
        c->release |= CK_SETTLED;
        l->live--;
    }
    ck_request_tell(l, c, CK_STARTED, &event);
}

/* Take one report of the child; 0 when there is no more now. */
static int on_report(struct ck_launcher *l, struct ck_container *c)
{
    struct ck_report report;
    int fds[2] = {-1, -1}, n = 2;
    ssize_t got =
        c->report < 0 ? -EAGAIN : ck_receive(c->report, &report, sizeof report, fds, &n, 0);

    if (got == -EAGAIN)
        return 0;
    if (got == 1 && n == 1 && c->within) {
        ck_exec_found(l, c, fds[0]);
        return 1;
    }
    if (got == 2 && n == 1 && c->within && c->adopter < 0) {
        c->adopter = fds[0];
        if (ck_container_watch(l, c, c->adopter, CK_WATCH_PIDFD) < 0)
            ck_pidfd_kill(c->adopter, SIGKILL); /* the next look at it finds that */
        return 1;
    }
    if (got == (ssize_t)sizeof report) {
        if (n)
            ck_log_terminal(l, c, fds[0], fds[1]);
        else if (report.errnum)
            c->failed = report;
        else
            c->release |= CK_ABOUT_TO_EXEC;
        if (report.code == CK_OP_PARK && !report.errnum)
            on_started(l, c, 1);
        return 1;
    }
    ck_close_at(&fds[0]);
    ck_close_at(&fds[1]);
    ck_launcher_unwatch(l, &c->report);
    if (c->within && c->pidfd < 0)
        ck_launcher_ended(l, c);
    return 0;
}

/* What it has said: it was executed when its socket is closed, by an exec's agent also, or it has
 * ended; without a word of that it is dying, and its pidfd tells. */
void ck_launcher_hear(struct ck_launcher *l, struct ck_container *c, bool ended)
{
    while (on_report(l, c))
        continue;
    if ((ended || c->report < 0) && c->release & CK_ABOUT_TO_EXEC && !c->failed.errnum)
        on_started(l, c, 0);
}

/* ---- the loop */

static void on_event(struct ck_launcher *l, uint64_t tag)
{
    struct ck_container *c = &l->containers[ck_tag_index(tag) % CK_CONTAINERS];
    const int kind = ck_tag_kind(tag);

    if (kind == CK_WATCH_LISTENER)
        return ck_request_accept(l);
    if (kind == CK_WATCH_CONNECTION)
        return ck_request_event(l, ck_tag_index(tag));
    if (c->generation != ck_tag_generation(tag) || c->status == CK_FREE)
        return;
    if (kind == CK_WATCH_CHANNEL)
        return on_channel(l, c);
    if (kind == CK_WATCH_LOG_STDOUT || kind == CK_WATCH_LOG_STDERR)
        return (void)ck_log_take(l, c, kind == CK_WATCH_LOG_STDERR);
    if (kind == CK_WATCH_PROBE)
        return ck_health_output(l, c);
    ck_launcher_hear(l, c, kind == CK_WATCH_PIDFD); /* what it said last comes before its end */
    if (kind == CK_WATCH_PIDFD)
        ck_launcher_ended(l, c);
}

/* When the pool has work: at once while the next start would miss something and nothing runs, which
 * hides its cost; after a pause for the rest; never (0) when everything is ready. */
static uint64_t pool_due(const struct ck_launcher *l)
{
    const int wants = ck_pool_wants_work(l);

    return wants == 2 ? 1 : wants ? l->idle_since + l->hello.idle_ms * 1000000ULL : 0;
}

/* For epoll_wait(2): ms until the pool or a timer is due. */
static int patience(const struct ck_launcher *l)
{
    const uint64_t pool = pool_due(l), now = ck_now(CLOCK_MONOTONIC);
    const uint64_t due = pool && (!l->due || pool < l->due) ? pool : l->due;

    const int ms = !due ? -1 : due <= now ? 0 : (int)((due - now) / 1000000 + 1);

    /* children that nobody knows end unseen */
    return l->strangers && l->present && (ms < 0 || ms > STRANGERS_MS) ? STRANGERS_MS : ms;
}

static _Noreturn void loop(struct ck_launcher *l)
{
    struct epoll_event events[64];

    while (!l->left || l->present) {
        int n = ck_epoll_wait(l->epoll, events, 64, patience(l));
        int control = 0, owner = 0, busy = 0;

        ck_life_work(l);
        for (int i = 0; i < n; i++) {
            const int kind = ck_tag_kind(events[i].data.u64);
            busy |= kind != CK_WATCH_LOG_STDOUT && kind != CK_WATCH_LOG_STDERR;
            if (kind == CK_WATCH_OWNER)
                owner = 1;
            else if (kind == CK_WATCH_CONTROL)
                control = 1; /* last: it may reuse entries that other events free */
            else
                on_event(l, events[i].data.u64);
        }
        for (int more = control || owner; more && l->control >= 0; more = owner && more) {
            more = on_control(l); /* an owner's last word may be LEAVE */
            if (more < 0)
                ck_launcher_shutdown(l);
        }
        if (owner && l->owner >= 0)
            ck_launcher_shutdown(l);
        if (busy)
            l->idle_since = ck_now(CLOCK_MONOTONIC);
        else if (pool_due(l) && pool_due(l) <= ck_now(CLOCK_MONOTONIC))
            ck_pool_work(l); /* also beside a container that never stops talking */
        ck_launcher_reap(l);
    }
    ck_launcher_shutdown(l);
}

/* ---- start */

/* Descriptors come with the numbers behind the control socket's: the owner's first.  A parked child
 * relies on the controllers' being the last. */
static int receive_hello(struct ck_launcher *l)
{
    struct ck_hello *hello = &l->hello;
    int fds[CK_CONTROLLERS + 3], n = CK_CONTROLLERS + 3;
    ssize_t got = ck_receive(l->control, hello, sizeof *hello, fds, &n, 1);

    l->orphans = l->cpuset = -1;
    if (got != sizeof *hello || !ck_launcher_is_packet(&hello->packet, got) ||
        hello->packet.kind != CK_HELLO || n < 3 || hello->netns_pool > CK_POOL_MAX ||
        hello->n_common > (unsigned)n - 3)
        return -EPROTO;
    for (int i = 0; i < CK_CONTROLLERS; i++)
        hello->controllers[i][sizeof hello->controllers[i] - 1] = 0;
    hello->root[sizeof hello->root - 1] = hello->id[sizeof hello->id - 1] = 0;
    l->owner = fds[0];
    l->listener = fds[1];
    l->run = fds[2];
    l->n_controllers = n - 3;
    l->unified = strcmp(hello->controllers[0], "unified") ? -1 : 0;
    for (int i = 0; i < l->n_controllers; i++) {
        l->controllers[i] = fds[i + 3];
        if (l->controllers[i] != l->run + 1 + i)
            return -EPROTO;
    }
    if (l->n_controllers && hello->controllers[l->n_controllers - 1][0] == '=')
        l->cpuset = l->controllers[--l->n_controllers];
    return 0;
}

static int set_up(struct ck_launcher *l)
{
    CK_TRY(receive_hello(l));
    CK_TRY(ck_launcher_enter(l));
    CK_TRY(l->epoll = ck_epoll());
    CK_TRY(ck_launcher_watch(l, l->control, CK_WATCH_CONTROL, 0, 0));
    CK_TRY(ck_launcher_watch(l, l->owner, CK_WATCH_OWNER, 0, 0));
    CK_TRY(l->reserve = ck_dup_above(l->listener, 0));
    return ck_launcher_watch(l, l->listener, CK_WATCH_LISTENER, 0, 0);
}

int main(void)
{
    struct ck_launcher *l = ck_map(-1, sizeof *l);
    struct ck_event ready = {0};
    uint64_t files[2];
    int error;

    if (!l)
        return 1;
    ck_set_signals(NULL, 0);
    ck_umask(0);
    ck_not_dumpable();
    ck_run_ordinarily();
    if (ck_get_rlimit(RLIMIT_NOFILE, files) == 0)
        ck_set_rlimit(RLIMIT_NOFILE, files[1], files[1]);
    l->control = CK_CONTROL_FD;
    ck_set_cloexec(CK_CONTROL_FD);
    error = set_up(l);
    ready.report = (struct ck_report){CK_PREPARE, 0, 0, (uint16_t)-error, l->step};
    ck_launcher_tell(l->control, CK_READY, &ready, -1, -1);
    if (error < 0)
        return 1;
    l->idle_since = ck_now(CLOCK_MONOTONIC);
    loop(l);
}
