#define _GNU_SOURCE
#include "ck_sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

/* The result of a libc call in this file's convention. */
static long result(long value)
{
    return value < 0 ? -(long)errno : value;
}

#define RETRY(call)                                                                              \
    __extension__({                                                                              \
        long value_;                                                                             \
        do                                                                                       \
            value_ = result(call);                                                               \
        while (value_ == -EINTR);                                                                \
        value_;                                                                                  \
    })

/* ---- descriptors and files */

int ck_close(int fd)
{
    return (int)result(close(fd)); /* never retried: the descriptor is gone either way */
}

void ck_close_at(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

int ck_steal_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

int ck_openat(int dirfd, const char *path, int flags, mode_t mode)
{
    return (int)RETRY(openat(dirfd, path, flags | O_CLOEXEC, mode));
}

int ck_openat2(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC), .mode = mode, .resolve = resolve};
    long fd;

    do /* EAGAIN: a rename raced with the walk and the kernel could not be sure */
        fd = result(syscall(SYS_openat2, dirfd, path, &how, sizeof how));
    while (fd == -EINTR || fd == -EAGAIN);
    return (int)fd;
}

ssize_t ck_read(int fd, void *buf, size_t len)
{
    return RETRY(read(fd, buf, len));
}

ssize_t ck_write(int fd, const void *buf, size_t len)
{
    return RETRY(write(fd, buf, len));
}

int ck_write_all(int fd, const void *buf, size_t len)
{
    const char *at = buf;

    while (len > 0) {
        ssize_t n = ck_write(fd, at, len);
        if (n < 0)
            return (int)n;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int ck_fstat(int fd, struct stat *st)
{
    return (int)result(fstat(fd, st));
}

int ck_fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
    return (int)result(fstatat(dirfd, path, st, flags));
}

int ck_mkdirat(int dirfd, const char *path, mode_t mode)
{
    return (int)result(mkdirat(dirfd, path, mode));
}

int ck_mknodat(int dirfd, const char *path, mode_t mode, dev_t dev)
{
    return (int)result(mknodat(dirfd, path, mode, dev));
}

int ck_symlinkat(const char *target, int dirfd, const char *path)
{
    return (int)result(symlinkat(target, dirfd, path));
}

int ck_linkat(int olddir, const char *oldpath, int newdir, const char *newpath, int flags)
{
    return (int)result(linkat(olddir, oldpath, newdir, newpath, flags));
}

int ck_unlinkat(int dirfd, const char *path, int flags)
{
    return (int)result(unlinkat(dirfd, path, flags));
}

int ck_renameat(int olddir, const char *oldpath, int newdir, const char *newpath)
{
    return (int)result(renameat(olddir, oldpath, newdir, newpath));
}

ssize_t ck_readlinkat(int dirfd, const char *path, char *buf, size_t len)
{
    return result(readlinkat(dirfd, path, buf, len));
}

int ck_fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags)
{
    return (int)result(fchownat(dirfd, path, uid, gid, flags));
}

int ck_fchmod(int fd, mode_t mode)
{
    return (int)result(fchmod(fd, mode));
}

int ck_fchmodat(int dirfd, const char *path, mode_t mode)
{
    return (int)result(fchmodat(dirfd, path, mode, 0));
}

int ck_utimensat(int dirfd, const char *path, const struct timespec times[2], int flags)
{
    return (int)result(path ? utimensat(dirfd, path, times, flags) : futimens(dirfd, times));
}

int ck_fsetxattr(int fd, const char *name, const void *value, size_t size)
{
    return (int)result(fsetxattr(fd, name, value, size, 0));
}

int ck_lsetxattr(const char *path, const char *name, const void *value, size_t size)
{
    return (int)result(lsetxattr(path, name, value, size, 0));
}

int ck_ftruncate(int fd, off_t size)
{
    return (int)RETRY(ftruncate(fd, size));
}

off_t ck_lseek(int fd, off_t offset, int whence)
{
    return result(lseek(fd, offset, whence));
}

ssize_t ck_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    return RETRY(pwrite(fd, buf, len, offset));
}

int ck_flock(int fd, int operation)
{
    return (int)RETRY(flock(fd, operation));
}

int ck_fchdir(int fd)
{
    return (int)result(fchdir(fd));
}

int ck_chdir(const char *path)
{
    return (int)result(chdir(path));
}

ssize_t ck_getdents(int fd, void *buf, size_t len)
{
    return result(syscall(SYS_getdents64, fd, buf, len));
}

/* ---- identity */

uid_t ck_geteuid(void)
{
    return geteuid();
}

gid_t ck_getegid(void)
{
    return getegid();
}
