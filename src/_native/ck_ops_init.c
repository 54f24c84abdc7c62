/* ck_ops_init.c - a first process that is not the command: an init, or one that only waits. */
#include "ck_child.h"

void ck_each_listed(int file, void (*act)(pid_t pid, void *arg), void *arg)
{
    pid_t pid = 0;
    char text[4096];
    ssize_t n;

    while ((n = ck_read(file, text, sizeof text)) > 0) {
        for (ssize_t i = 0; i < n; i++) { /* a number may go on in the next piece */
            if (text[i] >= '0') {
                pid = pid * 10 + (text[i] - '0');
                continue;
            }
            if (pid > 1)
                act(pid, arg);
            pid = 0;
        }
    }
}

/* What is a child of ours keeps its number until we wait for it: it can not have become another's. */
static void kill_orphan(pid_t pid, void *arg)
{
    if (ck_is_orphan(pid) >= 0)
        ck_kill(pid, SIGKILL);
}

void ck_end_orphans(int children)
{
    for (pid_t pid; children >= 0 && (pid = ck_reap_orphan()) != -ECHILD;)
        if (pid == 0 && ck_lseek(children, 0, SEEK_SET) == 0) {
            ck_each_listed(children, kill_orphan, NULL);
            ck_wait_for(-1, 0, 1); /* they are about to be dead */
        }
}

/* Reap whatever has ended, orphans too; the command's end is the container's. */
static void reap(pid_t command, int orphans)
{
    int status;
    pid_t pid;

    while ((pid = ck_reap(&status)) > 0)
        if (pid == command) {
            ck_end_orphans(orphans);
            ck_exit(status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff);
        }
}

/* The first process stays here: it holds nothing, least of all what the launcher knows of other
 * containers, and passes on every signal that it gets.  With its end the kernel kills the rest; without
 * a pid namespace it does that itself, with its launcher's end too. */
static _Noreturn void serve(const struct ck_child *child, pid_t command)
{
    const struct ck_child own = *child;
    const int orphans = own.orphans ? ck_dup_to(own.orphans, 0) : -1;

    if ((own.orphans && orphans < 0) || ck_close_range((unsigned)orphans + 1, ~0U, 0) < 0) {
        ck_kill(command,
                SIGKILL); /* rather none than one whose init holds what is the launcher's */
        ck_exit(127);
    }
    ck_name_process("ck-init");
    if (own.memory)
        ck_unmap(own.memory, own.memory_size);
    for (;;) {
        int signal = ck_next_signal();
        if (orphans >= 0 && ck_getppid() != own.parent)
            ck_kill(command, SIGKILL);
        if (signal == SIGCHLD)
            reap(command, orphans);
        else if (signal > 0)
            ck_kill(command, signal);
    }
}

int ck_op_init(struct ck_child *child, const struct ck_op *op)
{
    pid_t pid;

    /* before there is a command that one could be meant for; what is held never gets to its handler, but
     * /proc says that there is one */
    ck_set_signals(ck_exit, ~0ULL);
    /* had it ended before, the command could not say that it starts */
    if (child->orphans)
        CK_TRY(ck_signal_at_parents_end(SIGCHLD));
    CK_TRY(pid = ck_fork());
    if (pid > 0)
        serve(child, pid);
    if (child->orphans)
        CK_TRY(ck_close(child->orphans));
    ck_lead_group(); /* what its terminal sends comes to it alone, not through the first process again */
    ck_set_signals(NULL, 0);
    return 0;
}

/* Everything is mounted, and the launcher knows: stay until it lets go. */
int ck_op_park(struct ck_child *child, const struct ck_op *op)
{
    char nothing;
    int n = 0;

    CK_TRY(ck_dup_to(child->report, 0));
    CK_TRY(ck_close_range(1, ~0U, 0));
    while (ck_receive(0, &nothing, 1, NULL, &n, 1) > 0)
        continue;
    ck_exit(0);
}
