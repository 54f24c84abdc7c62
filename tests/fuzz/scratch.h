/* scratch.h - a place for the applier: a tmpfs of a mount namespace of our own, in which all else
 * but the working directory is read-only, so that what gets out does no harm and is seen. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fuzz.h"

#define SCRATCH "/mnt"

static const char *const outside[] = {
    SCRATCH, SCRATCH "/victim", SCRATCH "/victim/file", SCRATCH "/victim/directory",
    SCRATCH "/victim/directory/inner", SCRATCH "/layers/file",
};
enum { OUTSIDE = sizeof outside / sizeof *outside };

static struct stat before[OUTSIDE];

static inline void set_read_only(const char *path, unsigned flags, uint64_t set, uint64_t clear)
{
    struct mount_attr attr = {.attr_set = set, .attr_clr = clear};

    HOLDS(syscall(SYS_mount_setattr, AT_FDCWD, path, flags, &attr, sizeof attr) == 0);
}

static inline void make_file(const char *path)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_EXCL, 0600);

    HOLDS(fd >= 0 && write(fd, "precious", 8) == 8 && close(fd) == 0);
}

static inline void make_scratch(void)
{
    char *here = getcwd(NULL, 0);

    HOLDS(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    HOLDS(mount(here, here, NULL, MS_BIND | MS_REC, NULL) == 0);
    set_read_only("/", AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0);
    set_read_only(here, 0, 0, MOUNT_ATTR_RDONLY);
    HOLDS(mount("scratch", SCRATCH, "tmpfs", 0, "size=256m,nr_inodes=20000") == 0);
    HOLDS(chdir(here) == 0); /* the new mount of it */
    free(here);
    HOLDS(mkdir(SCRATCH "/victim", 0700) == 0 && mkdir(SCRATCH "/layers", 0700) == 0);
    HOLDS(mkdir(SCRATCH "/victim/directory", 0700) == 0);
    make_file(SCRATCH "/victim/file");
    make_file(SCRATCH "/victim/directory/inner");
    make_file(SCRATCH "/layers/file");
    for (int i = 0; i < OUTSIDE; i++)
        HOLDS(lstat(outside[i], &before[i]) == 0);
}

/* Every change of mode, owner, links, content or attributes shows in the time of change. */
static inline void check_outside(void)
{
    for (int i = 0; i < OUTSIDE; i++) {
        struct stat now;

        HOLDS(lstat(outside[i], &now) == 0);
        HOLDS(now.st_ino == before[i].st_ino && now.st_nlink == before[i].st_nlink);
        HOLDS(now.st_ctim.tv_sec == before[i].st_ctim.tv_sec &&
              now.st_ctim.tv_nsec == before[i].st_ctim.tv_nsec);
    }
}

#endif
