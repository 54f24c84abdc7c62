/* ck_launcher_start.c - from a START packet to a child with a plan: the prepare section. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ck_child.h"
#include "ck_launcher.h"
#include "ck_sys.h"
#include "ck_sys_ns.h"

typedef int prepare_handler(struct ck_start *start, const struct ck_op *op);

static const char *text(const struct ck_start *start, const struct ck_op *op, int i)
{
    return ck_plan_text(&start->plan, op->arena[i]);
}

/* A name below the store, as plans may give it: relative, and never upwards. */
static int good_name(const char *name)
{
    return *name && *name != '/' && strlen(name) < 90 && !strstr(name, "..");
}

static int fill_slot(struct ck_start *start, int16_t slot, int fd)
{
    if (fd >= 0 && slot >= 0)
        start->slots[slot] = fd;
    else if (fd >= 0)
        ck_close(fd);
    return fd < 0 ? fd : 0;
}

/* ---- the container's directory and lock */

static int do_lock(struct ck_start *start, const struct ck_op *op)
{
    struct ck_launcher *l = start->launcher;
    struct ck_container *c = start->container;
    const char *dir = text(start, op, 0);
    char name[96];
    int error;

    if (!good_name(dir))
        return -EINVAL;
    if (!(op->flags & CK_F_CREATE)) {
        snprintf(name, sizeof name, "%s/lock", dir);
        c->lock = ck_openat(l->store, name, O_CREAT | O_RDWR | O_NOFOLLOW, 0600);
        error = c->lock < 0 ? c->lock : ck_flock(c->lock, LOCK_EX | LOCK_NB);
    } else {
        c->lock = start->spare.ready ? ck_steal_fd(&start->spare.place.lock)
                                     : ck_pool_make_dir(l, c->number);
        error = c->lock < 0 ? c->lock : ck_pool_move_dir(l, c->number, dir, 0);
    }
    if (error >= 0)
        snprintf(c->dir, sizeof c->dir, "%s", dir);
    return error < 0 ? error : 0;
}

static uint32_t checksum(const void *data, size_t len)
{
    const unsigned char *at = data;
    uint32_t hash = 2166136261U;

    while (len-- > 0)
        hash = (hash ^ *at++) * 16777619U;
    return hash;
}

/* One write of less than a page into the locked file: readers check its checksum. */
int ck_launcher_write_state(struct ck_container *c)
{
    c->state.checksum = checksum(&c->state, offsetof(struct ck_state, checksum));
    return (int)ck_pwrite(c->lock, &c->state, sizeof c->state, 0);
}

static int do_state(struct ck_start *start, const struct ck_op *op)
{
    struct ck_launcher *l = start->launcher;
    struct ck_container *c = start->container;

    (void)op;
    if (!c->dir[0])
        return -EINVAL;
    c->state = (struct ck_state){.magic = CK_WIRE_MAGIC, .version = CK_WIRE_VERSION, .status = 1};
    memcpy(c->state.launcher, l->hello.id, sizeof c->state.launcher);
    c->state.started_ns = ck_now(CLOCK_REALTIME);
    return ck_launcher_write_state(c);
}

/* ---- cgroup, network */

static int do_cgroup(struct ck_start *start, const struct ck_op *op)
{
    struct ck_launcher *l = start->launcher;
    struct ck_container *c = start->container;
    uint32_t n;
    const char *triples = ck_plan_list(&start->plan, op->arena[0], &n);
    int error;

    if (!start->spare.ready) {
        c->release |= CK_HAS_CGROUP;
        error = ck_pool_make_cgroup(l, c->number);
        if (error < 0)
            return error;
    }
    c->release |= CK_HAS_CGROUP;
    return n ? ck_pool_write_cgroup(l, c->number, triples, n) : 0;
}

static int do_netns(struct ck_start *start, const struct ck_op *op)
{
    if (op->value[0] == CK_NETNS_HOST)
        return 0;
    return fill_slot(start, op->fd[0], ck_pool_netns(start->launcher));
}

