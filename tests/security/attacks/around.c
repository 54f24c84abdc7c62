/* around - say all that a process has of who started it, a line each: "what: value". */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

static void print_link(const char *what, const char *path)
{
    char text[4096];
    ssize_t n = readlink(path, text, sizeof text - 1);

    text[n < 0 ? 0 : n] = 0;
    printf("%s: %s\n", what, text);
}

static void print_descriptors(void)
{
    for (int fd = 0; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf("descriptor: %d\n", fd);
}

static void print_status(void)
{
    static const char *const wanted[] = {"SigBlk", "SigIgn", "SigCgt", "Groups", "Uid",
                                         "Gid",    "Umask",  "CapInh", "CapAmb", "TracerPid"};
    FILE *file = fopen("/proc/self/status", "r");
    char line[512];

    while (file && fgets(line, sizeof line, file))
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (strncmp(line, wanted[i], strlen(wanted[i])) == 0)
                fputs(line, stdout);
    if (file)
        fclose(file);
}

int main(int argc, char **argv)
{
    int tty = open("/dev/tty", O_RDWR);

    for (int i = 0; i < argc; i++)
        printf("argument: %s\n", argv[i]);
    for (char **one = environ; *one; one++)
        printf("environment: %s\n", *one);
    printf("executed: %s\n", (const char *)getauxval(AT_EXECFN));
    print_link("directory", "/proc/self/cwd");
    print_link("root", "/proc/self/root");
    print_status();
    printf("terminal: %s\n", tty < 0 ? strerror(errno) : ttyname(tty));
    close(tty);
    printf("personality: %x\n", (unsigned)personality(0xffffffff));
    printf("scheduling: %d\n", sched_getscheduler(0));
    printf("niceness: %d\n", getpriority(PRIO_PROCESS, 0));
    printf("io priority: %ld\n", syscall(SYS_ioprio_get, 1, 0));
    printf("secure bits: %x\n", (unsigned)prctl(PR_GET_SECUREBITS));
    printf("timer slack: %d\n", prctl(PR_GET_TIMERSLACK));
    printf("no huge pages: %d\n", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    printf("merges pages: %d\n", prctl(68 /* PR_GET_MEMORY_MERGE */, 0, 0, 0, 0));
    printf("keeps capabilities: %d\n", prctl(PR_GET_KEEPCAPS));
    printf("death signal: %d\n", ({
               int number = 0;
               prctl(PR_GET_PDEATHSIG, &number);
               number;
           }));
    printf("subreaper: %d\n", ({
               int is = 0;
               prctl(PR_GET_CHILD_SUBREAPER, &is);
               is;
           }));
    print_descriptors();
    return 0;
}
