/* terminals - opens terminals until there are no more, says how many and why, and keeps them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    int count = 0;

    while (open("/dev/ptmx", O_RDWR | O_NOCTTY) >= 0)
        count++;
    printf("%d %d end\n", count, errno);
    fflush(stdout);
    pause();
    return 0;
}
