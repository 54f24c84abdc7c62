/* ck_launcher_request.c - connections: what any process of the root asks about a kept container.
 *
 * Each carries one request.  It is answered at once and closed, becomes the channel of an exec, or
 * stays to be told later.  The socket lies in a directory of mode 0700; who connects is asked of the
 * kernel all the same.
 */

#include "ck_launcher.h"

static void drop(struct ck_launcher *l, struct ck_connection *at)
{
    if (at->fd > 0)
        ck_launcher_unwatch(l, &at->fd);
    at->fd = 0;
    at->kind = 0;
}

static void answer(struct ck_launcher *l, struct ck_connection *at, int error, int fd)
{
    struct ck_event event = {.report.errnum = (uint16_t)(error < 0 ? -error : 0)};

    ck_launcher_tell(at->fd, error < 0 ? CK_FAILED : CK_DONE, &event, fd, -1);
    drop(l, at);
}

void ck_request_accept(struct ck_launcher *l)
{
    CK_CLEANUP_FD int fd = ck_accept(l->listener);
    uid_t uid;

    if (fd == -EMFILE) { /* with the one kept for this: it must not stay in the queue for ever */
        ck_close(l->reserve);
        fd = ck_accept(l->listener);
        ck_close_at(&fd);
        l->reserve = ck_dup_above(l->listener, 0);
    }
    if (fd < 0 || ck_peer_uid(fd, &uid) < 0 || (uid != 0 && uid != ck_geteuid()))
        return;
    for (size_t i = 0; i < CK_CONNECTIONS; i++) {
        struct ck_connection *at = &l->connections[i];
        if (at->fd > 0)
            continue;
        if (ck_launcher_watch(l, fd, CK_WATCH_CONNECTION, 0, i) >= 0)
            *at = (struct ck_connection){.fd = ck_steal_fd(&fd)};
        return;
    }
}

static struct ck_container *find(struct ck_launcher *l, const char id[64])
{
    for (struct ck_container *c = l->containers; c < l->containers + l->used; c++) {
        if (c->status != CK_FREE && c->flags == CK_PLAN_KEPT &&
            strncmp(c->dir, "containers/", 11) == 0 && strncmp(c->dir + 11, id, 64) == 0)
            return c;
    }
    return NULL;
}

/* ---- the requests */

static void wait_for(struct ck_connection *at, struct ck_container *c, uint16_t kind)
{
    at->kind = kind;
    at->container = c;
    at->of = c->generation;
}

static void watch(struct ck_launcher *l, struct ck_connection *at, struct ck_container *c)
{
    const struct ck_event event = {.state = c->state};

    wait_for(at, c, CK_WATCH);
    if (c->status != CK_STARTING || c->state.restarts)
        ck_launcher_tell(at->fd, CK_STARTED, &event, c->status == CK_RUNNING ? c->pidfd : -1, -1);
}

static void exec(struct ck_launcher *l, struct ck_connection *at, struct ck_container *c,
                 const struct ck_request *request, size_t size, const int *fds, int n)
{
    const bool sealed = request->value[0] == 1;
    void *plan = ck_launcher_plan(l->packet + sizeof *request, sealed, fds, &n, &size);
    int channel = ck_steal_fd(&at->fd);

    ck_epoll_set(l->epoll, EPOLL_CTL_DEL, channel, 0, 0);
    drop(l, at);
    ck_exec_start(l, c, plan, size, fds, n, channel, request->value[1] == 1);
    if (sealed && plan)
        ck_unmap(plan, size);
}

static void handle(struct ck_launcher *l, struct ck_connection *at,
                   const struct ck_request *request, size_t got, const int *fds, int n)
{
    struct ck_container *c = find(l, request->id);
    CK_CLEANUP_FD int fd = -1;
    int error = -EINVAL;

    if (!c)
        error = -ESRCH;
    else if (request->packet.kind == CK_WATCH)
        return watch(l, at, c);
    else if (request->packet.kind == CK_EXEC)
        return exec(l, at, c, request, got - sizeof *request, fds, n);
    else if (request->packet.kind == CK_SIGNAL)
        error = ck_life_signal(l, c, request->value);
    else if (request->packet.kind == CK_FREEZE || request->packet.kind == CK_THAW) {
        error = ck_life_freeze(l, c, request->packet.kind == CK_FREEZE);
        if (error == 0 && request->value[0] == 1) {
            wait_for(at, c, CK_FREEZE);
            return ck_launcher_tell(at->fd, CK_DONE, &(struct ck_event){.reserved = 0}, -1, -1);
        }
    } else if (request->packet.kind == CK_ATTACH)
        error = fd = ck_log_input(l, c);
    else if (request->packet.kind == CK_CLOSE_INPUT)
        error = ck_log_close_input(l, c);
    answer(l, at, error, fd);
}

static bool waits_for(const struct ck_connection *at, const struct ck_container *c, uint16_t kind)
{
    return at->fd > 0 && at->kind == kind && at->container == c && at->of == c->generation;
}

/* The first packet is the request; after it nothing may come but the end.  An event of a connection that
 * had this entry before has the one that is there now looked at: that waits for nothing. */
void ck_request_event(struct ck_launcher *l, size_t index)
{
    struct ck_connection *at = &l->connections[index];
    const struct ck_request *request = (const void *)l->packet;
    int fds[CK_FDS_MAX], n = CK_FDS_MAX;
    ssize_t got;

    if (at->fd <= 0)
        return;
    got = ck_receive(at->fd, l->packet, sizeof l->packet, fds, &n, 0);
    if (got == -EAGAIN)
        return;
    if (waits_for(at, at->container, CK_FREEZE))
        ck_life_freeze(l, at->container, false);
    if (at->kind || got < (ssize_t)sizeof *request || !ck_launcher_is_packet(&request->packet, got))
        drop(l, at);
    else
        handle(l, at, request, (size_t)got, fds, n);
    while (n > 0)
        ck_close(fds[--n]);
}

/* ---- those who wait */

void ck_request_tell(struct ck_launcher *l, struct ck_container *c, uint16_t kind,
                     const struct ck_event *event)
{
    const int fd = kind == CK_STARTED ? c->pidfd : -1;

    ck_launcher_tell(c->channel, kind, event, fd, -1);
    if (!(c->flags & CK_PLAN_KEPT))
        return;
    for (struct ck_connection *at = l->connections; at < l->connections + CK_CONNECTIONS; at++) {
        if (!waits_for(at, c, CK_WATCH))
            continue;
        ck_launcher_tell(at->fd, kind, event, fd, -1);
        if (kind != CK_STARTED)
            drop(l, at);
    }
}
