/* ck_launcher_prepare.c - the prepare section of a plan: what is made before there is a child. */
#include <sys/file.h>

#include "ck_launcher.h"
#include "ck_path.h"

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
    CK_TRY(fd);
    if (slot < 0)
        return ck_close(fd);
    start->slots[slot] = fd;
    return 0;
}

/* ---- the container's directory and lock */

static int do_lock(struct ck_start *start, const struct ck_op *op)
{
    struct ck_launcher *l = start->launcher;
    struct ck_container *c = start->container;
    const char *dir = text(start, op, 0);
    char ahead[96];
    int error = 0;

    if (start->again)
        return 0;
    if (!good_name(dir) || c->dir[0])
        return -EINVAL;
    ck_pool_ahead(l, c->number, ahead);
    if (start->spare.ready)
        c->lock = ck_steal_fd(&start->spare.place.lock);
    if (!(op->flags & CK_F_CREATE)) { /* the parked child's own is not wanted */
        ck_close_at(&c->lock);
        ck_pool_drop_dir(l, ahead);
        CK_TRY(c->lock = ck_pool_lock_dir(l, dir, false));
    } else {
        if (c->lock < 0)
            error = c->lock = ck_pool_lock_dir(l, ahead, true);
        if (error >= 0)
            error = ck_renameat(l->store, ahead, l->store, dir);
        if (error < 0)
            ck_pool_drop_dir(l, ahead);
        CK_TRY(error);
        c->release |= CK_REL_DIR;
    }
    snprintf(c->dir, sizeof c->dir, "%s", dir);
    return 0;
}

