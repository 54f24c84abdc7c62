/* ck_launcher_pool.c - what is made ahead of a start, and cleaned after one, off its path.
 *
 * On cgroup v1 joining a group after a pause costs an RCU grace period of 5 to 7 ms.  So one child
 * is cloned while others run, joins when they have ended, and waits for a plan.  A network namespace costs
 * 0.4 ms and 45 us for lo; from the pool it costs one setns.
 */
#include <sys/file.h>

#include "ck_launcher.h"
#include "ck_path.h"

/* ---- cgroups: one directory per container and controller, named by the container's number */

/* The path of a container's group below the launcher's, or of a file there.  A lone one's is the
 * launcher's: each group costs the kernel memory, and time as long as it is there.  Not in version
 * 2, where one that hands controllers down has no processes. */
const char *ck_pool_group(const struct ck_launcher *l, uint32_t number, const char *file,
                          char out[128])
{
    char name[16] = ".";

    if (!(l->hello.flags & CK_LONE) || l->unified >= 0)
        snprintf(name, sizeof name, "%u", number);
    snprintf(out, 128, "%s/%s", name, file);
    return out;
}

int ck_pool_make_cgroup(struct ck_launcher *l, uint32_t number)
{
    char name[128];

    for (int i = 0; i < (int)l->hello.n_common; i++) /* of "cpu,cpuacct", the second name exists */
        CK_TRY(ck_make_dir(l->controllers[i], ck_pool_group(l, number, "", name), 0755));
    return 0;
}

