/* ck_launcher_prepare.c - the prepare section of a plan: what is made before there is a child. */
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

    if (!good_name(dir) || c->dir[0])
        return -EINVAL;
    if (!(op->flags & CK_F_CREATE)) {
        snprintf(name, sizeof name, "%s/lock", dir);
        CK_TRY(c->lock = ck_openat(l->store, name, O_CREAT | O_RDWR | O_NOFOLLOW, 0600));
        CK_TRY(ck_flock(c->lock, LOCK_EX | LOCK_NB));
    } else {
        CK_TRY(c->lock = start->spare.ready ? ck_steal_fd(&start->spare.place.lock)
                                            : ck_pool_make_dir(l, c->number));
        error = ck_pool_move_dir(l, c->number, dir, 0);
        if (error < 0) {
            ck_pool_drop_dir(l, c->number);
            return error;
        }
    }
    snprintf(c->dir, sizeof c->dir, "%s", dir);
    return 0;
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

    if (!start->spare.ready) {
        c->release |= CK_HAS_CGROUP;
        CK_TRY(ck_pool_make_cgroup(l, c->number));
    }
    return ck_pool_write_cgroup(l, c->number, triples, n);
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
    CK_CLEANUP_FD int file = -1;
    char path[48];
    struct stat st;

    source_path(path, c, (unsigned)op->fd[0]);
    CK_TRY(ck_fstat(tree, &st));
    if (S_ISDIR(st.st_mode))
        CK_TRY(ck_mkdirat(AT_FDCWD, path, 0700));
    else
        CK_TRY(file = ck_openat(AT_FDCWD, path, O_CREAT | O_EXCL | O_WRONLY, 0600));
    c->sources |= 1ULL << op->fd[0];
    return ck_move_mount(tree, AT_FDCWD, path);
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
    static const char *const keys[] = {"size", "nr_inodes"};
    CK_CLEANUP_FD int fs = ck_fsopen("tmpfs");
    CK_CLEANUP_FD int mount = -1;
    char value[24];

    if (start->upper[0])
        return -EINVAL;
    CK_TRY(fs);
    for (int i = 0; i < 2; i++) {
        snprintf(value, sizeof value, "%llu", (unsigned long long)op->value[i]);
        if (op->value[i])
            CK_TRY(ck_fsconfig_string(fs, keys[i], value));
    }
    CK_TRY(mount = ck_fsmount(&fs, MOUNT_ATTR_NODEV));
    CK_TRY(ck_move_mount(mount, AT_FDCWD, "/up"));
    snprintf(start->upper, sizeof start->upper, "/up");
    return 0;
}

static int do_upper_dir(struct ck_start *start, const struct ck_op *op)
{
    const char *dir = text(start, op, 0);

    if (start->upper[0] || strcmp(dir, start->container->dir) != 0)
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

    CK_TRY(fs);
    for (uint32_t i = 0; i < o->n; i++, lower = ck_plan_next(lower)) {
        CK_TRY(lower_path(start, lower, path));
        CK_TRY(ck_fsconfig_string(fs, "lowerdir+", path));
    }
    if (o->upper[0]) {
        CK_TRY(ck_fsconfig_string(fs, "upperdir", o->upper));
        CK_TRY(ck_fsconfig_string(fs, "workdir", o->work));
    }
    if (o->flags & CK_F_VOLATILE)
        CK_TRY(ck_fsconfig_flag(fs, "volatile"));
    if (o->flags & CK_F_USERXATTR)
        CK_TRY(ck_fsconfig_flag(fs, "userxattr"));
    return ck_fsmount(&fs, o->attrs);
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
#define CK_PREPARE_OP(name, number, phase, slots, arguments, handler) [number] = handler,
#include "ck_ops.h"
};

int ck_launcher_prepare(struct ck_start *start)
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
