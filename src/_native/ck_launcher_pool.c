/* ck_launcher_pool.c - what is made ahead of a start, and cleaned after one, off its path.
 *
 * On cgroup v1 joining a group after a pause costs an RCU grace period of 5 to 7 ms.  So one child
 * is kept cloned, joined and parked; a start only sends it a plan.  A network namespace costs
 * 0.4 ms and 45 us for lo; from the pool it costs one setns.
 */
#include <sys/file.h>

#include "ck_child.h"
#include "ck_launcher.h"

enum { SPARE_NAMESPACES = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS };

/* ---- cgroups: one directory per container and controller, named by the container's number */

int ck_pool_make_cgroup(struct ck_launcher *l, uint32_t number)
{
    char name[16];

    snprintf(name, sizeof name, "%u", number);
    for (int i = 0; i < l->n_controllers; i++) {
        int error = ck_mkdirat(l->controllers[i], name, 0755);
        if (error < 0 && error != -EEXIST) /* of "cpu,cpuacct", the second name */
            return error;
    }
    return 0;
}

/* 0, or -EBUSY when something still lives there: then it is tried again later. */
int ck_pool_drop_cgroup(struct ck_launcher *l, uint32_t number)
{
    char name[16];
    int worst = 0;

    snprintf(name, sizeof name, "%u", number);
    for (int i = 0; i < l->n_controllers; i++) {
        int error = ck_unlinkat(l->controllers[i], name, AT_REMOVEDIR);
        if (error < 0 && error != -ENOENT)
            worst = error;
    }
    return worst;
}

void ck_pool_trash_cgroup(struct ck_launcher *l, uint32_t number)
{
    if (l->trashed == CK_TRASH) /* a long run without a pause: pay for the oldest now */
        ck_pool_drop_cgroup(l, l->trash[--l->trashed]);
    l->trash[l->trashed++] = number;
}

/* A clone in its cgroup of version 2 from birth; those of version 1 it joins itself. */
pid_t ck_pool_clone(struct ck_launcher *l, uint32_t number, uint64_t namespaces, int *pidfd)
{
    struct ck_clone args = {.flags = namespaces, .cgroup = -1};
    CK_CLEANUP_FD int dir = -1;
    char name[16];

    if (l->unified >= 0) {
        snprintf(name, sizeof name, "%u", number);
        args.cgroup = dir = ck_openat(l->controllers[l->unified], name, O_PATH | O_DIRECTORY, 0);
        if (dir < 0)
            return dir;
    }
    return ck_clone(&args, pidfd);
}

/* Run by the child itself: writing "0" moves the writer. */
int ck_pool_join_cgroup(struct ck_launcher *l, uint32_t number)
{
    char name[40];

    snprintf(name, sizeof name, "%u/cgroup.procs", number);
    for (int i = 0; i < l->n_controllers; i++) {
        CK_CLEANUP_FD int fd =
            i == l->unified ? -1 : ck_openat(l->controllers[i], name, O_WRONLY, 0);
        int error = i == l->unified ? 0 : fd < 0 ? fd : (int)ck_write(fd, "0", 1);
        if (error < 0)
            return error;
    }
    return 0;
}

static int controller_dir(const struct ck_launcher *l, const char *name)
{
    if (l->unified >= 0)
        return l->controllers[l->unified];
    for (int i = 0; i < l->n_controllers; i++)
        if (i == l->unified || strcmp(l->hello.controllers[i], name) == 0)
            return l->controllers[i];
    return -ENOENT;
}

int ck_pool_write_cgroup(struct ck_launcher *l, uint32_t number, const char *triples, uint32_t n)
{
    char path[128];

    for (uint32_t i = 0; i + 2 < n; i += 3) {
        const char *controller = triples;
        const char *file = ck_plan_next(controller);
        const char *value = ck_plan_next(file);
        int dir = controller_dir(l, controller);
        CK_CLEANUP_FD int fd = -1;
        int error;

        triples = ck_plan_next(value);
        if (dir < 0)
            return dir;
        if (strchr(file, '/') || strlen(file) > 100)
            return -EINVAL;
        snprintf(path, sizeof path, "%u/%s", number, file);
        fd = ck_openat(dir, path, O_WRONLY | O_NOFOLLOW, 0);
        error = fd < 0 ? fd : ck_write_all(fd, value, strlen(value));
        if (error < 0)
            return error;
    }
    return 0;
}

/* ---- network namespaces */

static int make_netns(struct ck_launcher *l)
{
    int fd, error = ck_unshare(CLONE_NEWNET);

    if (error < 0)
        return error;
    error = ck_loopback_up();
    fd = error < 0 ? error : ck_openat(AT_FDCWD, "/proc/self/ns/net", O_RDONLY, 0);
    error = ck_setns(l->host_net, CLONE_NEWNET);
    if (error < 0) /* can not go on in a container's network */
        ck_exit(1);
    return fd;
}

int ck_pool_netns(struct ck_launcher *l)
{
    return l->pooled ? l->pool[--l->pooled] : make_netns(l);
}

