/* preload.c - stands before libc in a Python process, so that its own calls can fail as well.
 *
 * LD_PRELOAD; built together with ck_fault.c.  Only the names that CPython and SQLite call.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ck_fault.h"

/* The libc function of the same name, looked up once. */
#define REAL(name)                                                                                 \
    static __typeof__(name) *real;                                                                 \
    if (!real)                                                                                     \
    real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define FAIL(class, name)                                                                          \
    do {                                                                                           \
        int error = ck_fault_in(class, "libc " name);                                              \
        if (error) {                                                                               \
            errno = -error;                                                                        \
            return -1;                                                                             \
        }                                                                                          \
    } while (0)

#define MODE(flags, last)                                                                          \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                         \
        va_list args;                                                                              \
        va_start(args, last);                                                                      \
        mode = va_arg(args, mode_t);                                                               \
        va_end(args);                                                                              \
    }

int open(const char *path, int flags, ...)
{
    REAL(open);
    MODE(flags, flags)
    FAIL(FAULT_OPEN, "open");
    return real(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    REAL(open64);
    MODE(flags, flags)
    FAIL(FAULT_OPEN, "open");
    return real(path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
    REAL(openat);
    MODE(flags, flags)
    FAIL(FAULT_OPEN, "openat");
    return real(dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...)
{
    REAL(openat64);
    MODE(flags, flags)
    FAIL(FAULT_OPEN, "openat");
    return real(dir, path, flags, mode);
}

#define CALL(class, type, name, parameters, arguments)                                             \
    type name parameters                                                                           \
    {                                                                                              \
        REAL(name);                                                                                \
        FAIL(class, #name);                                                                        \
        return real arguments;                                                                     \
    }

/* Pipes have no disk that could be full or broken. */
ssize_t write(int fd, const void *buf, size_t len)
{
    struct stat st;

    REAL(write);
    if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode))
        FAIL(FAULT_WRITE, "write");
    return real(fd, buf, len);
}

CALL(FAULT_WRITE, ssize_t, pwrite, (int fd, const void *buf, size_t len, off_t at),
     (fd, buf, len, at))
CALL(FAULT_WRITE, ssize_t, pwrite64, (int fd, const void *buf, size_t len, off64_t at),
     (fd, buf, len, at))
CALL(FAULT_WRITE, int, ftruncate, (int fd, off_t size), (fd, size))
CALL(FAULT_WRITE, int, ftruncate64, (int fd, off64_t size), (fd, size))
CALL(FAULT_FSYNC, int, fsync, (int fd), (fd))
CALL(FAULT_FSYNC, int, fdatasync, (int fd), (fd))
CALL(FAULT_FSYNC, int, syncfs, (int fd), (fd))
CALL(FAULT_RENAME, int, rename, (const char *from, const char *to), (from, to))
CALL(FAULT_RENAME, int, renameat, (int olddir, const char *from, int newdir, const char *to),
     (olddir, from, newdir, to))
CALL(FAULT_MKDIR, int, mkdir, (const char *path, mode_t mode), (path, mode))
CALL(FAULT_MKDIR, int, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode))
CALL(FAULT_MKDIR, int, symlink, (const char *target, const char *path), (target, path))
CALL(FAULT_SOCKET, int, socket, (int domain, int type, int protocol), (domain, type, protocol))
CALL(FAULT_SOCKET, int, socketpair, (int domain, int type, int protocol, int out[2]),
     (domain, type, protocol, out))
CALL(FAULT_SOCKET, int, pipe2, (int out[2], int flags), (out, flags))
CALL(FAULT_SOCKET, int, listen, (int fd, int backlog), (fd, backlog))

CALL(FAULT_SOCKET, ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags),
     (fd, message, flags))
CALL(FAULT_SOCKET, ssize_t, recvmsg, (int fd, struct msghdr *message, int flags),
     (fd, message, flags))
CALL(FAULT_SOCKET, int, connect, (int fd, const struct sockaddr *address, socklen_t size),
     (fd, address, size))
CALL(FAULT_CLONE, int, setns, (int fd, int kind), (fd, kind))
CALL(FAULT_OPEN, int, memfd_create, (const char *name, unsigned flags), (name, flags))

DIR *opendir(const char *path)
{
    REAL(opendir);
    int error = ck_fault_in(FAULT_OPEN, "libc directory");
    if (error) {
        errno = -error;
        return NULL;
    }
    return real(path);
}

void *mmap64(void *at, size_t size, int prot, int flags, int fd, off64_t offset)
{
    REAL(mmap64);
    int error = fd >= 0 ? ck_fault_in(FAULT_MMAP, "libc mmap") : 0;
    if (error) {
        errno = -error;
        return MAP_FAILED;
    }
    return real(at, size, prot, flags, fd, offset);
}