static int do_id_map(struct ck_start *start, const struct ck_op *op)
{
    start->uid_map = text(start, op, 0);
    start->gid_map = text(start, op, 1);
    return 0;
}

/* ---- sources: trees of the host, attached here so that they can be cloned again and again */

static void source_path(char out[48], const struct ck_container *c, unsigned slot)
{
    snprintf(out, 48, "/src/%u-%u", c->number, slot);
}

static int do_source(struct ck_start *start, const struct ck_op *op)
{
    struct ck_container *c = start->container;
    int tree = start->slots[op->fd[0]];
    char path[48];
    struct stat st;
    int error = ck_fstat(tree, &st);

    source_path(path, c, (unsigned)op->fd[0]);
    if (error >= 0 && S_ISDIR(st.st_mode)) {
        error = ck_mkdirat(AT_FDCWD, path, 0700);
    } else if (error >= 0) {
        CK_CLEANUP_FD int file = ck_openat(AT_FDCWD, path, O_CREAT | O_EXCL | O_WRONLY, 0600);
        error = file < 0 ? file : 0;
    }
    if (error >= 0) {
        c->sources |= 1ULL << op->fd[0];
        error = ck_move_mount(tree, AT_FDCWD, path);
    }
    return error;
}

static int do_clone(struct ck_start *start, const struct ck_op *op)
{
    unsigned deep = op->flags & CK_F_RECURSIVE ? AT_RECURSIVE : 0;
    char path[48];
    int tree, error;

    source_path(path, start->container, (unsigned)op->fd[0]);
    tree = ck_open_tree(AT_FDCWD, path, deep);
    if (tree < 0 || !op->value[0])
        return fill_slot(start, op->fd[1], tree);
    error = ck_mount_set(tree, op->value[0], deep);
    return error < 0 ? (ck_close(tree), error) : fill_slot(start, op->fd[1], tree);
}

/* ---- overlays */

static int do_upper_tmpfs(struct ck_start *start, const struct ck_op *op)
{
    CK_CLEANUP_FD int fs = ck_fsopen("tmpfs");
    CK_CLEANUP_FD int mount = -1;
    char value[24];
    int error = fs;

    snprintf(value, sizeof value, "%llu", (unsigned long long)op->value[0]);
    if (error >= 0 && op->value[0])
        error = ck_fsconfig_string(fs, "size", value);
    snprintf(value, sizeof value, "%llu", (unsigned long long)op->value[1]);
    if (error >= 0 && op->value[1])
        error = ck_fsconfig_string(fs, "nr_inodes", value);
    if (error < 0)
        return error;
    mount = ck_fsmount(&fs, MOUNT_ATTR_NODEV);
    error = mount < 0 ? mount : ck_move_mount(mount, AT_FDCWD, "/up");
    if (error >= 0)
        snprintf(start->upper, sizeof start->upper, "/up");
    return error;
}

static int do_upper_dir(struct ck_start *start, const struct ck_op *op)
{
    const char *dir = text(start, op, 0);

    if (!good_name(dir))
        return -EINVAL;
    start->container->release |= CK_REL_DISK;
    snprintf(start->upper, sizeof start->upper, "/store/%s", dir);
    return 0;
}

static int make_dir(const char *path, mode_t mode)
{
    int error = ck_mkdirat(AT_FDCWD, path, mode);

    return error == -EEXIST ? 0 : error;
}

/* The upper's root stands for the merged root: it takes mode and owner of the topmost lower. */
static int make_upper(const struct ck_start *start, const char *name, const char *top,
                      char upper[256], char work[256])
{
    struct stat st;
    int error = ck_fstatat(AT_FDCWD, top, &st, 0);

    for (int i = 0; !error && i < 2; i++) {
        char *out = i == 0 ? upper : work;
        snprintf(out, 256, "%s/%s", start->upper, i == 0 ? "upper" : "work");
        error = make_dir(out, 0700);
        snprintf(out, 256, "%s/%s/%s", start->upper, i == 0 ? "upper" : "work", name);
        if (!error)
            error = make_dir(out, i == 0 ? st.st_mode & 07777 : 0700);
    }
    if (!error && (st.st_uid || st.st_gid))
        error = ck_fchownat(AT_FDCWD, upper, st.st_uid, st.st_gid, 0);
    if (!error && st.st_mode & 07000)
        error = ck_fchmodat(AT_FDCWD, upper, st.st_mode & 07777);
    return error;
}

