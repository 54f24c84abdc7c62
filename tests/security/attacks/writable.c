/* writable DIRECTORY... - walk and print each file that somebody may write to and that opens for it;
 * nothing is written.  What belongs to processes is left out. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void walk(const char *path, int depth)
{
    DIR *dir = depth < 12 ? opendir(path) : NULL;
    const struct dirent *entry;

    while (dir && (entry = readdir(dir)) != NULL) {
        char inner[4096];
        struct stat st;
        int fd;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            (strcmp(path, "/proc") == 0 && strchr("0123456789", entry->d_name[0])))
            continue;
        if (snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name) >= (int)sizeof inner ||
            lstat(inner, &st) < 0 || S_ISLNK(st.st_mode))
            continue;
        if (S_ISDIR(st.st_mode)) {
            walk(inner, depth + 1);
            continue;
        }
        fd = S_ISREG(st.st_mode) && st.st_mode & 0222 ? open(inner, O_WRONLY | O_NONBLOCK) : -1;
        if (fd >= 0) {
            puts(inner);
            close(fd);
        }
    }
    if (dir)
        closedir(dir);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        walk(argv[i], 0);
    return 0;
}
