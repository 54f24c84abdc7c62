/* ck_sys.h - system calls: >= 0 or a negative errno, never errno itself.
 *
 * ck_sys.c is the only file of the core that makes system calls.  Most are a row of the tables here
 * and in ck_sys_ns.h: CK_CALL(type, name, parameters, call) declares `type name parameters`, and
 * defines it in ck_sys.c: tried again after EINTR.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "ck_api.h"

struct statfs;

#ifndef CK_CALL
#define CK_CALL(type, name, parameters, call) type name parameters;
#endif

/* Return what a call says when it says that it failed. */
#define CK_TRY(call)                                                                             \
    do {                                                                                         \
        int tried_ = (int)(call);                                                                \
        if (tried_ < 0)                                                                          \
            return tried_;                                                                       \
    } while (0)
#define CK_CLEANUP_FD __attribute__((cleanup(ck_close_at)))
/* A descriptor of the block that this stands in, which closes it. */
#define CK_OPEN(name, call)                                                                      \
    CK_CLEANUP_FD int name = (int)(call);                                                        \
    CK_TRY(name)

void ck_close_at(int *fd); /* when >= 0, and sets it to -1 */
int ck_steal_fd(int *fd);  /* hands ownership out: returns *fd, sets it to -1 */
int ck_openat2(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve);
int ck_write_all(int fd, const void *buf, size_t len);

/* clang-format off */
/* ---- descriptors */
CK_CALL(int, ck_close, (int fd), /* after EINTR, too, it is gone */
        close(fd) < 0 && errno != EINTR ? -1 : 0)
CK_CALL(int, ck_openat, (int dirfd, const char *path, int flags, mode_t mode),
         openat(dirfd, path, flags | O_CLOEXEC, mode))
CK_CALL(ssize_t, ck_read, (int fd, void *buf, size_t len), read(fd, buf, len))
CK_CALL(ssize_t, ck_write, (int fd, const void *buf, size_t len), write(fd, buf, len))
CK_CALL(ssize_t, ck_pread, (int fd, void *buf, size_t len, off_t offset),
         pread(fd, buf, len, offset))
CK_CALL(ssize_t, ck_pwrite, (int fd, const void *buf, size_t len, off_t offset),
         pwrite(fd, buf, len, offset))
CK_CALL(off_t, ck_lseek, (int fd, off_t offset, int whence), lseek(fd, offset, whence))
CK_CALL(int, ck_ftruncate, (int fd, off_t size), ftruncate(fd, size))
CK_CALL(int, ck_flock, (int fd, int operation), flock(fd, operation))
CK_CALL(int, ck_fchdir, (int fd), fchdir(fd))
CK_CALL(int, ck_chdir, (const char *path), chdir(path))
/* ---- names: glibc has fstat, fstatat and mknodat as functions of their own from 2.33 on only */
CK_CALL(int, ck_fstat, (int fd, struct stat *st), syscall(SYS_fstat, fd, st))
CK_CALL(int, ck_fstatfs, (int fd, struct statfs *st), fstatfs(fd, st))
CK_CALL(int, ck_fstatat, (int dirfd, const char *path, struct stat *st, int flags),
        syscall(SYS_newfstatat, dirfd, path, st, flags))
CK_CALL(int, ck_mkdirat, (int dirfd, const char *path, mode_t mode), mkdirat(dirfd, path, mode))
CK_CALL(int, ck_mknodat, (int dirfd, const char *path, mode_t mode, dev_t dev),
        syscall(SYS_mknodat, dirfd, path, mode, (unsigned)dev))
CK_CALL(int, ck_symlinkat, (const char *target, int dirfd, const char *path),
        symlinkat(target, dirfd, path))
CK_CALL(int, ck_linkat, (int olddir, const char *oldpath, int newdir, const char *newpath, int flags),
        linkat(olddir, oldpath, newdir, newpath, flags))
CK_CALL(int, ck_unlinkat, (int dirfd, const char *path, int flags), unlinkat(dirfd, path, flags))
CK_CALL(int, ck_renameat, (int olddir, const char *oldpath, int newdir, const char *newpath),
        renameat(olddir, oldpath, newdir, newpath))
CK_CALL(ssize_t, ck_readlinkat, (int dirfd, const char *path, char *buf, size_t len),
        readlinkat(dirfd, path, buf, len))
/* ---- attributes */
CK_CALL(int, ck_fchownat, (int dirfd, const char *path, uid_t uid, gid_t gid, int flags),
        fchownat(dirfd, path, uid, gid, flags))
CK_CALL(int, ck_fchmod, (int fd, mode_t mode), fchmod(fd, mode))
CK_CALL(int, ck_fchmodat, (int dirfd, const char *path, mode_t mode),
        fchmodat(dirfd, path, mode, 0))
CK_CALL(int, ck_utimensat, (int dirfd, const char *path, const struct timespec times[2], int flags),
        path ? utimensat(dirfd, path, times, flags) : futimens(dirfd, times))
CK_CALL(int, ck_fsetxattr, (int fd, const char *name, const void *value, size_t size),
        fsetxattr(fd, name, value, size, 0))
CK_CALL(uid_t, ck_geteuid, (void), geteuid())
CK_CALL(gid_t, ck_getegid, (void), getegid())
/* clang-format on */