static int lower_path(const struct ck_start *start, const char *lower, char out[256])
{
    unsigned slot;

    if (lower[0] == '@') {
        if (sscanf(lower, "@%u", &slot) != 1 || slot >= CK_SLOTS ||
            !(start->container->sources >> slot & 1))
            return -EINVAL;
        source_path(out, start->container, slot);
        return 0;
    }
    if (!good_name(lower))
        return -EINVAL;
    snprintf(out, 256, "/store/%s", lower);
    return 0;
}

struct overlay {
    const char *lowers;
    uint32_t n;
    char upper[256], work[256]; /* "" without an upper */
    unsigned flags, attrs;
};

/* Linux 6.5 and later: every lower by itself, however many there are. */
static int append_overlay(const struct ck_start *start, const struct overlay *o)
{
    CK_CLEANUP_FD int fs = ck_fsopen("overlay");
    const char *lower = o->lowers;
    char path[256];
    int error = fs < 0 ? fs : 0;

    for (uint32_t i = 0; error >= 0 && i < o->n; i++, lower = ck_plan_next(lower)) {
        error = lower_path(start, lower, path);
        if (error >= 0)
            error = ck_fsconfig_string(fs, "lowerdir+", path);
    }
    if (error >= 0 && o->upper[0])
        error = ck_fsconfig_string(fs, "upperdir", o->upper);
    if (error >= 0 && o->upper[0])
        error = ck_fsconfig_string(fs, "workdir", o->work);
    if (error >= 0 && o->flags & CK_F_VOLATILE)
        error = ck_fsconfig_flag(fs, "volatile");
    if (error >= 0 && o->flags & CK_F_USERXATTR)
        error = ck_fsconfig_flag(fs, "userxattr");
    return error < 0 ? error : ck_fsmount(&fs, o->attrs);
}

/* Before: one string of at most a page.  Links with short names, in a directory of their own, let
 * 127 layers fit; relative names are looked up from there. */
static int classic_overlay(const struct ck_start *start, const struct overlay *o)
{
    char options[4096], path[256], name[16];
    const char *lower = o->lowers;
    size_t at = (size_t)snprintf(options, sizeof options, "lowerdir=");
    int error = ck_chdir("/l");

    for (uint32_t i = 0; error >= 0 && i < o->n; i++, lower = ck_plan_next(lower)) {
        error = lower_path(start, lower, path);
        snprintf(name, sizeof name, "%u", i);
        if (error >= 0)
            error = ck_symlinkat(path, AT_FDCWD, name);
        if (at + 600 > sizeof options)
            error = -E2BIG;
        else
            at += (size_t)snprintf(options + at, 16, "%s%s", i ? ":" : "", name);
    }
    if (o->upper[0])
        at += (size_t)snprintf(options + at, 560, ",upperdir=%s,workdir=%s", o->upper, o->work);
    snprintf(options + at, sizeof options - at, "%s%s", o->flags & CK_F_VOLATILE ? ",volatile" : "",
             o->flags & CK_F_USERXATTR ? ",userxattr" : "");
    if (error >= 0) /* MOUNT_ATTR_RDONLY … NOEXEC and MS_RDONLY … MS_NOEXEC are the same bits */
        error = ck_mount_overlay("/mnt", o->attrs, options);
    for (uint32_t i = 0; i < o->n; i++) {
        snprintf(name, sizeof name, "%u", i);
        ck_unlinkat(AT_FDCWD, name, 0);
    }
    ck_chdir("/");
    if (error < 0)
        return error;
    error = ck_open_tree(AT_FDCWD, "/mnt", 0);
    ck_umount("/mnt");
    return error;
}

