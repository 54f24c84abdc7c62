/* call NUMBER [ARGUMENT...] - one system call, whatever it is; prints what the kernel returned.
 *
 * An argument is a number, "text:..." (its address), or "room:SIZE" (the address of so many zeros).
 * Several calls in one process are separated by "--"; "=" as an argument is the last result.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long last;

static long value(char *argument)
{
    if (strncmp(argument, "text:", 5) == 0)
        return (long)(argument + 5);
    if (strncmp(argument, "room:", 5) == 0)
        return (long)calloc(1, strtoul(argument + 5, NULL, 0));
    if (strcmp(argument, "=") == 0)
        return last;
    return (long)strtoull(argument, NULL, 0);
}

int main(int argc, char **argv)
{
    for (int at = 1; at < argc; at++) {
        long words[7] = {0};
        for (int n = 0; at < argc && strcmp(argv[at], "--") != 0; at++, n++)
            words[n % 7] = value(argv[at]);
        last = syscall(words[0], words[1], words[2], words[3], words[4], words[5], words[6]);
        printf("%ld\n", last < 0 ? -(long)errno : last);
        fflush(stdout);
    }
    return 0;
}
