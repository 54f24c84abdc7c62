/* sibling - makes so many processes that are its parent's children: they end at once, or with "stay" never. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int made = 0;

    for (int i = argc > 1 ? atoi(argv[1]) : 0; i > 0; i--) {
        long pid = syscall(SYS_clone, CLONE_PARENT | 17, 0, 0, 0, 0);
        if (pid == 0) {
            setsid();
            while (argc > 2)
                pause();
            _exit(42);
        }
        made += pid > 0;
    }
    printf("%d\n", made);
    return 0;
}
