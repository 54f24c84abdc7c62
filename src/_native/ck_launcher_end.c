/* ck_launcher_end.c - from a container's end to nothing left of it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ck_launcher.h"
#include "ck_sys.h"
#include "ck_sys_ns.h"

/* ---- release: each step may be repeated and may find nothing to do */

static void drop_sources(struct ck_container *c)
{
    char path[48];

    for (unsigned slot = 0; slot < CK_SLOTS; slot++) {
        if (!(c->sources >> slot & 1))
            continue;
        snprintf(path, sizeof path, "/src/%u-%u", c->number, slot);
        ck_umount(path);
        if (ck_unlinkat(AT_FDCWD, path, AT_REMOVEDIR) == -ENOTDIR)
            ck_unlinkat(AT_FDCWD, path, 0);
    }
    c->sources = 0;
}

/* Move what is in one directory up into the trash directory, or unlink it; then the directory is
 * empty.  So a tree of any depth needs two descriptors and no recursion. */
static int empty_dir(int trash, const char *name, uint32_t *number)
{
    CK_CLEANUP_FD int dir = ck_openat(trash, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    _Alignas(8) char buf[8192];
    char up[16];
    ssize_t n;

    if (dir < 0)
        return dir;
    while ((n = ck_getdents(dir, buf, sizeof buf)) > 0)
        for (ssize_t at = 0; at < n;) {
            const struct ck_dirent *entry = (const void *)(buf + at);
            at += entry->size;
            if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
                continue;
            snprintf(up, sizeof up, "%u", ++*number);
            if (ck_unlinkat(dir, entry->name, 0) == -EISDIR)
                ck_renameat(dir, entry->name, trash, up);
        }
    return n < 0 ? (int)n : 0;
}

static void remove_tree(struct ck_launcher *l, const char *path)
{
    CK_CLEANUP_FD int trash = ck_openat(l->store, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    uint32_t number = 0, done = 0;
    char name[16];

    if (trash < 0)
        return;
    empty_dir(trash, ".", &number);
    while (done < number) {
        snprintf(name, sizeof name, "%u", ++done);
        if (empty_dir(trash, name, &number) == 0)
            ck_unlinkat(trash, name, AT_REMOVEDIR);
    }
    ck_unlinkat(l->store, path, AT_REMOVEDIR);
}

/* The directory of a container: flat, unless its upper lies there too.  A caller that asked for the
 * release removes that itself, since it may take long; nobody else does when it has gone. */
static void drop_dir(struct ck_launcher *l, struct ck_container *c)
{
    char path[128];

    if (c->release & CK_REL_DISK) {
        if (c->channel < 0)
            remove_tree(l, c->dir);
        return;
    }
    snprintf(path, sizeof path, "%s/lock", c->dir);
    ck_unlinkat(l->store, path, 0);
    ck_unlinkat(l->store, c->dir, AT_REMOVEDIR);
}

void ck_launcher_release(struct ck_launcher *l, struct ck_container *c)
{
    if (c->sources)
        drop_sources(c);
    if (!ck_pool_keep(l, c)) {
        if (c->dir[0] && c->release & CK_REL_DIR)
            drop_dir(l, c);
        if (c->release & CK_HAS_CGROUP)
            ck_pool_trash_cgroup(l, c->number);
    }
    ck_close_at(&c->lock);
    ck_close_at(&c->report);
    ck_close_at(&c->pidfd);
    if (c->channel >= 0 && c->status == CK_ENDED && !(c->flags & CK_PLAN_EPHEMERAL))
        ck_launcher_tell(c, CK_RELEASED, &(struct ck_event){0}, -1);
    ck_close_at(&c->channel);
    c->status = CK_FREE;
    l->live--;
}

/* ---- how it ended */

/* Kills by the OOM killer in the container's cgroup, of either version. */
static int was_oom(const struct ck_launcher *l, const struct ck_container *c)
{
    char path[48], text[512];
    const char *at;

    for (int i = 0; i < l->n_controllers; i++) {
        int v2 = i == l->unified;
        CK_CLEANUP_FD int fd = -1;
        ssize_t n;
        if (!v2 && strcmp(l->hello.controllers[i], "memory") != 0)
            continue;
        snprintf(path, sizeof path, "%u/%s", c->number,
                 v2 ? "memory.events" : "memory.oom_control");
        fd = ck_openat(l->controllers[i], path, O_RDONLY, 0);
        n = fd < 0 ? fd : ck_read(fd, text, sizeof text - 1);
        if (n <= 0)
            continue;
        text[n] = 0;
        at = strstr(text, "oom_kill ");
        if (at && atoi(at + 9) > 0)
            return 1;
    }
    return 0;
}

static uint32_t cause_of(const struct ck_launcher *l, const struct ck_container *c)
{
    if (c->release & CK_MEMORY && was_oom(l, c))
        return CK_CAUSE_OOM;
    if (c->cause && c->state.signal)
        return c->cause;
    return c->state.signal ? CK_CAUSE_SIGNAL : CK_CAUSE_EXITED;
}

static void report_end(struct ck_launcher *l, struct ck_container *c, const struct rusage *used)
{
    struct ck_event event = {
        .code = c->state.code,
        .signal = c->state.signal,
        .cause = c->state.cause,
        .started_ns = c->state.started_ns,
        .finished_ns = c->state.finished_ns,
        .user_us = (uint64_t)used->ru_utime.tv_sec * 1000000U + (uint64_t)used->ru_utime.tv_usec,
        .system_us = (uint64_t)used->ru_stime.tv_sec * 1000000U + (uint64_t)used->ru_stime.tv_usec,
        .max_rss_kib = (uint64_t)used->ru_maxrss,
    };

    ck_launcher_tell(c, CK_EXITED, &event, -1);
    (void)l;
}

void ck_launcher_fail(struct ck_launcher *l, struct ck_container *c)
{
    struct ck_event event = {.report = c->failed};
    int code, signal, channel;

    if (c->pidfd >= 0) {
        ck_pidfd_kill(c->pidfd, SIGKILL);
        while (ck_wait_pidfd(c->pidfd, &code, &signal, NULL) == -EAGAIN)
            ck_wait_readable(c->pidfd);
    }
    channel = ck_steal_fd(&c->channel);
    ck_launcher_release(l, c);
    c->channel = channel; /* told last, when nothing is left */
    ck_launcher_tell(c, CK_FAILED, &event, -1);
    ck_close(ck_steal_fd(&c->channel));
}

void ck_launcher_ended(struct ck_launcher *l, struct ck_container *c)
{
    struct rusage used = {0};
    int error = ck_wait_pidfd(c->pidfd, &c->state.code, &c->state.signal, &used);

    if (error == -EAGAIN)
        return;
    if (!(c->release & CK_ABOUT_TO_EXEC) && !c->failed.errnum) /* it died during set-up */
        c->failed = (struct ck_report){CK_CHILD, 0, 0, ECHILD, c->state.signal};
    ck_close(ck_steal_fd(&c->pidfd));
    if (c->failed.errnum) {
        ck_launcher_fail(l, c);
        return;
    }
    c->status = CK_ENDED;
    c->state.status = 2;
    c->state.finished_ns = ck_now(CLOCK_REALTIME);
    c->state.cause = cause_of(l, c);
    if (c->dir[0] && !(c->flags & CK_PLAN_EPHEMERAL))
        ck_launcher_write_state(c);
    report_end(l, c, &used);
    if (c->flags & CK_PLAN_EPHEMERAL)
        ck_launcher_release(l, c);
}

/* ---- the end of the launcher */

static void end_all(struct ck_launcher *l)
{
    struct rusage used;

    for (uint32_t i = 0; i < CK_CONTAINERS; i++)
        if (l->containers[i].status != CK_FREE && l->containers[i].pidfd >= 0)
            ck_pidfd_kill(l->containers[i].pidfd, SIGKILL);
    for (uint32_t i = 0; i < CK_CONTAINERS; i++) {
        struct ck_container *c = &l->containers[i];
        if (c->status == CK_FREE)
            continue;
        while (c->pidfd >= 0 &&
               ck_wait_pidfd(c->pidfd, &c->state.code, &c->state.signal, &used) == -EAGAIN)
            ck_wait_readable(c->pidfd);
        ck_close_at(&c->channel);
        c->channel = -1;
        ck_launcher_release(l, c);
    }
}

/* The owner has gone or closed the engine: end everything, then leave nothing behind. */
_Noreturn void ck_launcher_shutdown(struct ck_launcher *l)
{
    char name[64];

    end_all(l);
    ck_pool_end_spare(l, &l->spare);
    ck_pool_drop_kept(l);
    while (l->trashed)
        ck_pool_drop_cgroup(l, l->trash[--l->trashed]);
    snprintf(name, sizeof name, "../containerkit-%s", l->hello.id);
    for (int i = 0; i < l->n_controllers; i++)
        ck_unlinkat(l->controllers[i], name, AT_REMOVEDIR);
    snprintf(name, sizeof name, "owners/%s", l->hello.id);
    ck_unlinkat(l->store, name, 0);
    ck_exit(0);
}
