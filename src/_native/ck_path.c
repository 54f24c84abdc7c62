#include "ck_path.h"

#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/statfs.h>

#define DIRECTORY (O_PATH | O_DIRECTORY)
#define DEPTH_MAX 256 /* directories the walk holds open at once */
#define LINKS_MAX 40  /* as the kernel's MAXSYMLINKS */

/* The walk: a stack of the directories from the root (not in it) down to here.  `..` pops, it is
 * never opened: a directory that is moved away meanwhile can not lead out. */
struct walk {
    int depth, links;
    int fds[DEPTH_MAX];
    char buf[2 * PATH_MAX], *rest; /* what is still to go, at the end of buf */
};

static void pop(struct walk *walk)
{
    if (walk->depth)
        ck_close(walk->fds[--walk->depth]);
}

static void end_walk(struct walk *walk)
{
    while (walk->depth)
        pop(walk);
}

/* A link on the way: put its text before what is still to go. */
static int follow(struct walk *walk, int link, bool slash)
{
    char text[PATH_MAX];
    ssize_t len = ck_readlinkat(link, "", text, sizeof text);

    if (len <= 0)
        return len < 0 ? (int)len : -ENOENT;
    if (++walk->links > LINKS_MAX || (text[0] == '/' && ck_path_type(link) == PROC_SUPER_MAGIC))
        return -ELOOP; /* a magic link's text is not where it leads */
    if (len == PATH_MAX || walk->rest - walk->buf <= len)
        return -ENAMETOOLONG;
    if (slash)
        *--walk->rest = '/';
    walk->rest -= len;
    memcpy(walk->rest, text, (size_t)len);
    if (text[0] == '/')
        end_walk(walk);
    return 0;
}

static int walk_open(int root, const char *path, int flags, unsigned how)
{
    __attribute__((cleanup(end_walk))) struct walk walk = {.depth = 0};
    size_t size = strlen(path) + 1;

    if (size == 1 || size > PATH_MAX)
        return size == 1 ? -ENOENT : -ENAMETOOLONG;
    walk.rest = memcpy(walk.buf + sizeof walk.buf - size, path, size);
    while (*(walk.rest += strspn(walk.rest, "/"))) {
        int here = walk.depth ? walk.fds[walk.depth - 1] : root;
        const char *name = walk.rest;
        bool slash, last;
        struct stat st;

        walk.rest += strcspn(walk.rest, "/");
        slash = *walk.rest == '/';
        if (slash)
            *walk.rest++ = 0;
        last = walk.rest[strspn(walk.rest, "/")] == 0;
        if (!strcmp(name, "."))
            continue;
        if (!strcmp(name, "..")) {
            pop(&walk);
            continue;
        }
        CK_OPEN(fd, ck_openat(here, name, O_PATH | O_NOFOLLOW, 0));
        CK_TRY(ck_fstat(fd, &st));
        if (S_ISLNK(st.st_mode) && !(last && !slash && (flags & O_NOFOLLOW))) {
            CK_TRY(how & CK_PATH_NO_SYMLINKS ? -ELOOP : follow(&walk, fd, slash));
            continue;
        }
        if (!S_ISDIR(st.st_mode) && (!last || slash || flags & O_DIRECTORY))
            return -ENOTDIR;
        if (last) /* what was looked at, whatever has the name by now */
            return flags & O_PATH ? ck_steal_fd(&fd) : ck_openat(here, name, flags | O_NOFOLLOW, 0);
        if (walk.depth == DEPTH_MAX)
            return -ENAMETOOLONG;
        walk.fds[walk.depth++] = ck_steal_fd(&fd);
    }
    return ck_openat(walk.depth ? walk.fds[walk.depth - 1] : root, ".", flags, 0);
}

int ck_path_open(int root, const char *path, int flags, unsigned how)
{
    uint64_t resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    int fd = -ENOSYS;

    if (how & CK_PATH_NO_SYMLINKS)
        resolve |= RESOLVE_NO_SYMLINKS;
    if (!(how & CK_PATH_WALK))
        fd = ck_openat2(root, path, flags, 0, resolve);
    if (fd == -ENOSYS || fd == -EPERM || fd == -EAGAIN)
        fd = walk_open(root, path, flags, how);
    return fd;
}

int ck_path_mkdirs(int root, const char *path, unsigned mode, unsigned how)
{
    CK_CLEANUP_FD int dir = ck_path_open(root, ".", DIRECTORY, how);
    char prefix[PATH_MAX], *at = prefix;

    if (strlen(path) >= sizeof prefix)
        return -ENAMETOOLONG;
    strcpy(prefix, path);
    while (dir >= 0 && *(at += strspn(at, "/"))) {
        const char *name = at;
        char after = *(at += strcspn(at, "/"));
        const bool file = S_ISREG(mode) && !after;
        int fd;

        *at = 0;
        fd = file ? ck_mknodat(dir, name, mode, 0)
                  : ck_mkdirat(dir, name, S_ISREG(mode) ? 0755 : mode);
        if (fd == 0 || fd == -EEXIST)
            fd = ck_path_open(root, prefix, file ? O_PATH | O_NOFOLLOW : DIRECTORY, how);
        *at = after;
        ck_close_at(&dir);
        dir = fd;
    }
    return ck_steal_fd(&dir);
}

int ck_path_write(int dirfd, const char *path, const char *text)
{
    CK_OPEN(fd, ck_path_open(dirfd, path, O_WRONLY | O_NOFOLLOW, 0));
    return ck_write_all(fd, text, strlen(text));
}

int64_t ck_path_type(int fd)
{
    struct statfs st;

    CK_TRY(ck_fstatfs(fd, &st));
    return (int64_t)(uint32_t)st.f_type;
}

int ck_path_depth(int root, int fd, unsigned max)
{
    char up[PATH_MAX] = ".";
    struct stat top, st;

    CK_TRY(ck_fstat(root, &top));
    for (unsigned depth = 0; depth <= max && 3 * depth + 4 < sizeof up; depth++) {
        CK_TRY(ck_fstatat(fd, up, &st, 0));
        if (st.st_ino == top.st_ino && st.st_dev == top.st_dev)
            return (int)depth;
        strcpy(up + 1 + 3 * depth, "/..");
    }
    return -ELOOP;
}
