#include "ck_launcher.h"

#include <sys/epoll.h>

/* ---- talking */

void ck_launcher_tell(struct ck_container *c, uint16_t kind, const struct ck_event *event, int fd)
{
    struct ck_event out = *event;

    out.packet =
        (struct ck_packet){CK_WIRE_MAGIC, CK_WIRE_VERSION, kind, sizeof out - sizeof out.packet, 0};
    if (c->channel >= 0) /* a caller that has gone is no error: its end-of-file follows */
        ck_send(c->channel, &out, sizeof out, &fd, fd >= 0 ? 1 : 0);
}

static uint64_t tag(uint64_t kind, uint64_t generation, uint64_t index)
{
    return kind << 56 | (generation & 0xffffffff) << 16 | index;
}

int ck_launcher_watch(struct ck_launcher *l, struct ck_container *c, int fd, int kind)
{
    uint64_t data = tag((uint64_t)kind, c->generation, (uint64_t)(c - l->containers));

    return ck_epoll_set(l->epoll, EPOLL_CTL_ADD, fd, EPOLLIN, data);
}

/* Closing alone does not end a watch: callers have a copy of each pidfd. */
void ck_launcher_unwatch(struct ck_launcher *l, int *fd)
{
    if (*fd < 0)
        return;
    ck_epoll_set(l->epoll, EPOLL_CTL_DEL, *fd, 0, 0);
    ck_close(ck_steal_fd(fd));
}

/* The kernel hands out the lowest number, so one close to the limit says that few are left: a start
 * is refused while it can still be answered. */
int ck_launcher_is_full(int fd)
{
    CK_CLEANUP_FD int far = ck_dup_above(fd, fd + 2 * CK_FDS_MAX);

    return far < 0;
}

/* ---- requests */

static int good_packet(const struct ck_packet *packet, ssize_t got)
{
    return got >= (ssize_t)sizeof *packet && packet->magic == CK_WIRE_MAGIC &&
           packet->version == CK_WIRE_VERSION && packet->size == (size_t)got - sizeof *packet;
}

/* The plan of a START: inline, or the whole of a memfd that nobody can change any more. */
static void start_request(struct ck_launcher *l, const struct ck_packet *packet, int *fds, int n)
{
    const int seals = 2 | 4 | 8; /* F_SEAL_SHRINK, GROW, WRITE */
    CK_CLEANUP_FD int memfd = -1;
    struct stat st = {0};
    void *map = NULL;

    if (packet->value != 1) {
        ck_launcher_start(l, packet + 1, packet->size, fds, n);
        return;
    }
    memfd = n > 1 ? fds[--n] : -1;
    if (ck_fstat(memfd, &st) == 0 && st.st_size <= CK_PLAN_MAX &&
        (ck_seals(memfd) & seals) == seals)
        map = ck_map(memfd, (size_t)st.st_size); /* NULL for an empty one */
    ck_launcher_start(l, map, (size_t)st.st_size, fds, n);
    if (map)
        ck_unmap(map, (size_t)st.st_size);
}

/* One packet from the control socket; -1 when the engine has closed it. */
static int on_control(struct ck_launcher *l)
{
    const struct ck_packet *packet = (const void *)l->packet;
    int fds[CK_FDS_MAX], n = CK_FDS_MAX;
    ssize_t got = ck_receive(l->control, l->packet, sizeof l->packet, fds, &n, 0);

    if (got == -EAGAIN || got == -EMSGSIZE)
        return 0;
    if (got <= 0)
        return -1;
    if (good_packet(packet, got) && packet->kind == CK_START && n >= 1) {
        start_request(l, packet, fds, n);
        return 0;
    }
    while (n > 0)
        ck_close(fds[--n]);
    return 0;
}

static void on_channel(struct ck_launcher *l, struct ck_container *c)
{
    struct ck_packet packet;
    int fds[4], n = 4;
    ssize_t got = ck_receive(c->channel, &packet, sizeof packet, fds, &n, 0);

    while (n > 0)
        ck_close(fds[--n]);
    if (got == -EAGAIN)
        return;
    if (!good_packet(&packet, got)) { /* the caller lets go of it: nobody will send DROP */
        ck_epoll_set(l->epoll, EPOLL_CTL_DEL, c->channel, 0, 0);
        c->flags |= CK_PLAN_EPHEMERAL;
        packet = (struct ck_packet){.kind = CK_KILL, .value = CK_CAUSE_REMOVED << 16 | SIGKILL};
        if (c->status == CK_ENDED)
            packet.kind = CK_DROP;
    }
    if (packet.kind == CK_KILL && c->pidfd >= 0) {
        if (packet.value >> 16)
            c->cause = packet.value >> 16;
        ck_pidfd_kill(c->pidfd, (int)(packet.value & 0xffff));
    }
    if (packet.kind == CK_DROP && c->status == CK_ENDED)
        ck_launcher_release(l, c, CK_RELEASED, &(struct ck_event){0});
}

