/* ck_launcher_start.c - from a START packet to a child that has its plan. */
#include "ck_launcher.h"

/* ---- the child */

/* A slot that is empty before one that is not gets something: no step of the plan uses it. */
static int give_to_spare(struct ck_start *start)
{
    struct ck_container *c = start->container;
    int fds[CK_SLOTS], n = CK_SLOTS;

    c->pidfd = start->spare.pidfd;
    c->state.pid = (uint32_t)start->spare.pid;
    c->report = start->spare.socket;
    start->spare.ready = 0;
    if (!start->spare.joined)
        CK_TRY(ck_send(c->report, "", 1, NULL, 0));
    while (n > 0 && start->slots[n - 1] < 0)
        n--;
    for (int i = 0; i < n; i++)
        fds[i] = start->slots[i] < 0 ? c->pidfd : start->slots[i];
    return (int)ck_send(c->report, start->plan.header, start->plan_size, fds, n);
}

/* Leave a child nothing but what its plan uses: of a launcher with many containers it has more
 * descriptors than the limit that the plan sets. */
static int close_others(const struct ck_child *child)
{
    unsigned from = 3, next;

    do {
        next = (unsigned)child->report >= from ? (unsigned)child->report : ~0U;
        for (int i = 0; i < CK_SLOTS; i++)
            if ((unsigned)child->slots[i] >= from && (unsigned)child->slots[i] < next)
                next = (unsigned)child->slots[i]; /* -1, for empty, is never below */
        if (next > from)
            CK_TRY(ck_close_range(from, next - 1, 0));
        from = next + 1;
    } while (next != ~0U);
    return 0;
}

/* The child of a clone up to its first step.  What fails here is reported as the step that wanted
 * it: the control group's, or the first. */
static _Noreturn void run_clone(struct ck_start *start)
{
    const struct ck_container *c = start->container;
    struct ck_launcher *l = start->launcher;
    struct ck_child child = {.root = -1, .last = -1, .memory = l, .memory_size = sizeof *l};
    const struct ck_op *ops = start->plan.ops[CK_PREPARE];
    int error, at = 0;

    child.plan = start->plan;
    child.report = c->report;
    memcpy(child.slots, start->slots, sizeof child.slots);
    error = l->hello.flags & CK_BARE ? 0 : ck_own_make(l);
    if (error >= 0 && c->release & CK_HAS_CGROUP)
        error = ck_pool_join_cgroup(l, c->number);
    if (error >= 0 && !(l->hello.flags & CK_BARE))
        error = ck_unshare(CLONE_NEWCGROUP);
    if (error >= 0 && c->release & CK_HAS_CGROUP)
        error = ck_own_show_groups(l, c->number);
    if (error >= 0)
        error = close_others(&child);
    if (error >= 0)
        ck_child_run(&child);
    while (at < start->plan.header->n_ops[CK_PREPARE] - 1 && ops[at].code != CK_OP_CGROUP)
        at++;
    ck_child_tell(c->report, CK_PREPARE, at, ops[at].code, error, 0);
    ck_exit(126);
}

/* No spare, or one of another kind than the plan wants: clone for this start alone. */
static int clone_child(struct ck_start *start)
{
    struct ck_container *c = start->container;
    uint64_t namespaces = start->plan.header->namespaces & ~(uint64_t)CLONE_NEWCGROUP;
    const uint32_t group = c->release & CK_HAS_CGROUP ? c->number : 0;
    int pid;

    CK_TRY(pid = ck_pool_clone(start->launcher, group, namespaces, &c->pidfd, &c->report));
    if (pid == 0)
        run_clone(start);
    c->state.pid = (uint32_t)pid;
    return 0;
}

/* ---- the request */

struct ck_container *ck_launcher_new(struct ck_launcher *l, int channel)
{
    struct ck_container *c;

    while (l->first_free < CK_CONTAINERS && l->containers[l->first_free].status != CK_FREE)
        l->first_free++;
    if (l->first_free == CK_CONTAINERS)
        return NULL;
    c = &l->containers[l->first_free];
    *c = (struct ck_container){.generation = c->generation + 1, .status = CK_STARTING};
    c->pidfd = c->adopter = c->lock = c->report = c->user = -1;
    c->channel = channel;
    c->log = (struct ck_log){.input = -1, .output = {-1, -1}, .file = -1, .slave = -1};
    l->present++;
    if (l->first_free >= l->used)
        l->used = l->first_free + 1;
    return c;
}

/* Take the parked child, if there is one, it lives, and it is of the kind that the plan wants. */
static void take_spare(struct ck_start *start)
{
    const uint64_t kind = CK_SPARE_NAMESPACES | CLONE_NEWCGROUP;
    struct ck_launcher *l = start->launcher;

    /* what an earlier container left charged to a cgroup must not count against a limit */
    if (!l->spare.ready || start->plan.header->namespaces != kind ||
        start->plan_size > CK_PLAN_INLINE ||
        (start->container->release & CK_TUNED && ck_pool_is_charged(l, &l->spare.place)) ||
        start->container->release & CK_UNCOMMON)
        return;
    if (ck_wait_for(l->spare.pidfd, POLLIN, 0) != 0)
        return ck_pool_end_spare(l, &l->spare);
    start->spare = l->spare;
    l->spare.ready = 0;
    start->container->release |= CK_HAS_CGROUP;
}

