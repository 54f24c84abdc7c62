/* ck_fault.c - counts calls in the page named by CK_FAULT_PAGE and fails the chosen one. */
#include "ck_fault.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct ck_fault_page *page;

/* While the host's tree can still be seen: a launcher opens it by its first call. */
static struct ck_fault_page *find_page(void)
{
    long fd, at;

    if (page)
        return page;
    fd = syscall(SYS_openat, AT_FDCWD, CK_FAULT_PAGE, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    at = syscall(SYS_mmap, NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (at > 0 || at < -4095)
        page = (struct ck_fault_page *)at;
    return page;
}

static void pause_a_little(void)
{
    const struct timespec millisecond = {.tv_nsec = 1000000};

    syscall(SYS_nanosleep, &millisecond, NULL);
}

/* Of what its class may say: EINTR only where a call waits for a disk or a peer; and a message needs
 * memory, not a descriptor. */
static int may_say(const char *name, int error)
{
    static const char *const waiting[] = {"open", "write", "truncate", "accept"};

    if (strstr(name, "sendmsg") || strstr(name, "recvmsg"))
        return error == EINTR || error == ENOMEM || !error;
    for (size_t i = 0; i < sizeof waiting / sizeof *waiting; i++)
        if (strstr(name, waiting[i]))
            return 1;
    return error != EINTR;
}

int ck_fault_in(uint32_t class, const char *name)
{
    struct ck_fault_page *p = find_page();

    if (!p || !__atomic_load_n(&p->armed, __ATOMIC_ACQUIRE) || !(p->classes & class) ||
        !may_say(name, p->errnum) || __atomic_add_fetch(&p->count, 1, __ATOMIC_ACQ_REL) != p->nth)
        return 0;
    strncpy(p->name, name, sizeof p->name - 1);
    p->pid = (uint32_t)syscall(SYS_getpid);
    __atomic_store_n(&p->hit, 1, __ATOMIC_RELEASE);
    while (!p->errnum && __atomic_load_n(&p->armed, __ATOMIC_ACQUIRE))
        pause_a_little();
    return -p->errnum;
}

static const struct {
    const char *prefix;
    uint32_t class;
} classes[] = {
    {"ck_openat", FAULT_OPEN},         {"ck_open_tree", FAULT_MOUNT},
    {"ck_write", FAULT_WRITE},         {"ck_pwrite", FAULT_WRITE},
    {"ck_writev", FAULT_WRITE},        {"ck_ftruncate", FAULT_WRITE},
    {"ck_renameat", FAULT_RENAME},     {"ck_mkdirat", FAULT_MKDIR},
    {"ck_mknodat", FAULT_MKDIR},       {"ck_symlinkat", FAULT_MKDIR},
    {"ck_linkat", FAULT_MKDIR},        {"ck_new_mount", FAULT_MOUNT},
    {"ck_move_mount", FAULT_MOUNT},    {"ck_mount_set", FAULT_MOUNT},
    {"ck_mount_private", FAULT_MOUNT}, {"ck_umount", FAULT_MOUNT},
    {"ck_clone", FAULT_CLONE},         {"ck_unshare", FAULT_CLONE},
    {"ck_setns", FAULT_CLONE},         {"ck_map", FAULT_MMAP},
    {"ck_socketpair", FAULT_SOCKET},   {"ck_sendmsg", FAULT_SOCKET},
    {"ck_recvmsg", FAULT_SOCKET},      {"ck_accept", FAULT_SOCKET},
    {"ck_pipe", FAULT_SOCKET},         {"ck_epoll", FAULT_SOCKET},
    {"ck_mount_map", FAULT_MOUNT},
};

int ck_fault(const char *name);

int ck_fault(const char *name)
{
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strncmp(name, classes[i].prefix, strlen(classes[i].prefix)) == 0)
            return ck_fault_in(classes[i].class, name);
    find_page();
    return 0;
}