/* Take one report of the child; 0 when there is no more now. */
static int on_report(struct ck_launcher *l, struct ck_container *c)
{
    struct ck_report report;
    int fd, n = 0;
    ssize_t got =
        c->report < 0 ? -EAGAIN : ck_receive(c->report, &report, sizeof report, &fd, &n, 0);

    if (got == -EAGAIN)
        return 0;
    if (got == (ssize_t)sizeof report) {
        if (report.errnum)
            c->failed = report;
        else
            c->release |= CK_ABOUT_TO_EXEC;
        return 1;
    }
    ck_launcher_unwatch(l, &c->report);
    if (c->failed.errnum || !(c->release & CK_ABOUT_TO_EXEC))
        return 0; /* it is dying: its pidfd tells */
    c->status = CK_RUNNING;
    if (c->flags & CK_PLAN_EPHEMERAL)
        return 0;
    c->release |= CK_SETTLED;
    l->live--;
    ck_launcher_tell(c, CK_STARTED, &(struct ck_event){.started_ns = c->state.started_ns},
                     c->pidfd);
    return 0;
}

/* ---- the loop */

static void on_event(struct ck_launcher *l, uint64_t data)
{
    struct ck_container *c = &l->containers[data & 0xffff];

    if (c->generation != (uint32_t)(data >> 16 & 0xffffffff) || c->status == CK_FREE)
        return;
    if (data >> 56 == CK_WATCH_CHANNEL)
        on_channel(l, c);
    else
        while (on_report(l, c)) /* also at its end: what it said last comes before that */
            continue;
    if (data >> 56 == CK_WATCH_PIDFD)
        ck_launcher_ended(l, c);
}

/* How long to wait: not at all while the next start would miss something and nothing runs, which
 * hides its cost; after a pause for the rest; forever when everything is ready. */
static int patience(const struct ck_launcher *l)
{
    const int wants = ck_pool_wants_work(l);
    uint64_t idle;

    if (!wants)
        return -1;
    if (wants == 2)
        return 0;
    idle = (ck_now(CLOCK_MONOTONIC) - l->idle_since) / 1000000;
    return idle >= l->hello.idle_ms ? 0 : (int)(l->hello.idle_ms - idle);
}

static _Noreturn void loop(struct ck_launcher *l)
{
    struct epoll_event events[64];

    for (;;) {
        int n = ck_epoll_wait(l->epoll, events, 64, patience(l)), control = 0;

        if (n == 0) {
            if (patience(l) == 0)
                ck_pool_work(l);
            continue;
        }
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 >> 56 == CK_WATCH_OWNER)
                ck_launcher_shutdown(l);
            if (events[i].data.u64 >> 56 == CK_WATCH_CONTROL)
                control = 1; /* last: it may reuse entries that other events free */
            else
                on_event(l, events[i].data.u64);
        }
        if (control && on_control(l) < 0)
            ck_launcher_shutdown(l);
        l->idle_since = ck_now(CLOCK_MONOTONIC);
    }
}

/* ---- start */

/* Descriptors come with the numbers behind the control socket's: the owner's first. */
static int receive_hello(struct ck_launcher *l)
{
    struct ck_hello *hello = &l->hello;
    int fds[CK_CONTROLLERS + 1], n = CK_CONTROLLERS + 1;
    ssize_t got = ck_receive(l->control, hello, sizeof *hello, fds, &n, 1);

    l->unified = -1;
    if (got != sizeof *hello || !good_packet(&hello->packet, got) ||
        hello->packet.kind != CK_HELLO || n < 1 || hello->netns_pool > CK_POOL_MAX)
        return -EPROTO;
    hello->root[sizeof hello->root - 1] = hello->id[sizeof hello->id - 1] = 0;
    l->owner = fds[0];
    l->n_controllers = n - 1;
    for (int i = 0; i < l->n_controllers; i++) {
        l->controllers[i] = fds[i + 1];
        if (l->controllers[i] != l->owner + 1 + i)
            return -EPROTO;
        if (strcmp(hello->controllers[i], "unified") == 0)
            l->unified = i;
    }
    return 0;
}

static int watch_ends(struct ck_launcher *l)
{
    CK_TRY(l->epoll = ck_epoll());
    CK_TRY(ck_epoll_set(l->epoll, EPOLL_CTL_ADD, l->control, EPOLLIN, tag(CK_WATCH_CONTROL, 0, 0)));
    return ck_epoll_set(l->epoll, EPOLL_CTL_ADD, l->owner, EPOLLIN, tag(CK_WATCH_OWNER, 0, 0));
}

static int set_up(struct ck_launcher *l)
{
    CK_TRY(receive_hello(l));
    CK_TRY(ck_launcher_enter(l));
    return watch_ends(l);
}

int main(void)
{
    struct ck_launcher *l = ck_map(-1, sizeof *l);
    struct ck_container speaker = {.channel = CK_CONTROL_FD};
    struct ck_event ready = {.report = {.section = CK_PREPARE}};
    uint64_t files[2];
    int error;

    if (!l)
        return 1;
    ck_reset_signals();
    ck_umask(0);
    ck_not_dumpable();
    if (ck_get_rlimit(RLIMIT_NOFILE, files) == 0)
        ck_set_rlimit(RLIMIT_NOFILE, files[1], files[1]);
    l->control = CK_CONTROL_FD;
    ck_set_cloexec(CK_CONTROL_FD);
    error = set_up(l);
    ready.report.errnum = (uint16_t)-error;
    ready.report.aux = l->step;
    ready.features = l->features;
    ck_launcher_tell(&speaker, CK_READY, &ready, -1);
    if (error < 0)
        return 1;
    l->idle_since = ck_now(CLOCK_MONOTONIC);
    loop(l);
}