static bool has_init(const struct ck_plan *plan)
{
    for (int i = plan->header->n_ops[CK_CHILD] - 1; i >= 0; i--)
        if (plan->ops[CK_CHILD][i].code == CK_OP_INIT)
            return true;
    return false;
}

/* What the limits of a plan leave behind. */
static uint16_t group_bits(const struct ck_plan *plan)
{
    for (int i = 0; i < plan->header->n_ops[CK_PREPARE]; i++)
        if (plan->ops[CK_PREPARE][i].code == CK_OP_CGROUP)
            return plan->ops[CK_PREPARE][i].flags & (CK_TUNED | CK_UNCOMMON | CK_SPOILT);
    return 0;
}

/* What is left half done after a failure, whoever calls ends. */
static int start_child(struct ck_start *start)
{
    struct ck_launcher *l = start->launcher;
    struct ck_container *c = start->container;
    int error;

    CK_TRY(ck_launcher_prepare(start));
    CK_TRY(ck_life_remember(start));
    error = start->spare.ready ? give_to_spare(start) : clone_child(start);
    if (error < 0)
        c->failed = (struct ck_report){CK_CHILD, 0, 0, (uint16_t)-error, 0};
    CK_TRY(error);
    CK_TRY(ck_container_watch(l, c, c->pidfd, CK_WATCH_PIDFD));
    CK_TRY(ck_container_watch(l, c, c->report, CK_WATCH_REPORT));
    return start->again ? 0 : ck_container_watch(l, c, c->channel, CK_WATCH_CHANNEL);
}

static void start_container(struct ck_start *start)
{
    struct ck_launcher *l = start->launcher;
    struct ck_container *c = start->container;
    int error;

    if (!start->again) {
        c->flags = start->plan.header->flags;
        c->release = group_bits(&start->plan) | (has_init(&start->plan) ? CK_HAS_INIT : 0);
        take_spare(start);
        c->number = start->spare.ready ? start->spare.place.number : ++l->last_number;
    }
    error = start_child(start);
    if (strcmp(start->upper, "/up") == 0) /* while the child works: its overlays hold it by now, */
        ck_umount("/up");                 /* and with the last of them it is gone */
    if (start->spare.ready) { /* with its cgroup, and its directory unless that has the new name */
        ck_pool_end_spare(l, &start->spare);
        c->release &= (uint16_t)~CK_HAS_CGROUP;
    }
    for (int i = 0; i < CK_SLOTS; i++)
        ck_close_at(&start->slots[i]);
    if (error >= 0)
        return;
    if (!c->failed.errnum)
        c->failed.errnum = (uint16_t)-error;
    ck_launcher_fail(l, c);
}

void ck_launcher_start(struct ck_launcher *l, const void *plan, size_t size, int *fds, int n_fds)
{
    struct ck_start start = {.launcher = l, .plan_size = size};
    uint32_t at;
    int error = ck_plan_check(plan, size, &start.plan, &at);

    if (!error && (start.plan.header->flags == CK_PLAN_EXEC ||
                   !start.plan.header->namespaces != !!(l->hello.flags & CK_BARE)))
        error = -EINVAL; /* it would run here, in no container, or in none that can be had */
    if (!error && start.plan.header->n_inputs != n_fds - 1)
        error = -EBADF;
    if (!error && ck_wait_for(fds[0], 0, 0) > 0)
        error = -ECHILD; /* its caller has gone while this process was stopped: nothing is begun */
    if (!error && !ck_launcher_is_full(fds[n_fds - 1]))
        start.container = ck_launcher_new(l, fds[0]);
    if (start.container) {
        for (int i = 0; i < CK_SLOTS; i++)
            start.slots[i] = i + 1 < n_fds ? ck_steal_fd(&fds[i + 1]) : -1;
        l->live++;
        start_container(&start);
    } else {
        ck_launcher_refuse(fds[0], at, error ? error : -EMFILE);
    }
    fds[0] = -1;
    if (l->hello.flags & CK_LONE)
        ck_pool_close(l); /* what it has made ahead was for this one */
}

/* A container that has ended: with the same number, group, sources and record. */
void ck_launcher_start_again(struct ck_launcher *l, struct ck_container *c)
{
    const struct ck_again *again = c->life.again;
    struct ck_start start = {
        .launcher = l, .container = c, .plan_size = again->size, .again = true};
    uint32_t at;

    ck_plan_check(again->plan, again->size, &start.plan, &at); /* as it was */
    for (int i = 0; i < CK_SLOTS; i++)
        start.slots[i] = again->inputs[i] > 0 ? ck_dup_above(again->inputs[i], 4) : -1;
    c->status = CK_STARTING;
    c->release &= (uint16_t)~CK_ABOUT_TO_EXEC;
    c->cause = 0;
    c->state.restarts++;
    start_container(&start);
}