/* Adler-32 (RFC 1950), which every zlib has. */
static uint32_t checksum(const void *data, size_t len)
{
    const unsigned char *at = data;
    uint32_t a = 1, b = 0;

    while (len-- > 0) {
        a = (a + *at++) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

/* One write of less than a page into the locked file: readers check its checksum. */
int ck_launcher_write_state(struct ck_container *c)
{
    c->state.checksum = checksum(&c->state, offsetof(struct ck_state, checksum));
    return (int)ck_pwrite(c->lock, &c->state, sizeof c->state, 0);
}

/* A kept one's record says how it was until it runs: here is only made sure that there is room. */
static int do_state(struct ck_start *start, const struct ck_op *op)
{
    static const struct ck_state none;
    struct ck_container *c = start->container;
    struct ck_state *state = &c->state;
    struct stat st;

    if (!c->dir[0])
        return -EINVAL;
    *state = (struct ck_state){.magic = CK_WIRE_MAGIC,
                               .version = CK_WIRE_VERSION,
                               .status = CK_STATE_RUNNING,
                               .started_ns = ck_now(CLOCK_REALTIME),
                               .restarts = state->restarts,
                               .flags = state->flags,
                               .group = c->number,
                               .dropped = state->dropped};
    memcpy(state->launcher, start->launcher->hello.id, sizeof state->launcher);
    if (c->flags == CK_PLAN_EPHEMERAL)
        return ck_launcher_write_state(c);
    CK_TRY(ck_fstat(c->lock, &st));
    return st.st_size ? 0 : (int)ck_pwrite(c->lock, &none, sizeof none, 0);
}

/* ---- cgroup, network */

static int do_cgroup(struct ck_start *start, const struct ck_op *op)
{
    struct ck_launcher *l = start->launcher;
    struct ck_container *c = start->container;
    uint32_t n;
    const char *triples = ck_plan_list(&start->plan, op->arena[0], &n);

    if (start->again)
        return 0; /* with what limits were changed to since */
    if (!start->spare.ready) {
        c->release |= CK_HAS_CGROUP;
        CK_TRY(ck_pool_make_cgroup(l, c->number));
    }
    return ck_pool_write_cgroup(l, c->number, triples, n);
}

static int do_devices(struct ck_start *start, const struct ck_op *op)
{
    const struct ck_launcher *l = start->launcher;
    uint32_t length;
    const void *program = ck_plan_list(&start->plan, op->arena[0], &length);
    char path[128];

    if (start->again)
        return 0;
    if (l->unified < 0)
        return -EINVAL;
    CK_OPEN(group, ck_openat(l->controllers[l->unified],
                             ck_pool_group(l, start->container->number, "", path), O_DIRECTORY, 0));
    return ck_limit_devices(group, program, length);
}

static int do_netns(struct ck_start *start, const struct ck_op *op)
{
    if (op->value[0] == CK_NETNS_HOST)
        start->container->release |= CK_HOST_NET;
    if (op->value[0] == CK_NETNS_HOST || start->again)
        return 0;
    start->again_too |= op->fd[0] < 0 ? 0 : 1ULL << op->fd[0];
    return fill_slot(start, op->fd[0], ck_pool_netns(start->launcher));
}

/* ---- sources: trees of the host, attached here so that they can be cloned again and again */

void ck_source_path(char out[48], const struct ck_container *c, unsigned slot)
{
    snprintf(out, 48, "/src/%u-%u", c->number, slot);
}

static int attach(struct ck_container *c, int16_t slot, int tree)
{
    char path[48];
    struct stat st;
    int error;

    ck_source_path(path, c, (unsigned)slot);
    CK_TRY(ck_fstat(tree, &st));
    error = S_ISDIR(st.st_mode) ? ck_mkdirat(AT_FDCWD, path, 0700)
                                : ck_mknodat(AT_FDCWD, path, S_IFREG | 0600, 0);
    if (error < 0 && error != -EEXIST) /* of an earlier one of this number, if that was stuck */
        return error;
    c->sources |= 1ULL << slot;
    return ck_move_mount(tree, AT_FDCWD, path);
}

/* The child gets clones, never the tree itself: from a mount that is attached here, ".." leads to the
 * store and to the sources of others. */
static int do_source(struct ck_start *start, const struct ck_op *op)
{
    struct ck_container *c = start->container;
    CK_CLEANUP_FD int tree = start->slots[op->fd[0]];
    int error = -EINVAL;

    start->slots[op->fd[0]] = -1;
    if (start->again)
        return 0;
    if (c->user >= 0 && !(op->flags & CK_F_AS_IS)) {
        error = ck_mount_map_ids(tree, c->user, AT_RECURSIVE);
        if (error < 0 && !(op->flags & CK_F_OPTIONAL))
            return error;
    }
    if (error < 0 || op->value[0]) /* no peer of the host's any more */
        CK_TRY(ck_mount_set(tree, op->value[0], AT_RECURSIVE));
    return attach(c, op->fd[0], tree);
}

static int do_clone(struct ck_start *start, const struct ck_op *op)
{
    unsigned deep = op->flags & CK_F_RECURSIVE ? AT_RECURSIVE : 0;
    char path[48];

    ck_source_path(path, start->container, (unsigned)op->fd[0]);
    CK_OPEN(tree, ck_open_tree(AT_FDCWD, path, deep));
    if (op->value[0])
        CK_TRY(ck_mount_set(tree, op->value[0], deep));
    return fill_slot(start, op->fd[1], ck_steal_fd(&tree));
}

/* ---- user namespaces */

/* Made by a child that lives no longer; its maps can be written from outside only.  Whose it is has what
 * is used up in there of the kernel's quotas of a user (inotify(7), signals): nobody else, least of all
 * the host's root. */
static int make_user(uint32_t owner, const char *uids, const char *gids)
{
    int pidfd = -1, pid, fd;
    char path[32];

    CK_TRY(ck_set_euid(owner));
    pid = ck_clone(CLONE_NEWUSER, -1, &pidfd);
    /* dumpable is what fs.suid_dumpable may have made it */
    if (pid != 0 && (ck_set_euid(0) < 0 || ck_not_dumpable() < 0))
        ck_exit(1); /* can not go on as somebody else */
    CK_TRY(pid);
    if (pid == 0) {
        ck_wait_for(-1, 0, -1);
        ck_exit(0);
    }
    snprintf(path, sizeof path, "/proc/%d", pid);
    CK_CLEANUP_FD int proc = ck_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
    fd = ck_path_write(proc, "uid_map", uids);
    fd = fd < 0 ? fd : ck_path_write(proc, "gid_map", gids);
    fd = fd < 0 ? fd : ck_openat(proc, "ns/user", O_RDONLY, 0);
    ck_kill_and_wait(pidfd);
    ck_close(pidfd);
    return fd;
}

static int do_id_map(struct ck_start *start, const struct ck_op *op)
{
    struct ck_container *c = start->container;

    if (!start->again) {
        if (c->user >= 0 || c->sources)
            return -EINVAL;
        CK_TRY(c->user = make_user((uint32_t)(op->value[0] >> 32), text(start, op, 0),
                                   text(start, op, 1)));
        CK_OPEN(tree, ck_open_tree(AT_FDCWD, "/store", 0));
        CK_TRY(op->flags & CK_F_AS_IS ? 0 : ck_mount_map_ids(tree, c->user, 0));
        c->ids = op->fd[0];
        c->owner = op->value[0];
        CK_TRY(attach(c, c->ids, tree));
    }
    return fill_slot(start, op->fd[0], ck_dup_above(c->user, CK_CONTROL_FD + 1));
}

/* Without namespaces: a copy of the image's files, which is the root of its execs too. */
static int do_tree(struct ck_start *start, const struct ck_op *op)
{
    struct ck_container *c = start->container;
    const char *name = text(start, op, 0);

    if (!good_name(name))
        return -EINVAL;
    if (c->user < 0)
        CK_TRY(c->user = ck_openat(start->launcher->store, name, O_DIRECTORY | O_NOFOLLOW, 0));
    return fill_slot(start, op->fd[0], ck_dup_above(c->user, CK_CONTROL_FD + 1));
}

/* ---- overlays */

/* Where the container's own files are made: uppers and works by name, files by number. */
static int set_upper(struct ck_start *start, const char *top, const char *dir)
{
    static const char *const parts[] = {"upper", "work", "files"};
    char path[160];

    snprintf(start->upper, sizeof start->upper, "%s%s", top, dir);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", start->upper, parts[i]);
        CK_TRY(ck_make_dir(AT_FDCWD, path, 0700));
    }
    return 0;
}

static int do_upper_tmpfs(struct ck_start *start, const struct ck_op *op)
{
    char options[64]; /* 0 is tmpfs's own word for no limit */

    if (start->upper[0])
        return -EINVAL;
    snprintf(options, sizeof options, "size=%llu%cnr_inodes=%llu", (unsigned long long)op->value[0],
             0, (unsigned long long)op->value[1]);
    CK_OPEN(mount, ck_new_mount("tmpfs", options, 2, 0));
    CK_TRY(ck_move_mount(mount, AT_FDCWD, "/up"));
    return set_upper(start, "/up", "");
}

static int do_upper_dir(struct ck_start *start, const struct ck_op *op)
{
    const char *dir = text(start, op, 0);

    if (start->upper[0] || strcmp(dir, start->container->dir) != 0)
        return -EINVAL;
    start->container->release &= (uint16_t)~CK_REL_DIR; /* may take long: whoever called does it */
    return set_upper(start, "/store/", dir);
}

static int lower_path(const struct ck_start *start, const char *lower, char out[256])
{
    unsigned slot;

    if (lower[0] == '@') {
        if (sscanf(lower, "@%u", &slot) != 1 || slot >= CK_SLOTS ||
            !(start->container->sources >> slot & 1))
            return -EINVAL;
        ck_source_path(out, start->container, slot);
        return 0;
    }
    if (!good_name(lower))
        return -EINVAL;
    strcpy(out, "/store");
    if (start->container->user >= 0)
        ck_source_path(out, start->container, (unsigned)start->container->ids);
    strcat(strcat(out, "/"), lower);
    return 0;
}

/* The upper's root stands for the merged root: it takes mode and owner of the topmost lower. */
static int add_upper(int fs, const struct ck_start *start, const char *name, const char *top)
{
    char path[256];
    struct stat st;
    int there, error = 0;

    CK_TRY(ck_fstatat(AT_FDCWD, top, &st, 0));
    snprintf(path, sizeof path, "%s/work/%s", start->upper, name);
    CK_TRY(there = ck_make_dir(AT_FDCWD, path, 0700));
    CK_TRY(ck_fs_set(fs, "workdir", path));
    /* what a volatile mount leaves says that it may be incomplete: not without a crash of the host */
    strcat(path, "/work/incompat/volatile/dirty");
    for (int i = 0; there && i < 3; i++, *strrchr(path, '/') = 0)
        ck_unlinkat(AT_FDCWD, path, i ? AT_REMOVEDIR : 0);
    snprintf(path, sizeof path, "%s/upper/%s", start->upper, name);
    CK_TRY(there = ck_make_dir(AT_FDCWD, path, st.st_mode & 07777)); /* then as it was left */
    if (!there && (st.st_uid || st.st_gid))
        error = ck_fchownat(AT_FDCWD, path, st.st_uid, st.st_gid, 0);
    CK_TRY(error == -EINVAL ? 0 : error); /* nobody of our user namespace: ours, then */
    if (!there && st.st_mode & 07000)
        CK_TRY(ck_fchmodat(AT_FDCWD, path, st.st_mode & 07777));
    return ck_fs_set(fs, "upperdir", path);
}

/* Before Linux 6.5 all lowers are one string of at most 255 bytes: links with short names in a
 * directory of their own, looked up from there, let 90 layers fit. */
static int link_lower(char joined[256], uint32_t i, const char *path)
{
    char name[16];

    snprintf(name, sizeof name, "%x", i);
    if (strlen(joined) + strlen(name) > 253)
        return -E2BIG;
    strcat(strcat(joined, i ? ":" : ""), name);
    return ck_symlinkat(path, AT_FDCWD, name);
}

static int overlay(struct ck_start *start, const struct ck_op *op, bool append)
{
    CK_CLEANUP_FD int fs = ck_fs_open("overlay");
    const char *name = text(start, op, 1);
    char path[256], joined[256] = "";
    uint32_t n;
    const char *lower = ck_plan_list(&start->plan, op->arena[0], &n);

    if (!n || (name && (!start->upper[0] || strchr(name, '/') || strlen(name) > 64)))
        return -EINVAL;
    CK_TRY(lower_path(start, lower, path));
    if (name)
        CK_TRY(add_upper(fs, start, name, path));
    for (uint32_t i = 0; i < n; i++, lower = ck_plan_next(lower)) {
        CK_TRY(lower_path(start, lower, path));
        CK_TRY(append ? ck_fs_set(fs, "lowerdir+", path) : link_lower(joined, i, path));
    }
    if (!append)
        CK_TRY(ck_fs_set(fs, "lowerdir", joined));
    if (start->launcher->hello.flags & CK_USER_MARKS)
        CK_TRY(ck_fs_set(fs, "userxattr", NULL));
    if (op->flags & CK_F_VOLATILE)
        CK_TRY(ck_fs_set(fs, "volatile", NULL));
    return ck_fs_mount(fs, (unsigned)op->value[0]);
}

static int do_overlay(struct ck_start *start, const struct ck_op *op)
{
    uint32_t *flags = &start->launcher->hello.flags;
    int mount = *flags & CK_CLASSIC_OVERLAY ? -EINVAL : overlay(start, op, true);
    char name[16] = "0";

    if (mount == -EINVAL) { /* as before Linux 6.5, by mount(2)'s own rules */
        CK_TRY(ck_chdir("/l"));
        mount = overlay(start, op, false);
        for (uint32_t i = 1; ck_unlinkat(AT_FDCWD, name, 0) == 0; i++)
            snprintf(name, sizeof name, "%x", i);
        ck_chdir("/");
        if (mount >= 0) /* the kernel's log gets a line for each that is tried in vain */
            *flags |= CK_CLASSIC_OVERLAY;
    }
    return fill_slot(start, op->fd[0], mount);
}

/* A file of the container's own that can be mounted on a path; it lives beside the upper, so that
 * what is written to it counts there. */
static int do_file(struct ck_start *start, const struct ck_op *op)
{
    const int flags = O_CREAT | O_TRUNC | O_WRONLY | O_NOFOLLOW | O_NONBLOCK; /* a FIFO waits */
    uint32_t length;
    const void *bytes = ck_plan_list(&start->plan, op->arena[0], &length);
    char path[160];

    if (!start->upper[0])
        return -EINVAL;
    snprintf(path, sizeof path, "%s/files/%u", start->upper, start->files++);
    CK_OPEN(file, ck_openat(AT_FDCWD, path, flags, 0600));
    CK_TRY(ck_write_all(file, bytes, length));
    if (start->container->user >= 0)
        CK_TRY(ck_fchownat(file, "", (uint32_t)(start->container->owner >> 32),
                           (uint32_t)start->container->owner, AT_EMPTY_PATH));
    CK_TRY(ck_fchmod(file, (mode_t)op->value[0] & 07777));
    CK_OPEN(tree, ck_open_tree(AT_FDCWD, path, 0));
    CK_TRY(ck_mount_set(tree, op->value[1], 0));
    return fill_slot(start, op->fd[0], ck_steal_fd(&tree));
}

static int (*const handlers[])(struct ck_start *start, const struct ck_op *op) = {
#define CK_PREPARE_OP(name, number, phase, slots, arguments, handler) [number] = handler,
#include "ck_ops.h"
};

int ck_launcher_prepare(struct ck_start *start)
{
    const struct ck_op *ops = start->plan.ops[CK_PREPARE];

    for (uint16_t i = 0; i < start->plan.header->n_ops[CK_PREPARE]; i++) {
        int error = handlers[ops[i].code](start, &ops[i]);
        if (error < 0)
            start->container->failed =
                (struct ck_report){CK_PREPARE, i, ops[i].code, (uint16_t)-error, 0};
        CK_TRY(error);
    }
    return 0;
}