/* ---- the container's directory, made and locked under another name, renamed by the start */

static void ahead_name(const struct ck_launcher *l, uint32_t number, char name[96])
{
    snprintf(name, 96, "containers/.%s-%u", l->hello.id, number);
}

void ck_pool_drop_dir(struct ck_launcher *l, uint32_t number)
{
    char name[96];

    ahead_name(l, number, name);
    strcat(name, "/lock");
    ck_unlinkat(l->store, name, 0);
    *strrchr(name, '/') = 0;
    ck_unlinkat(l->store, name, AT_REMOVEDIR);
}

int ck_pool_make_dir(struct ck_launcher *l, uint32_t number)
{
    CK_CLEANUP_FD int dir = -1;
    CK_CLEANUP_FD int lock = -1;
    char name[96];
    int error;

    ahead_name(l, number, name);
    CK_TRY(ck_mkdirat(l->store, name, 0700));
    dir = ck_openat(l->store, name, O_RDONLY | O_DIRECTORY, 0);
    lock = dir < 0 ? dir : ck_openat(dir, "lock", O_CREAT | O_EXCL | O_RDWR, 0600);
    error = lock < 0 ? lock : ck_flock(lock, LOCK_EX | LOCK_NB);
    if (error >= 0)
        return ck_steal_fd(&lock);
    ck_pool_drop_dir(l, number);
    return error;
}

/* Give the directory the container's name, or take it back. */
int ck_pool_move_dir(struct ck_launcher *l, uint32_t number, const char *dir, int back)
{
    char name[96];

    ahead_name(l, number, name);
    return back ? ck_renameat(l->store, dir, l->store, name)
                : ck_renameat(l->store, name, l->store, dir);
}

/* Keep an ended container's directory and cgroup for the next spare: making and removing them costs
 * more than all else around a short start.  Only a cgroup whose values can all be put back is kept.
 * Returns 1 when they are. */
int ck_pool_keep(struct ck_launcher *l, struct ck_container *c)
{
    const uint16_t must = CK_REL_DIR | CK_REL_CGROUP | CK_HAS_CGROUP;

    if ((c->release & (must | CK_REL_DISK | CK_TUNED)) != must || !c->dir[0] ||
        !(c->flags & CK_PLAN_EPHEMERAL) || l->n_kept == CK_KEPT || l->unified >= 0 ||
        ck_pool_move_dir(l, c->number, c->dir, 1) < 0)
        return 0;
    l->kept[l->n_kept++] = (struct ck_place){c->number, ck_steal_fd(&c->lock), 1};
    return 1;
}

/* Let nothing of the container that was here before show. */
static int clear_place(struct ck_launcher *l, const struct ck_place *place)
{
    static const char defaults[] = "pids\0pids.max\0max\0"
                                   "cpuacct\0cpuacct.usage\0000\0"
                                   "memory\0memory.max_usage_in_bytes\0000\0"
                                   "memory\0memory.failcnt\0000";
    const struct ck_state none = {0};

    CK_TRY(ck_pwrite(place->lock, &none, sizeof none, 0));
    return ck_pool_write_cgroup(l, place->number, defaults, 12);
}

static void drop_place(struct ck_launcher *l, const struct ck_place *place)
{
    ck_close_at(&(int){place->lock});
    ck_pool_drop_dir(l, place->number);
    ck_pool_drop_cgroup(l, place->number);
}

void ck_pool_drop_kept(struct ck_launcher *l)
{
    while (l->n_kept > 0)
        drop_place(l, &l->kept[--l->n_kept]);
}

/* An empty place: a kept one, or a new one.  What can not be made leaves nothing. */
static int find_place(struct ck_launcher *l, struct ck_place *place)
{
    int error;

    while (l->n_kept > 0) {
        *place = l->kept[--l->n_kept];
        if (clear_place(l, place) >= 0)
            return 0;
        drop_place(l, place);
    }
    *place = (struct ck_place){.number = ++l->last_number, .lock = -1};
    error = ck_pool_make_cgroup(l, place->number);
    if (error >= 0)
        error = place->lock = ck_pool_make_dir(l, place->number);
    if (error < 0)
        drop_place(l, place);
    return error;
}

/* ---- the spare child */

/* Hold nothing of the launcher but the socket, as 3, and the directories of the controllers. */
static void keep_little(const struct ck_launcher *l, int socket)
{
    int highest = 3;

    if (ck_dup_to(socket, 3) < 0 || ck_set_cloexec(3) < 0)
        ck_exit(126);
    for (int i = 0; i < l->n_controllers; i++)
        highest = l->controllers[i] > highest ? l->controllers[i] : highest;
    ck_close_range((unsigned)highest + 1, 0);
    for (int fd = 4; fd < highest; fd++) {
        int used = 0;
        for (int i = 0; i < l->n_controllers; i++)
            used |= l->controllers[i] == fd;
        if (!used)
            ck_close(fd);
    }
}

