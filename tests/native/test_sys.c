/* The system-call layer: the conventions that everything else relies on. */
#define _GNU_SOURCE
#include "ck_sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>

#include "check.h"

static void failures_are_negative_errnos(void)
{
    errno = 0;
    CHECK_INT(ck_openat(AT_FDCWD, "/does/not/exist", O_RDONLY, 0), -ENOENT);
    CHECK_INT(ck_close(-1), -EBADF);
    CHECK_INT(ck_mkdirat(AT_FDCWD, "/", 0755), -EEXIST);
}

static void descriptors_close_on_exec(void)
{
    CK_CLEANUP_FD int fd = ck_openat(AT_FDCWD, "/dev/null", O_RDWR, 0);

    CHECK(fd >= 0);
    CHECK_INT(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

static void a_stolen_descriptor_stays_open(void)
{
    int kept;

    {
        CK_CLEANUP_FD int fd = ck_openat(AT_FDCWD, "/dev/null", O_RDONLY, 0);

        kept = ck_steal_fd(&fd);
        CHECK_INT(fd, -1);
    }
    CHECK(fcntl(kept, F_GETFD) >= 0);
    CHECK_INT(ck_close(kept), 0);
    CHECK_INT(ck_close(kept), -EBADF);
}

static void openat2_stays_beneath(void)
{
    CK_CLEANUP_FD int dir = ck_openat(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY, 0);

    CHECK(dir >= 0);
    CHECK_INT(ck_openat2(dir, "../etc", O_PATH, 0, RESOLVE_BENEATH), -EXDEV);
    CHECK_INT(ck_openat2(dir, "self/root", O_PATH, 0, RESOLVE_NO_MAGICLINKS), -ELOOP);
}

int main(void)
{
    failures_are_negative_errnos();
    descriptors_close_on_exec();
    a_stolen_descriptor_stays_open();
    openat2_stays_beneath();
    return 0;
}