static int do_overlay(struct ck_start *start, const struct ck_op *op)
{
    struct overlay o = {.flags = op->flags, .attrs = (unsigned)op->value[0]};
    const char *name = text(start, op, 1);
    char top[256];
    int error;

    o.lowers = ck_plan_list(&start->plan, op->arena[0], &o.n);
    if (!o.n || (name && (!start->upper[0] || strchr(name, '/') || strlen(name) > 64)))
        return -EINVAL;
    error = lower_path(start, o.lowers, top);
    if (error >= 0 && name)
        error = make_upper(start, name, top, o.upper, o.work);
    if (error < 0)
        return error;
    if (start->launcher->features & CK_HAS_OVERLAY_APPEND)
        return fill_slot(start, op->fd[0], append_overlay(start, &o));
    return fill_slot(start, op->fd[0], classic_overlay(start, &o));
}

/* A file of the container's own that can be mounted on a path; it lives beside the upper, so that
 * what is written to it counts there. */
static int do_file(struct ck_start *start, const struct ck_op *op)
{
    uint32_t length;
    const void *bytes = ck_plan_bytes(&start->plan, op->arena[0], &length);
    CK_CLEANUP_FD int file = -1;
    char path[160];
    int error, tree;

    if (!start->upper[0])
        return -EINVAL;
    snprintf(path, sizeof path, "%s/files", start->upper);
    error = make_dir(path, 0700);
    snprintf(path, sizeof path, "%s/files/%u", start->upper, start->files++);
    if (error < 0)
        return error;
    file = ck_openat(AT_FDCWD, path, O_CREAT | O_TRUNC | O_WRONLY | O_NOFOLLOW, 0600);
    error = file < 0 ? file : ck_write_all(file, bytes, length);
    if (error >= 0)
        error = ck_fchmod(file, (mode_t)op->value[0] & 07777);
    if (error < 0)
        return error;
    tree = ck_open_tree(AT_FDCWD, path, 0);
    if (tree >= 0)
        error = ck_mount_set(tree, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, 0);
    return error < 0 ? (ck_close(tree), error) : fill_slot(start, op->fd[0], tree);
}

static prepare_handler *const handlers[CK_OP_JOIN_NET] = {
    [CK_OP_LOCK] = do_lock,           [CK_OP_CGROUP] = do_cgroup,
    [CK_OP_NETNS] = do_netns,         [CK_OP_SOURCE] = do_source,
    [CK_OP_CLONE] = do_clone,         [CK_OP_UPPER_TMPFS] = do_upper_tmpfs,
    [CK_OP_UPPER_DIR] = do_upper_dir, [CK_OP_OVERLAY] = do_overlay,
    [CK_OP_FILE] = do_file,           [CK_OP_ID_MAP] = do_id_map,
    [CK_OP_STATE] = do_state,
};

static int prepare(struct ck_start *start)
{
    const struct ck_op *ops = start->plan.ops[CK_PREPARE];
    int n = start->plan.header->n_ops[CK_PREPARE], error = 0;

    for (int i = 0; error >= 0 && i < n; i++) {
        error = handlers[ops[i].code](start, &ops[i]);
        if (error < 0 && ops[i].flags & CK_F_OPTIONAL)
            error = 0;
        if (error < 0)
            start->container->failed =
                (struct ck_report){CK_PREPARE, (uint16_t)i, ops[i].code, (uint16_t)-error, 0};
    }
    return error;
}

/* ---- the child */

static int send_to_spare(struct ck_start *start)
{
    struct ck_launcher *l = start->launcher;
    char *out = l->packet; /* the request was copied out or is larger than this: see below */
    int fds[CK_SLOTS], n = 0;
    ssize_t sent;

    memmove(out + CK_SLOTS, start->plan.header, start->plan_size);
    for (int i = 0; i < CK_SLOTS; i++) {
        out[i] = 0;
        if (start->slots[i] >= 0) {
            fds[n++] = start->slots[i];
            out[i] = (char)n;
        }
    }
    sent = ck_send(start->spare.socket, out, CK_SLOTS + start->plan_size, fds, n);
    return sent < 0 ? (int)sent : 0;
}