/* 0, or -EBUSY when something still lives there: then it is tried again later. */
int ck_pool_drop_cgroup(struct ck_launcher *l, uint32_t number)
{
    char at[128];
    int worst = 0;

    for (int i = 0; i < l->n_controllers; i++) {
        int error = ck_unlinkat(l->controllers[i], ck_pool_group(l, number, "", at), AT_REMOVEDIR);
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

/* A clone with an end of a socket, *socket in both processes.  With the number of a cgroup it is in
 * that of version 2 from birth; those of version 1 it joins itself. */
pid_t ck_pool_clone(struct ck_launcher *l, uint32_t number, uint64_t namespaces, int *pidfd,
                    int *socket)
{
    CK_CLEANUP_FD int dir = -1, theirs = -1;
    char name[128];
    int pair[2], pid;

    if (number && l->unified >= 0)
        CK_TRY(dir = ck_openat(l->controllers[l->unified], ck_pool_group(l, number, "", name),
                               O_PATH | O_DIRECTORY, 0));
    CK_TRY(ck_socketpair(pair));
    *socket = pair[0];
    theirs = pair[1];
    pid = ck_clone(namespaces, dir, pidfd);
    if (pid == 0)
        *socket = ck_steal_fd(&theirs);
    return pid;
}

/* Run by the child itself: writing "0" moves the writer, and one thread does not wait.  Groups that
 * few containers have need not be there. */
int ck_pool_join_cgroup(struct ck_launcher *l, uint32_t number)
{
    char path[128];
    int error;

    ck_pool_group(l, number, "tasks", path);
    for (int i = 0; i < l->n_controllers; i++) {
        error = i == l->unified ? 0 : ck_path_write(l->controllers[i], path, "0");
        if (error != -ENOENT || i < (int)l->hello.n_common)
            CK_TRY(error);
    }
    return 0;
}

int ck_pool_controller(const struct ck_launcher *l, const char *name)
{
    if (l->unified >= 0)
        return l->unified;
    for (int i = 0; i < l->n_controllers; i++)
        if (strcmp(l->hello.controllers[i], name) == 0)
            return i;
    return -ENOENT;
}

/* What is frozen and not thawed would never end: what the host refuses once is tried again. */
int ck_pool_freeze(const struct ck_launcher *l, const char *group, bool frozen)
{
    const int index = ck_pool_controller(l, "freezer"), v2 = l->unified >= 0;
    const char *word = v2 ? (frozen ? "1" : "0") : frozen ? "FROZEN" : "THAWED";
    int error = -EAGAIN;
    char path[64];

    CK_TRY(index);
    snprintf(path, sizeof path, "%s/%s", group, v2 ? "cgroup.freeze" : "freezer.state");
    for (int tries = 0; error < 0 && tries < 4; tries++)
        error = ck_path_write(l->controllers[index], path, word);
    return error;
}

int ck_pool_write_cgroup(struct ck_launcher *l, uint32_t number, const char *triples, uint32_t n)
{
    char path[128];

    for (uint32_t i = 0; i + 2 < n; i += 3) {
        const char *controller = triples, *file = ck_plan_next(controller);
        const char *value = ck_plan_next(file);
        int index = ck_pool_controller(l, controller);

        CK_TRY(index);
        if (strchr(file, '/') || strlen(file) > 100)
            return -EINVAL;
        if (index >= (int)l->hello.n_common)
            CK_TRY(ck_make_dir(l->controllers[index], ck_pool_group(l, number, "", path), 0755));
        CK_TRY(ck_path_write(l->controllers[index], ck_pool_group(l, number, file, path), value));
        triples = ck_plan_next(value);
    }
    return 0;
}

int ck_pool_read_cgroup(const struct ck_launcher *l, uint32_t number, const char *controller,
                        const char *file, char text[512])
{
    const int index = ck_pool_controller(l, controller);
    char path[128];
    ssize_t n;

    CK_TRY(index);
    ck_pool_group(l, number, file, path);
    CK_OPEN(fd, ck_openat(l->controllers[index], path, O_RDONLY, 0));
    CK_TRY(n = ck_read(fd, text, 511));
    text[n] = 0;
    return (int)n;
}

/* ---- network namespaces */

/* Nobody else is in it: all may use any port, and ping (icmp(7)), whoever they are.  A range ends with a
 * group that our user namespace has. */
static int make_usable(void)
{
    static const char *const groups[] = {"0 2147483647", "0 65535", "0 0"};
    int error = -EINVAL;

    ck_path_write(AT_FDCWD, "/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    for (size_t i = 0; error == -EINVAL && i < sizeof groups / sizeof *groups; i++)
        error = ck_path_write(AT_FDCWD, "/proc/sys/net/ipv4/ping_group_range", groups[i]);
    return ck_loopback_up();
}

/* Of the network that we are in. */
int ck_pool_sysfs(void)
{
    const unsigned inert = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV;
    const int mount = ck_new_mount("sysfs", "", 0, inert);

    /* the one around us is read-only, as in most containers */
    return mount == -EPERM ? ck_new_mount("sysfs", "", 0, inert | MOUNT_ATTR_RDONLY) : mount;
}

static _Noreturn void serve_netns(int socket, bool sysfs)
{
    int error = make_usable(), fds[2] = {-1, -1};

    if (error >= 0)
        error = fds[0] = ck_openat(AT_FDCWD, "/proc/self/ns/net", O_RDONLY, 0);
    if (error >= 0 && sysfs)
        error = fds[1] = ck_pool_sysfs();
    ck_send(socket, &error, sizeof error, fds, error < 0 ? 0 : 1 + sysfs);
    ck_exit(0);
}

int ck_pool_netns_apart(struct ck_launcher *l, int *sysfs)
{
    CK_CLEANUP_FD int pidfd = -1, socket = -1;
    int fds[2], n = 2, error = -EPERM;

    pid_t pid = ck_pool_clone(l, 0, CLONE_NEWNET, &pidfd, &socket);

    if (pid == 0)
        serve_netns(socket, sysfs);
    CK_TRY(pid);
    ck_receive(socket, &error, sizeof error, fds, &n, 1);
    ck_kill_and_wait(pidfd);
    if (sysfs && n == 2)
        *sysfs = fds[1];
    return n ? fds[0] : error;
}

static int make_netns(struct ck_launcher *l)
{
    int fd = l->apart ? ck_pool_netns_apart(l, NULL) : ck_unshare(CLONE_NEWNET);

    if (l->apart)
        return fd;
    if (fd >= 0)
        fd = make_usable();
    if (fd >= 0)
        fd = ck_openat(AT_FDCWD, "/proc/self/ns/net", O_RDONLY, 0);
    for (int tries = 0; ck_setns(l->host_net, CLONE_NEWNET) < 0; tries++)
        if (tries == 4) /* can not go on in a container's network */
            ck_exit(1);
    return fd;
}

int ck_pool_netns(struct ck_launcher *l)
{
    return l->pooled ? l->pool[--l->pooled] : make_netns(l);
}

/* ---- the container's directory, made and locked under another name, renamed by the start */

const char *ck_pool_ahead(const struct ck_launcher *l, uint32_t number, char name[96])
{
    snprintf(name, 96, "containers/.%s-%u", l->hello.id, number);
    return name;
}

/* A container's directory that holds nothing but its lock. */
void ck_pool_drop_dir(struct ck_launcher *l, const char *dir)
{
    char lock[128];

    snprintf(lock, sizeof lock, "%s/lock", dir);
    ck_unlinkat(l->store, lock, 0);
    ck_unlinkat(l->store, dir, AT_REMOVEDIR);
}

int ck_pool_lock_dir(struct ck_launcher *l, const char *dir, bool make)
{
    char name[112];

    snprintf(name, sizeof name, "%s/lock", dir);
    CK_TRY(make ? ck_mkdirat(l->store, dir, 0700) : 0);
    CK_OPEN(lock, ck_openat(l->store, name, O_CREAT | O_RDWR | O_NOFOLLOW, 0600));
    CK_TRY(ck_flock(lock, LOCK_EX | LOCK_NB));
    return ck_steal_fd(&lock);
}

/* Keep an ended container's directory and cgroup for the next spare: making and removing them costs
 * more than all else around a short start.  Only a cgroup whose values can all be put back is kept.
 * Returns 1 when they are. */
int ck_pool_keep(struct ck_launcher *l, struct ck_container *c)
{
    const uint16_t must = CK_REL_DIR | CK_HAS_CGROUP;
    char ahead[96];

    if ((c->release & (must | CK_SPOILT)) != must || !c->dir[0] ||
        !(c->flags & CK_PLAN_EPHEMERAL) || l->n_kept == CK_KEPT || l->unified >= 0 ||
        ck_renameat(l->store, c->dir, l->store, ck_pool_ahead(l, c->number, ahead)) < 0)
        return 0;
    l->kept[l->n_kept++] =
        (struct ck_place){c->number, ck_steal_fd(&c->lock), 1, c->release & CK_TUNED};
    return 1;
}

/* The limits that are put back (launch/limits.py), in an order that the kernel takes. */
static const char limits[] = "memory\0memory.memsw.limit_in_bytes\0-1\0"
                             "memory\0memory.limit_in_bytes\0-1\0"
                             "memory\0memory.kmem.tcp.limit_in_bytes\0-1\0"
                             "cpu\0cpu.cfs_quota_us\0-1";

/* Whether more is charged to the group of a place than its next container's limit may bear: pages
 * that outlived the last one, such as those of a tmpfs of the host. */
bool ck_pool_is_charged(const struct ck_launcher *l, const struct ck_place *place)
{
    char text[512];

    return place->used &&
           (ck_pool_read_cgroup(l, place->number, "memory", "memory.usage_in_bytes", text) < 0 ||
            strlen(text) > 7); /* with its end of line, 1 MB and more */
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
    if (place->tuned)
        CK_TRY(ck_pool_write_cgroup(l, place->number, limits, 12));
    return ck_pool_write_cgroup(l, place->number, defaults, 12);
}

static void drop_place(struct ck_launcher *l, const struct ck_place *place)
{
    char ahead[96];

    ck_close_at(&(int){place->lock});
    ck_pool_drop_dir(l, ck_pool_ahead(l, place->number, ahead));
    ck_pool_trash_cgroup(l, place->number);
}

/* An empty place: a kept one, or a new one. */
static int find_place(struct ck_launcher *l, struct ck_place *place)
{
    char ahead[96];

    while (l->n_kept > 0) {
        *place = l->kept[--l->n_kept];
        if (clear_place(l, place) >= 0)
            return 0;
        drop_place(l, place);
    }
    *place = (struct ck_place){.number = ++l->last_number, .lock = -1};
    CK_TRY(ck_pool_make_cgroup(l, place->number));
    if (l->hello.flags & CK_LONE) /* what it runs has a directory */
        return 0;
    return place->lock = ck_pool_lock_dir(l, ck_pool_ahead(l, place->number, ahead), true);
}

/* ---- the spare child */

/* A parked child holds nothing of the launcher but its socket, as 3, and the directories of the
 * controllers, which HELLO has put behind the owner's.  It is sent one byte: join the cgroup; then a
 * plan, with a descriptor for each slot up to the last that is filled. */
static void park(struct ck_launcher *l)
{
    int n = 0;

    if (ck_dup_to(l->spare.socket, CK_CONTROL_FD) < 0 || ck_set_cloexec(CK_CONTROL_FD) < 0)
        ck_exit(126);
    if (ck_close_range(CK_CONTROL_FD + 1, (unsigned)l->run, 0) < 0 ||
        ck_close_range((unsigned)(l->run + l->n_controllers + 1), ~0U, 0) < 0)
        ck_exit(126);
    if (ck_own_make(l) < 0 || ck_receive(CK_CONTROL_FD, l->packet, 1, NULL, &n, 1) != 1 ||
        ck_pool_join_cgroup(l, l->spare.place.number) < 0 || ck_unshare(CLONE_NEWCGROUP) < 0 ||
        ck_own_show_groups(l, l->spare.place.number) < 0 ||
        ck_close_range(CK_CONTROL_FD + 1, ~0U, 0) < 0)
        ck_exit(126);
}

static _Noreturn void serve_as_spare(struct ck_launcher *l)
{
    struct ck_child child = {
        .root = -1, .last = -1, .report = CK_CONTROL_FD, .memory = l, .memory_size = sizeof *l};
    int fds[CK_SLOTS], n = CK_SLOTS;
    uint32_t at;
    ssize_t got;

    park(l);
    got = ck_receive(CK_CONTROL_FD, l->packet, sizeof l->packet, fds, &n, 1);
    if (got < 0 || ck_plan_check(l->packet, (size_t)got, &child.plan, &at) < 0)
        ck_exit(126);
    for (int i = 0; i < CK_SLOTS; i++)
        child.slots[i] = i < n ? fds[i] : -1;
    ck_child_run(&child);
}

/* What a failure leaves half made, ck_pool_end_spare ends. */
static int make_spare(struct ck_launcher *l)
{
    struct ck_spare *spare = &l->spare;

    *spare = (struct ck_spare){.ready = 1, .pidfd = -1, .socket = -1};
    CK_TRY(find_place(l, &spare->place));
    spare->pid =
        ck_pool_clone(l, spare->place.number, CK_SPARE_NAMESPACES, &spare->pidfd, &spare->socket);
    if (spare->pid == 0)
        serve_as_spare(l);
    return spare->pid;
}

/* Kill and reap a child that has not been given a plan, or not entirely. */
void ck_pool_end_spare(struct ck_launcher *l, struct ck_spare *spare)
{
    if (!spare->ready)
        return;
    if (spare->pidfd >= 0)
        ck_kill_and_wait(spare->pidfd);
    ck_close_at(&spare->pidfd);
    ck_close_at(&spare->socket);
    drop_place(l, &spare->place); /* the directory unless it has a container's name by now */
    spare->ready = 0;
}

/* Nothing is made ahead any more, and what is left of it goes. */
void ck_pool_close(struct ck_launcher *l)
{
    l->hello.flags &= ~(uint32_t)CK_SPARES;
    l->hello.netns_pool = 0;
    ck_pool_end_spare(l, &l->spare);
    while (l->n_kept)
        drop_place(l, &l->kept[--l->n_kept]);
    while (l->pooled)
        ck_close(l->pool[--l->pooled]);
}

/* ---- work for idle moments, one step at a time so that a request never waits long */

static int wants_spare(const struct ck_launcher *l)
{
    return l->hello.flags & CK_SPARES && !l->spare.ready;
}

/* 2: urgently. */
static int wants_netns(const struct ck_launcher *l)
{
    if (l->pooled >= l->hello.netns_pool)
        return 0;
    return l->pooled < CK_POOL_LOW ? 2 : 1;
}

/* 2: at once, the next start would have to do it.  A child is cloned while others run; only joining
 * its cgroup waits for them, since a join holds up every fork and exit meanwhile.  1: when nothing
 * else has been going on for a while.  0: nothing. */
int ck_pool_wants_work(const struct ck_launcher *l)
{
    if (wants_spare(l) ||
        (l->live == 0 && (wants_netns(l) == 2 || (l->spare.ready && !l->spare.joined))))
        return l->busy ? 1 : 2;
    return wants_netns(l) || l->trashed || (l->spare.ready && !l->spare.joined);
}

void ck_pool_work(struct ck_launcher *l)
{
    l->busy = 0;
    if (wants_spare(l)) {
        if (make_spare(l) < 0) { /* starts clone for themselves from now on */
            ck_pool_end_spare(l, &l->spare);
            l->hello.flags &= ~(uint32_t)CK_SPARES;
        }
    } else if (l->spare.ready && !l->spare.joined) {
        l->spare.joined = 1;
        ck_send(l->spare.socket, "", 1, NULL, 0);
    } else if (l->trashed && wants_netns(l) < 2) {
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
            l->hello.netns_pool = 0;
    }
}
