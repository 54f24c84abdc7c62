/* ck_spawn.c - what Python needs of the launcher's side: to start it, and to hand it host trees. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ck_error.h"
#include "ck_sys.h"
#include "ck_sys_ns.h"
#include "ck_wire.h"

enum { STACK = 64 << 10 };

struct spawn {
    int program, control;
    int failed; /* errno of the exec; shared memory, since the child runs in ours until then */
};

/* Runs on memory shared with the embedding process, which is suspended until exec: system calls
 * only, no libc state, no locks. */
static int enter_launcher(void *arg)
{
    static char *const argv[] = {(char *)(uintptr_t)"ck-launcher", NULL};
    static char *const envp[] = {NULL};
    struct spawn *spawn = arg;
    int null = ck_openat(AT_FDCWD, "/dev/null", O_RDWR, 0);
    /* above all that is overwritten: the embedding program may have closed its descriptors 0 to 2 */
    int program = ck_dup_above(spawn->program, 10), control = ck_dup_above(spawn->control, 10);
    int error = null < 0 ? null : program < 0 ? program : control < 0 ? control : 0;

    null = error < 0 ? error : (error = ck_dup_above(null, 10));
    ck_setsid();
    for (int i = 0; error >= 0 && i < 3; i++)
        error = ck_dup_to(null, i);
    if (error >= 0)
        error = ck_dup_to(control, CK_CONTROL_FD);
    if (error >= 0) {
        ck_close_range(CK_CONTROL_FD + 1, 1);
        ck_chdir("/");
        error = ck_execveat(program, argv, envp);
    }
    spawn->failed = -error;
    ck_exit(127);
}

int ck_spawn_launcher(int program, int control, int *pidfd, struct ck_error *err)
{
    struct spawn spawn = {.program = program, .control = control};
    char *stack =
        mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    const int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_NEWPID | CLONE_NEWNS;
    sigset_t all, before;
    int pid, saved, code, signal;

    if (stack == MAP_FAILED)
        return ck_fail(err, CK_E_OS, errno, "map a stack for the launcher");
    sigfillset(&all); /* a handler of the embedding program must not run in the child */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid = clone(enter_launcher, stack + STACK, flags, &spawn, pidfd);
    saved = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(stack, STACK);
    if (pid < 0)
        return ck_fail(err, CK_E_OS, saved, "clone the launcher");
    if (spawn.failed) {
        while (ck_wait_pidfd(*pidfd, &code, &signal, NULL) == -EAGAIN)
            ck_wait_readable(*pidfd);
        ck_close(*pidfd);
        return ck_fail(err, CK_E_OS, spawn.failed, "execute the launcher");
    }
    return pid;
}

int ck_open_source(const char *path, int recursive, struct ck_error *err)
{
    int fd = ck_open_tree(AT_FDCWD, path, recursive ? AT_RECURSIVE : 0);

    return fd < 0 ? ck_fail(err, CK_E_OS, -fd, "clone the tree at %s", path) : fd;
}