static void join(struct ck_launcher *l, uint32_t number)
{
    if (ck_pool_join_cgroup(l, number) < 0 || ck_unshare(CLONE_NEWCGROUP) < 0)
        ck_exit(126);
    for (int i = 0; i < l->n_controllers; i++)
        ck_close(l->controllers[i]);
}

/* A parked child is sent one byte: join the cgroup; then a plan, behind one byte for each slot that
 * says which of the packet's descriptors it is.  A plan that comes first makes it join too. */
static _Noreturn void serve_as_spare(struct ck_launcher *l, uint32_t number, int socket)
{
    struct ck_child child = {.root = -1, .report = 3};
    int fds[CK_SLOTS], n = 0, joined = 0;
    uint32_t at;
    ssize_t got;

    keep_little(l, socket);
    while ((got = (n = CK_SLOTS, ck_receive(3, l->packet, sizeof l->packet, fds, &n, 1))) == 1) {
        join(l, number);
        joined = 1;
    }
    if (got < CK_SLOTS)
        ck_exit(126);
    if (!joined)
        join(l, number);
    for (int i = 0; i < CK_SLOTS; i++) {
        int index = l->packet[i] - 1; /* 0: empty */
        child.slots[i] = index >= 0 && index < n ? fds[index] : -1;
    }
    if (ck_plan_check(l->packet + CK_SLOTS, (size_t)got - CK_SLOTS, &child.plan, &at) < 0)
        ck_exit(126);
    ck_child_run(&child);
}

static int make_spare(struct ck_launcher *l)
{
    struct ck_spare spare = {.ready = 1, .pidfd = -1};
    int pair[2], error = find_place(l, &spare.place);

    if (error < 0)
        return error;
    error = ck_socketpair(pair);
    if (error >= 0) {
        spare.pid = ck_pool_clone(l, spare.place.number, SPARE_NAMESPACES, &spare.pidfd);
        if (spare.pid == 0)
            serve_as_spare(l, spare.place.number, pair[1]);
        ck_close(pair[1]);
        spare.socket = pair[0];
        error = spare.pid;
        if (error < 0)
            ck_close(pair[0]);
    }
    if (error < 0)
        l->kept[l->n_kept++] = spare.place;
    else
        l->spare = spare;
    return error;
}

/* Kill and reap a child that has not been given a plan, or not entirely. */
void ck_pool_end_spare(struct ck_launcher *l, struct ck_spare *spare)
{
    int code, signal;

    if (!spare->ready)
        return;
    ck_pidfd_kill(spare->pidfd, SIGKILL);
    while (ck_wait_pidfd(spare->pidfd, &code, &signal, NULL) == -EAGAIN)
        ck_wait_readable(spare->pidfd);
    ck_close(spare->pidfd);
    ck_close(spare->socket);
    if (spare->place.lock >= 0) {
        ck_close(spare->place.lock);
        ck_pool_drop_dir(l, spare->place.number);
    }
    ck_pool_trash_cgroup(l, spare->place.number);
    spare->ready = 0;
}

/* ---- work for idle moments, one step at a time so that a request never waits long */

static int wants_spare(const struct ck_launcher *l)
{
    return l->hello.spares && l->features & CK_HAS_SPARE && !l->spare.ready;
}

static int wants_netns(const struct ck_launcher *l)
{
    return l->features & CK_HAS_POOL && l->pooled < l->hello.netns_pool;
}

static int is_low(const struct ck_launcher *l)
{
    return wants_netns(l) && l->pooled < CK_POOL_LOW;
}

/* 2: at once, the next start would have to do it.  A child is cloned while others run; only joining
 * its cgroup waits for them, since a join holds up every fork and exit meanwhile.  1: when nothing
 * else has been going on for a while.  0: nothing. */
int ck_pool_wants_work(const struct ck_launcher *l)
{
    if (wants_spare(l) || (l->live == 0 && (is_low(l) || (l->spare.ready && !l->spare.joined))))
        return l->busy ? 1 : 2;
    return wants_netns(l) || l->trashed || (l->spare.ready && !l->spare.joined);
}

void ck_pool_work(struct ck_launcher *l)
{
    l->busy = 0;
    if (wants_spare(l)) {
        if (make_spare(l) < 0) /* starts clone for themselves from now on */
            l->features &= ~(uint32_t)CK_HAS_SPARE;
    } else if (l->spare.ready && !l->spare.joined) {
        l->spare.joined = 1;
        ck_send(l->spare.socket, "", 1, NULL, 0);
    } else if (l->trashed && !is_low(l)) {
        uint32_t number = l->trash[--l->trashed];
        if (ck_pool_drop_cgroup(l, number) == -EBUSY) {
            l->trash[l->trashed++] = l->trash[0]; /* to the other end: it must not hold up others */
            l->trash[0] = number;
            l->busy = 1;
            l->idle_since = ck_now(CLOCK_MONOTONIC);
        }
    } else if (wants_netns(l)) {
        int fd = make_netns(l);
        if (fd >= 0)
            l->pool[l->pooled++] = fd;
        if (fd < 0 || ck_launcher_is_full(fd))
            l->features &= ~(uint32_t)CK_HAS_POOL;
    }
}
