/* call NUMBER [ARGUMENT...] - one system call, whatever it is; prints what the kernel returned.
 *
 * An argument is a number, "hex:..." (the address of these bytes and a zero), or "=", the last result.
 * Several calls in one process are separated by "--".
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long last;

static long bytes(const char *hex)
{
    size_t size = strlen(hex) / 2;
    char *made = calloc(1, size + 1);

    for (size_t i = 0; made && i < size; i++) {
        const char digits[] = {hex[2 * i], hex[2 * i + 1], 0};
        made[i] = (char)strtoul(digits, NULL, 16);
    }
    return (long)made;
}

static long value(const char *argument)
{
    if (strncmp(argument, "hex:", 4) == 0)
        return bytes(argument + 4);
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
