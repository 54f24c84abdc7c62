/* hold - traces all that there is to see, but the first process and itself, and waits for none of it,
 * until its input ends.  With an argument it also has each stop where it is about to end. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <unistd.h>

enum { PIDS = 200, AT_EXIT = PTRACE_O_TRACEEXIT };

int main(int argc, char **argv)
{
    struct pollfd input = {.fd = 0, .events = POLLIN};
    const pid_t self = getpid();
    int held = 0;

    (void)argv;
    puts("ready");
    fflush(stdout);
    while (poll(&input, 1, 0) == 0)
        for (pid_t pid = 2; pid < self + PIDS; pid++)
            if (pid != self && ptrace(PTRACE_SEIZE, pid, 0, argc > 1 ? AT_EXIT : 0) == 0)
                held++;
    printf("%d\n", held);
    return 0;
}
