/* hoard - takes all that it gets of the kernel's quotas of a user: inotify instances, queued signals. */
#include <signal.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MOST = 1000000 };

int main(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    int instances = 0, timers = 0, id;

    while (instances < MOST && inotify_init() >= 0)
        instances++;
    while (timers < MOST && syscall(SYS_timer_create, 0, &event, &id) == 0)
        timers++;
    printf("%d %d\n", instances, timers);
    fflush(stdout);
    pause();
    return 0;
}