static _Noreturn void run_clone(struct ck_start *start, int socket)
{
    struct ck_child child = {.plan = start->plan, .root = -1, .report = socket};
    char go;

    memcpy(child.slots, start->slots, sizeof child.slots);
    if (start->uid_map && ck_read(socket, &go, 1) != 1) /* until the maps are written */
        ck_exit(126);
    if (start->container->release & CK_HAS_CGROUP &&
        ck_pool_join_cgroup(start->launcher, start->container->number) < 0)
        ck_exit(126);
    if (ck_unshare(CLONE_NEWCGROUP) < 0)
        ck_exit(126);
    ck_child_run(&child);
}

static int write_id_maps(const struct ck_start *start, pid_t pid)
{
    const char *const names[] = {"uid_map", "gid_map"};
    const char *const maps[] = {start->uid_map, start->gid_map};
    char path[48];

    for (int i = 0; i < 2; i++) {
        CK_CLEANUP_FD int fd = -1;
        int error;
        snprintf(path, sizeof path, "/proc/%d/%s", pid, names[i]);
        fd = ck_openat(AT_FDCWD, path, O_WRONLY, 0);
        error = fd < 0 ? fd : ck_write_all(fd, maps[i], strlen(maps[i]));
        if (error < 0)
            return error;
    }
    return 0;
}

/* No spare, or one of another kind than the plan wants: clone for this start alone. */
static int clone_child(struct ck_start *start)
{
    struct ck_launcher *l = start->launcher;
    struct ck_container *c = start->container;
    uint64_t namespaces = start->plan.header->namespaces & ~(uint64_t)CLONE_NEWCGROUP;
    int pair[2], error = ck_socketpair(pair);

    if (error < 0)
        return error;
    if (c->release & CK_HAS_CGROUP)
        c->pid = ck_pool_clone(l, c->number, namespaces, &c->pidfd);
    else
        c->pid = ck_clone(&(struct ck_clone){.flags = namespaces, .cgroup = -1}, &c->pidfd);
    if (c->pid == 0)
        run_clone(start, pair[1]);
    ck_close(pair[1]);
    c->report = pair[0];
    if (c->pid < 0)
        return c->pid;
    error = start->uid_map ? write_id_maps(start, c->pid) : 0;
    if (!error && start->uid_map)
        error = (int)ck_write(c->report, "g", 1);
    return error < 0 ? error : 0;
}

static int give_to_child(struct ck_start *start)
{
    struct ck_container *c = start->container;
    int error;

    if (start->spare.ready) {
        error = send_to_spare(start);
        c->pid = start->spare.pid;
        c->pidfd = start->spare.pidfd;
        c->report = start->spare.socket;
        start->spare.ready = 0;
    } else {
        error = clone_child(start);
    }
    if (error < 0)
        c->failed = (struct ck_report){CK_CHILD, 0, 0, (uint16_t)-error, 0};
    return error;
}

/* ---- the request */

static struct ck_container *new_container(struct ck_launcher *l)
{
    for (uint32_t i = 0; i < CK_CONTAINERS; i++) {
        struct ck_container *c = &l->containers[i];
        uint32_t generation = c->generation + 1;
        if (c->status != CK_FREE)
            continue;
        memset(c, 0, sizeof *c);
        c->generation = generation;
        c->status = CK_STARTING;
        c->pidfd = c->lock = c->report = c->channel = -1;
        l->live++;
        return c;
    }
    return NULL;
}

static int spare_fits(const struct ck_start *start)
{
    const uint64_t kind =
        CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;

    /* what an earlier container left charged to a cgroup must not count against a limit */
    if (start->container->release & CK_TUNED && start->launcher->spare.place.used)
        return 0;
    return start->plan.header->namespaces == kind && start->plan_size <= CK_PLAN_INLINE;
}

