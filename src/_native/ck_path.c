#define _GNU_SOURCE
#include "ck_path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <string.h>

#include "ck_sys.h"

#define DEPTH_MAX 256 /* directories the walk holds open at once */
#define LINKS_MAX 40  /* as the kernel's MAXSYMLINKS */

/* The walk: a stack of the directories from the root (not in it) down to here.  `..` pops, it is
 * never opened: a directory that is moved away meanwhile can not lead out. */
struct walk {
    int root;
    int depth, fds[DEPTH_MAX];
    int links;
    char rest[2 * PATH_MAX]; /* still to go */
};

static void pop(struct walk *walk, int keep)
{
    while (walk->depth > keep)
        ck_close(walk->fds[--walk->depth]);
}

static void end_walk(struct walk *walk)
{
    pop(walk, 0);
}

static int here(const struct walk *walk)
{
    return walk->depth ? walk->fds[walk->depth - 1] : walk->root;
}

/* Take the next component off rest; false at the end. */
static bool next(struct walk *walk, char name[NAME_MAX + 1], bool *last, int *error)
{
    size_t skip = strspn(walk->rest, "/");
    size_t len = strcspn(walk->rest + skip, "/"), tail;

    *error = len > NAME_MAX ? -ENAMETOOLONG : 0;
    if (*error || !len)
        return false;
    memcpy(name, walk->rest + skip, len);
    name[len] = 0;
    tail = skip + len;
    *last = walk->rest[tail + strspn(walk->rest + tail, "/")] == 0;
    memmove(walk->rest, walk->rest + tail, strlen(walk->rest + tail) + 1);
    return true;
}

/* name in the present directory is a link: put its text before what is still to go. */
static int follow(struct walk *walk, int link, unsigned how)
{
    char text[PATH_MAX];
    ssize_t len = ck_readlinkat(link, "", text, sizeof text - 1);
    size_t rest = strlen(walk->rest);

    if (len < 0)
        return (int)len;
    if ((how & CK_PATH_NO_SYMLINKS) || ++walk->links > LINKS_MAX)
        return -ELOOP;
    if (len == 0)
        return -ENOENT;
    if ((size_t)len + rest + 1 > sizeof walk->rest || len == PATH_MAX - 1)
        return -ENAMETOOLONG;
    memmove(walk->rest + len, walk->rest, rest + 1);
    memcpy(walk->rest, text, (size_t)len);
    if (text[0] == '/')
        pop(walk, 0);
    return 0;
}

/* Go into name, or through it when it is a link. */
static int step(struct walk *walk, const char *name, unsigned how)
{
    CK_CLEANUP_FD int fd = ck_openat(here(walk), name, O_PATH | O_NOFOLLOW, 0);
    struct stat st;
    int error;

    if (fd < 0)
        return fd;
    error = ck_fstat(fd, &st);
    if (error < 0)
        return error;
    if (S_ISLNK(st.st_mode))
        return follow(walk, fd, how);
    if (!S_ISDIR(st.st_mode))
        return -ENOTDIR;
    if (walk->depth == DEPTH_MAX)
        return -ENAMETOOLONG;
    walk->fds[walk->depth++] = ck_steal_fd(&fd);
    return 0;
}

static int walk_open(int root, const char *path, int flags, unsigned how)
{
    __attribute__((cleanup(end_walk))) struct walk walk = {.root = root};
    char name[NAME_MAX + 1];
    bool last = false;
    int error = 0;

    if (strlen(path) >= PATH_MAX)
        return -ENAMETOOLONG;
    if (!*path)
        return -ENOENT;
    strcpy(walk.rest, path);
    while (next(&walk, name, &last, &error)) {
        struct stat st;

        if (!strcmp(name, "."))
            continue;
        if (!strcmp(name, "..")) {
            pop(&walk, walk.depth ? walk.depth - 1 : 0);
            continue;
        }
        if (last) {
            bool slash = walk.rest[0] == '/';
            error = ck_fstatat(here(&walk), name, &st, AT_SYMLINK_NOFOLLOW);
            if (error < 0)
                return error;
            if (!S_ISLNK(st.st_mode) || ((flags & O_NOFOLLOW) && !slash))
                return ck_openat(here(&walk), name, flags | O_NOFOLLOW | (slash ? O_DIRECTORY : 0),
                                 0);
        }
        error = step(&walk, name, how);
        if (error < 0)
            return error;
    }
    return error < 0 ? error : ck_openat(here(&walk), ".", flags, 0);
}

int ck_path_open(int root, const char *path, int flags, unsigned how)
{
    uint64_t resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    int fd = -ENOSYS;

    if (how & CK_PATH_NO_SYMLINKS)
        resolve |= RESOLVE_NO_SYMLINKS;
    if (!(how & CK_PATH_WALK))
        fd = ck_openat2(root, path, flags, 0, resolve);
    if (fd == -ENOSYS || fd == -EPERM)
        fd = walk_open(root, path, flags, how);
    return fd;
}

int ck_path_mkdirs(int root, const char *path, mode_t mode, unsigned how)
{
    CK_CLEANUP_FD int dir = ck_path_open(root, ".", O_PATH | O_DIRECTORY, how);
    char prefix[PATH_MAX];
    size_t end = 0;

    if (strlen(path) >= sizeof prefix)
        return -ENAMETOOLONG;
    strcpy(prefix, path);
    while (dir >= 0 && path[end += strspn(path + end, "/")]) {
        size_t start = end;
        int fd;

        end += strcspn(path + end, "/");
        prefix[end] = 0;
        fd = ck_path_open(root, prefix, O_PATH | O_DIRECTORY, how);
        if (fd == -ENOENT) {
            int made = ck_mkdirat(dir, prefix + start, mode);
            fd = made < 0 && made != -EEXIST
                     ? made
                     : ck_path_open(root, prefix, O_PATH | O_DIRECTORY, how);
        }
        prefix[end] = path[end];
        ck_close_at(&dir);
        dir = fd;
    }
    return ck_steal_fd(&dir);
}

int ck_path_depth(int root, int fd, int max)
{
    CK_CLEANUP_FD int at = -1;
    struct stat top, st;
    int error = ck_fstat(root, &top);

    for (int depth = 0; error >= 0 && depth <= max; depth++) {
        int up;

        error = ck_fstat(at < 0 ? fd : at, &st);
        if (error < 0)
            break;
        if (st.st_ino == top.st_ino && st.st_dev == top.st_dev)
            return depth;
        up = ck_openat(at < 0 ? fd : at, "..", O_PATH | O_DIRECTORY, 0);
        ck_close_at(&at);
        at = up;
        error = up;
    }
    return error < 0 ? error : -ELOOP;
}
