/* swap DIR NAME LINK...: let NAME change places with each LINK in turn, there and back, without end.
 * Says "swapping" when it has begun. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int exchange(const char *one, const char *other)
{
    return renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE);
}

int main(int argc, char **argv)
{
    if (argc < 4 || chdir(argv[1]) < 0)
        return 2;
    for (int said = 0;; said = 1)
        for (int i = 3; i < argc; i++) {
            if (exchange(argv[2], argv[i]) < 0 || exchange(argv[2], argv[i]) < 0) {
                perror("swap");
                return 1;
            }
            if (!said && i == 3 && (puts("swapping") < 0 || fflush(stdout)))
                return 1;
        }
}