/* What a plan asks for that outlives it here: its undo list, and what its limits leave behind. */
static uint16_t release_bits(const struct ck_plan *plan)
{
    uint16_t bits = 0;
    uint32_t n;

    for (int i = 0; i < plan->header->n_ops[CK_PREPARE]; i++) {
        const struct ck_op *op = &plan->ops[CK_PREPARE][i];
        const char *item = op->code == CK_OP_CGROUP ? ck_plan_list(plan, op->arena[0], &n) : NULL;
        for (uint32_t j = 0; item && j < n; j++, item = ck_plan_next(item)) {
            if (j % 3 == 0 && strcmp(item, "memory") == 0)
                bits |= CK_MEMORY;
            if (j % 3 == 1 && strcmp(item, "pids.max") != 0)
                bits |= CK_TUNED;
        }
    }

    for (int i = 0; i < plan->header->n_ops[CK_RELEASE]; i++) {
        uint16_t code = plan->ops[CK_RELEASE][i].code;
        bits |= code == CK_OP_DROP_CGROUP    ? CK_REL_CGROUP
                : code == CK_OP_DROP_SOURCES ? CK_REL_SOURCES
                                             : CK_REL_DIR;
    }
    return bits;
}

static void close_slots(const struct ck_start *start)
{
    for (int i = 0; i < CK_SLOTS; i++)
        ck_close_at((int *)(uintptr_t)&start->slots[i]);
}

static void start_container(struct ck_start *start)
{
    struct ck_launcher *l = start->launcher;
    struct ck_container *c = start->container;
    int error;

    c->flags = start->plan.header->flags;
    c->release = release_bits(&start->plan);
    if (l->spare.ready && spare_fits(start))
        ck_pool_take_spare(l, &start->spare);
    c->number = start->spare.ready ? start->spare.place.number : ++l->last_number;
    error = prepare(start);
    if (error >= 0)
        error = give_to_child(start);
    if (strcmp(start->upper, "/up") == 0) /* while the child works: its overlays hold it by now, */
        ck_umount("/up");                 /* and with the last of them it is gone */
    ck_pool_end_spare(l, &start->spare);
    if (error >= 0)
        error = ck_launcher_watch(l, c, c->pidfd, CK_WATCH_PIDFD);
    if (error >= 0)
        error = ck_launcher_watch(l, c, c->report, CK_WATCH_REPORT);
    if (error >= 0)
        error = ck_launcher_watch(l, c, c->channel, CK_WATCH_CHANNEL);
    if (error < 0 && !c->failed.errnum)
        c->failed.errnum = (uint16_t)-error;
    if (error < 0)
        ck_launcher_fail(l, c);
}

void ck_launcher_start(struct ck_launcher *l, const void *plan, size_t size, int *fds, int n_fds)
{
    struct ck_start start = {.launcher = l, .plan_size = size};
    struct ck_container nobody = {.pidfd = -1, .channel = fds[0]};
    uint32_t at = 0xffff0000;
    int error = plan ? ck_plan_check(plan, size, &start.plan, &at) : -EINVAL;

    for (int i = 0; i < CK_SLOTS; i++)
        start.slots[i] = i + 1 < n_fds ? fds[i + 1] : -1;
    if (!error && start.plan.header->n_inputs != n_fds - 1)
        error = -EBADF;
    if (!error) {
        start.container = new_container(l);
        error = start.container ? 0 : -EAGAIN;
    }
    if (error) {
        struct ck_event event = {
            .report = {(uint16_t)(at >> 16), (uint16_t)at, 0, (uint16_t)-error, 0}};
        ck_launcher_tell(&nobody, CK_FAILED, &event, -1);
        ck_close(nobody.channel);
    } else {
        start.container->channel = fds[0];
        start_container(&start);
    }
    close_slots(&start);
}
