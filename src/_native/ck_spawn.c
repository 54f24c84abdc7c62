/* ck_spawn.c - what Python needs of the launcher's side: to start it, and to hand it host trees. */
#include <sys/mman.h>
#include <sys/wait.h>

#include "ck_sys_ns.h"
#include "ck_wire.h"

enum { STACK = 64 << 10 };

struct spawn { /* in memory that all three processes share until the exec */
    int program, control, userns;
    int pid, pidfd; /* of the launcher */
    int failed;     /* errno of its clone or exec */
    char *stack;
};

struct source { /* likewise, until the process between has ended */
    const char *path;
    int recursive, read_only, userns, tree;
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
    CK_TRY(ck_close_range(CK_CONTROL_FD + 1, ~0U, 1));
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
    struct spawn *spawn = arg;
    const int own = spawn->userns == CK_NO_NAMESPACES ? 0 : CLONE_NEWPID | CLONE_NEWNS;
    const int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | own;

    if (spawn->userns >= 0)
        spawn->failed = -ck_setns(spawn->userns, CLONE_NEWUSER);
    if (spawn->failed)
        return 0;
    spawn->pid = clone(enter_launcher, spawn->stack + STACK, flags, spawn, &spawn->pidfd);
    if (spawn->pid < 0)
        spawn->failed = errno;
    return 0;
}

/* Signals are held back by sigprocmask, which in each libc of Linux is of the calling thread alone:
 * pthread_sigmask is in glibc's libc.so from 2.32 on only. */

/* Have run called by a process that shares memory and descriptors with us and is gone when this
 * returns.  Its stack is the upper half of what *stack is set to; the lower is for a child of its own. */
static int run_between(int (*run)(void *), void *arg, char **stack)
{
    sigset_t all, before;
    int pid, error = 0;

    *stack = mmap(NULL, 2 * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK,
                  -1, 0);
    if (*stack == MAP_FAILED)
        return -errno;
    sigfillset(&all); /* a handler of the embedding program must not run in the children */
    sigprocmask(SIG_SETMASK, &all, &before);
    pid = clone(run, *stack + 2 * STACK, CLONE_VM | CLONE_VFORK | CLONE_FILES, arg);
    if (pid < 0)
        error = -errno;
    while (pid > 0 && waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
        continue;
    sigprocmask(SIG_SETMASK, &before, NULL);
    munmap(*stack, 2 * STACK);
    return error;
}

int ck_spawn_launcher(int program, int control, int userns, int *pidfd)
{
    struct spawn spawn = {.program = program, .control = control, .userns = userns, .pidfd = -1};

    CK_TRY(run_between(between, &spawn, &spawn.stack));
    if (spawn.failed) {
        ck_close_at(&spawn.pidfd);
        return -spawn.failed;
    }
    *pidfd = spawn.pidfd;
    return spawn.pid;
}

static int open_source(const struct source *source)
{
    CK_OPEN(tree, ck_open_tree(AT_FDCWD, source->path, source->recursive ? AT_RECURSIVE : 0));
    if (source->read_only)
        CK_TRY(ck_mount_set(tree, MOUNT_ATTR_RDONLY, 0));
    return ck_steal_fd(&tree);
}

/* In a mount namespace of its own, a copy of ours; the tree outlives it. */
static int open_between(void *arg)
{
    struct source *source = arg;

    source->tree = ck_setns(source->userns, CLONE_NEWUSER);
    if (source->tree >= 0)
        source->tree = ck_unshare(CLONE_NEWNS);
    if (source->tree >= 0)
        source->tree = open_source(source);
    return 0;
}

int ck_open_source(const char *path, int recursive, int read_only, int userns)
{
    struct source source = {path, recursive, read_only, userns, -1};
    char *stack;

    if (userns < 0)
        return open_source(&source);
    CK_TRY(run_between(open_between, &source, &stack));
    return source.tree;
}

/* What the launcher mounts where it can not have the host's: refused while those that are seen from here
 * are covered in parts, or are of no namespace that we have rights in. */
static int try_mounts(void)
{
    CK_OPEN(proc, ck_new_mount("proc", "", 0, 0));
    CK_OPEN(sysfs, ck_new_mount("sysfs", "", 0, MOUNT_ATTR_RDONLY));
    return 0;
}

int ck_spawn_namespace(int trial, int *pidfd)
{
    const uint64_t more = trial ? CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET : 0;
    sigset_t all, before;
    int ends[2], pid;
    char end;

    CK_TRY(ck_pipe(ends));
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid = ck_clone(CLONE_NEWUSER | more, -1, pidfd);
    if (pid == 0) { /* nothing of ours stays open in it but what tells it our end */
        if (trial)
            ck_exit(-try_mounts());
        ck_dup_to(ends[0], 0);
        if (ck_close_range(1, ~0U, 0) < 0)
            ck_exit(1);
        ck_read(0, &end, 1);
        ck_exit(0);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    ck_close(ends[0]);
    if (pid < 0)
        ck_close(ends[1]);
    return pid < 0 ? pid : ends[1];
}
