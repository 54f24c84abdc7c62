/* buffers - fills connections to itself that nobody reads from, and says how many bytes they took. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static char some[1 << 20];
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    int listener = socket(AF_INET, SOCK_STREAM, 0), made = argc > 1 ? atoi(argv[1]) : 1;
    long taken = 0;

    if (bind(listener, (struct sockaddr *)&here, size) || listen(listener, made) ||
        getsockname(listener, (struct sockaddr *)&here, &size))
        return 1;
    while (made-- > 0) {
        int one = socket(AF_INET, SOCK_STREAM, 0);
        ssize_t n;

        if (connect(one, (struct sockaddr *)&here, size) || accept(listener, NULL, NULL) < 0)
            break;
        while ((n = send(one, some, sizeof some, MSG_DONTWAIT)) > 0)
            taken += n;
    }
    printf("%ld end\n", taken);
    fflush(stdout);
    pause();
    return 0;
}
