/* ck_spawn.c - what Python needs of the launcher's side: to start it, and to hand it host trees. */
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "ck_api.h"
#include "ck_sys_ns.h"
#include "ck_wire.h"

enum { STACK = 64 << 10 };

struct spawn { /* in memory that all three processes share until the exec */
    int program, control;
    int pid, pidfd; /* of the launcher */
    int failed;     /* errno of its clone or exec */
    char *stack;
};

/* Runs on memory shared with the embedding process, which is suspended until exec: system calls
 * only, no libc state, no locks. */
static int execute_launcher(const struct spawn *spawn)
{
    static char *const argv[] = {(char *)(uintptr_t)"ck-launcher", NULL};
    static char *const envp[] = {NULL};
    int null, program, control;

    /* above all that is overwritten: the embedding program may have closed its descriptors 0 to 2 */
    CK_TRY(program = ck_dup_above(spawn->program, 10));
    CK_TRY(control = ck_dup_above(spawn->control, 10));
    CK_TRY(null = ck_openat(AT_FDCWD, "/dev/null", O_RDWR, 0));
    CK_TRY(null = ck_dup_above(null, 10));
    for (int i = 0; i < CK_CONTROL_FD; i++)
        CK_TRY(ck_dup_to(null, i));
    CK_TRY(ck_dup_to(control, CK_CONTROL_FD));
    ck_close_range(CK_CONTROL_FD + 1, ~0U, 1);
    ck_setsid();
    ck_chdir("/");
    return ck_execveat(program, argv, envp);
}

static int enter_launcher(void *arg)
{
    struct spawn *spawn = arg;

    spawn->failed = -execute_launcher(spawn);
    ck_exit(127);
}

/* A process between us and the launcher, gone before we go on: so that the launcher is nobody's child
 * that the embedding program could wait for (exec gives every process SIGCHLD as its exit signal). */
static int between(void *arg)
{
    const int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_NEWPID | CLONE_NEWNS;
    struct spawn *spawn = arg;

    spawn->pid = clone(enter_launcher, spawn->stack + STACK, flags, spawn, &spawn->pidfd);
    if (spawn->pid < 0)
        spawn->failed = errno;
    return 0;
}

int ck_spawn_launcher(int program, int control, int *pidfd)
{
    struct spawn spawn = {.program = program, .control = control, .pidfd = -1};
    sigset_t all, before;
    int pid;

    spawn.stack = mmap(NULL, 2 * STACK, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (spawn.stack == MAP_FAILED)
        return -errno;
    sigfillset(&all); /* a handler of the embedding program must not run in the children */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid = clone(between, spawn.stack + 2 * STACK, CLONE_VM | CLONE_VFORK | CLONE_FILES, &spawn);
    if (pid < 0)
        spawn.failed = errno;
    while (pid > 0 && waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
        continue;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(spawn.stack, 2 * STACK);
    if (spawn.failed) {
        ck_close_at(&spawn.pidfd);
        return -spawn.failed;
    }
    *pidfd = spawn.pidfd;
    return spawn.pid;
}

int ck_watch_directory(const char *path)
{
    const uint32_t changes = IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_ONLYDIR;

    CK_OPEN(fd, ck_inotify());
    CK_TRY(ck_inotify_add(fd, path, changes));
    return ck_steal_fd(&fd);
}

int ck_open_source(const char *path, int recursive, int read_only)
{
    CK_OPEN(tree, ck_open_tree(AT_FDCWD, path, recursive ? AT_RECURSIVE : 0));
    if (read_only)
        CK_TRY(ck_mount_set(tree, MOUNT_ATTR_RDONLY, 0));
    return ck_steal_fd(&tree);
}
