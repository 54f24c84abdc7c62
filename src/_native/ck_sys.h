/* ck_sys.h - one thin wrapper per system call: >= 0 or a negative errno, never errno itself.
 *
 * ck_sys.c is the only file of the core that makes system calls.  EINTR is retried here where
 * retrying is right.  Built with CK_FAULT, every wrapper first asks ck_fault(), which counts the
 * calls of its class and fails the n-th: that is how the sweeps reach every error path.
 */
#ifndef CK_SYS_H
#define CK_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#define CK_CLEANUP_FD __attribute__((cleanup(ck_close_at)))

/* ---- descriptors and files */
int ck_close(int fd);
void ck_close_at(int *fd); /* for CK_CLEANUP_FD: closes when >= 0 */
int ck_steal_fd(int *fd);  /* hands ownership out: returns *fd, sets it to -1 */
int ck_openat(int dirfd, const char *path, int flags, mode_t mode); /* O_CLOEXEC always */
int ck_openat2(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve);
ssize_t ck_read(int fd, void *buf, size_t len);
ssize_t ck_write(int fd, const void *buf, size_t len);
int ck_write_all(int fd, const void *buf, size_t len);
int ck_fstat(int fd, struct stat *st);
int ck_fstatat(int dirfd, const char *path, struct stat *st, int flags);
int ck_mkdirat(int dirfd, const char *path, mode_t mode);
int ck_mknodat(int dirfd, const char *path, mode_t mode, dev_t dev);
int ck_symlinkat(const char *target, int dirfd, const char *path);
int ck_linkat(int olddir, const char *oldpath, int newdir, const char *newpath, int flags);
int ck_unlinkat(int dirfd, const char *path, int flags);
int ck_renameat(int olddir, const char *oldpath, int newdir, const char *newpath);
ssize_t ck_readlinkat(int dirfd, const char *path, char *buf, size_t len);
int ck_fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags);
int ck_fchmod(int fd, mode_t mode);
int ck_fchmodat(int dirfd, const char *path, mode_t mode);
int ck_utimensat(int dirfd, const char *path, const struct timespec times[2], int flags);
int ck_fsetxattr(int fd, const char *name, const void *value, size_t size);
int ck_lsetxattr(const char *path, const char *name, const void *value, size_t size);
int ck_ftruncate(int fd, off_t size);
off_t ck_lseek(int fd, off_t offset, int whence);
ssize_t ck_pwrite(int fd, const void *buf, size_t len, off_t offset);
int ck_flock(int fd, int operation);
int ck_fchdir(int fd);
int ck_chdir(const char *path);
struct ck_dirent { /* getdents64(2) */
    uint64_t ino;
    int64_t off;
    uint16_t size;
    uint8_t type;
    char name[];
};
ssize_t ck_getdents(int fd, void *buf, size_t len);

/* ---- identity */
uid_t ck_geteuid(void);
gid_t ck_getegid(void);

#endif
