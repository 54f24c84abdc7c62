/* kernel.c - descriptors that are numbers, memory that is of the size that was asked for, processes
 * that are words.  A descriptor that is used after it was closed is a finding. */
#include "kernel.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/statfs.h>

struct kernel k;

int fate(void)
{
    if (++k.calls > CALLS)
        longjmp(k.over, 1);
    if (k.fail_in && --k.fail_in == 0)
        return k.error;
    return 0;
}

uint8_t take(void)
{
    if (!k.left)
        longjmp(k.over, 1);
    k.left--;
    return *k.script++;
}

size_t take_bytes(uint8_t *into, size_t most)
{
    size_t size = take();

    size = size << 8 | take();
    size = size < k.left ? size : k.left;
    size = size < most ? size : most;
    memcpy(into, k.script, size);
    k.script += size;
    k.left -= size;
    return size;
}

static volatile size_t seen; /* so that what is read is read */

static void look_at(const void *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        seen += ((const uint8_t *)data)[i];
}

/* ---- descriptors */

static bool is_open(int fd)
{
    return fd < 0 || k.child || (fd < DESCRIPTORS && k.fds[fd].open);
}

int new_fd(void)
{
    int error = fate(), fd = CK_CONTROL_FD + 1;

    if (error)
        return error;
    while (fd < DESCRIPTORS && k.fds[fd].open)
        fd++;
    if (fd == DESCRIPTORS)
        return -EMFILE;
    k.fds[fd] = (struct descriptor){.open = true};
    return fd;
}

int ck_close(int fd)
{
    HOLDS(is_open(fd));
    if (fd >= 0 && fd < DESCRIPTORS)
        k.fds[fd] = (struct descriptor){.open = false};
    return fd < 0 ? -EBADF : 0;
}

void ck_close_at(int *fd)
{
    if (*fd >= 0)
        ck_close(*fd);
    *fd = -1;
}

int ck_steal_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

int ck_openat(int dirfd, const char *path, int flags, mode_t mode)
{
    int fd = new_fd();

    HOLDS(is_open(dirfd) && strlen(path) < 4096);
    if (fd >= 0)
        k.fds[fd].processes = strstr(path, "cgroup.procs");
    return fd;
}

int ck_openat2(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    return ck_openat(dirfd, path, flags, mode);
}

int ck_open_tree(int dirfd, const char *path, unsigned flags)
{
    return ck_openat(dirfd, path, 0, 0);
}

int ck_fs_open(const char *type)
{
    return new_fd();
}

int ck_fs_set(int fs, const char *key, const char *value)
{
    HOLDS(is_open(fs));
    look_at(key, strlen(key));
    look_at(value, value ? strlen(value) : 0);
    return k.world & 1 && strcmp(key, "nobody-knows-this") == 0 ? -EINVAL : fate();
}

int ck_fs_mount(int fs, unsigned attrs)
{
    HOLDS(is_open(fs));
    return new_fd();
}

int ck_new_mount(const char *type, const char *options, uint32_t n, unsigned attrs)
{
    look_at(type, strlen(type));
    for (; n > 0; n--, options += strlen(options) + 1)
        look_at(options, strlen(options));
    return new_fd();
}

int ck_pidfd_open(pid_t pid)
{
    return new_fd();
}

int ck_dup_above(int fd, int least)
{
    HOLDS(is_open(fd));
    return new_fd();
}

int ck_dup_to(int fd, int number)
{
    HOLDS(is_open(fd));
    return number;
}

int ck_accept(int listener)
{
    return new_fd();
}

int ck_epoll(void)
{
    return new_fd();
}

int ck_open_peer(int master)
{
    HOLDS(is_open(master));
    return new_fd();
}

int ck_open_slave(int master, uint16_t rows, uint16_t columns)
{
    return new_fd();
}

static int new_pair(int out[2])
{
    out[0] = new_fd();
    if (out[0] < 0)
        return out[0];
    out[1] = new_fd();
    if (out[1] < 0)
        ck_close(out[0]);
    return out[1] < 0 ? out[1] : 0;
}

int ck_pipe(int out[2])
{
    return new_pair(out);
}

int ck_socketpair(int out[2])
{
    return new_pair(out);
}

int ck_epoll_set(int epoll, int op, int fd, uint32_t events, uint64_t data)
{
    HOLDS(is_open(fd));
    if (fd < 0 || fd >= DESCRIPTORS)
        return -EBADF;
    k.fds[fd].watched = op == EPOLL_CTL_ADD;
    k.fds[fd].tag = data;
    return op == EPOLL_CTL_ADD ? fate() : 0;
}

/* ---- reading and writing */

ssize_t ck_write(int fd, const void *buf, size_t len)
{
    int error = fate();

    HOLDS(is_open(fd));
    look_at(buf, len);
    if (fd < 0)
        return -EBADF;
    return error ? error : k.world & 1 ? (ssize_t)(len / 2) : (ssize_t)len;
}

int ck_write_all(int fd, const void *buf, size_t len)
{
    HOLDS(is_open(fd));
    look_at(buf, len);
    return fate();
}

ssize_t ck_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    return ck_write(fd, buf, len);
}

/* A file of the kernel's, or what a container says. */
ssize_t ck_read(int fd, void *buf, size_t len)
{
    static const char *const texts[] = {"oom_kill 1\n", "FROZEN\n", "frozen 1\n", "x"};
    int error = fate();

    HOLDS(is_open(fd));
    if (fd < 0 || error)
        return fd < 0 ? -EBADF : error;
    if (k.calls % 7 == 0)
        return 0;
    if (fd < DESCRIPTORS && k.fds[fd].processes)
        return (ssize_t)strlen(strcpy(buf, "2\n3\n4194304\n"));
    if (k.world & 2) {
        memset(buf, 'x', len);
        return (ssize_t)len;
    }
    snprintf(buf, len, "%s", texts[k.world >> 2 & 3]);
    return (ssize_t)strlen(buf);
}

ssize_t ck_pread(int fd, void *buf, size_t len, off_t offset)
{
    HOLDS(is_open(fd));
    memset(buf, (int)k.world, len);
    return k.world & 4 ? (ssize_t)len : 0;
}

int ck_fstat(int fd, struct stat *st)
{
    HOLDS(is_open(fd));
    *st = (struct stat){.st_size = (off_t)k.blob_size, .st_mode = k.world & 8 ? S_IFREG : S_IFDIR};
    return fate();
}

int ck_fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
    return ck_fstat(dirfd, st);
}

int ck_fstatfs(int fd, struct statfs *st)
{
    memset(st, 0, sizeof *st);
    st->f_type = k.world & 64 ? 0 : PROC_SUPER_MAGIC;
    return fate();
}

ssize_t ck_readlinkat(int dirfd, const char *path, char *buf, size_t len)
{
    memset(buf, 'l', len);
    return k.world & 16 ? -ENOENT : (ssize_t)len;
}

int ck_seals(int memfd)
{
    return k.world & 32 ? 0 : 15;
}

int ck_get_rlimit(int resource, uint64_t limit[2])
{
    limit[0] = limit[1] = k.world & 64 ? 300 : 20000;
    return fate();
}

/* ---- packets */

ssize_t ck_send(int fd, const void *buf, size_t len, const int *fds, int n_fds)
{
    int error = fate();

    HOLDS(is_open(fd));
    look_at(buf, len);
    for (int i = 0; i < n_fds; i++)
        HOLDS(fds[i] >= 0 && is_open(fds[i]));
    return fd < 0 ? -EBADF : error ? error : (ssize_t)len;
}

/* The first that is received is HELLO. */
static ssize_t greet(struct ck_hello *hello, int *fds, int *n_fds)
{
    static const char *const names[] = {"pids", "memory", "freezer", "cpuset"};

    memset(hello, 0, sizeof *hello);
    hello->packet = (struct ck_packet){CK_WIRE_MAGIC, CK_WIRE_VERSION, CK_HELLO,
                                       sizeof *hello - sizeof hello->packet, 0};
    memset(hello->id, 'e', sizeof hello->id);
    for (int i = 0; i < 4; i++)
        strcpy(hello->controllers[i], k.world & 128 ? "unified" : names[i]);
    hello->netns_pool = 2;
    hello->n_common = k.world & 128 ? 1 : 3;
    hello->flags = CK_SPARES | (k.world & (CK_CLASSIC_OVERLAY | CK_OUTSIDE | CK_USER_MARKS));
    *n_fds = k.world & 128 ? 4 : 7;
    for (int i = 0; i < *n_fds; i++)
        fds[i] = new_fd();
    k.greeted = true;
    return sizeof *hello;
}

ssize_t ck_receive(int fd, void *buf, size_t len, int *fds, int *n_fds, int wait)
{
    size_t size = k.size < len ? k.size : len;
    int most = *n_fds, error = fate();

    HOLDS(is_open(fd));
    if (!k.greeted)
        return greet(buf, fds, n_fds);
    *n_fds = 0;
    if (error)
        return error;
    if (wait && k.child && fd != k.pending) /* in a child: the next thing that is said */
        k.size = size = take_bytes(buf, len), k.pending = -1;
    else if (fd != k.pending)
        return wait ? 0 : -EAGAIN;
    else
        memcpy(buf, k.packet, size);
    k.pending = -1;
    if (k.size > len)
        return -EMSGSIZE;
    for (; *n_fds < most && *n_fds < k.n_fds; ++*n_fds)
        if ((fds[*n_fds] = new_fd()) < 0)
            break;
    return (ssize_t)size;
}

/* ---- memory */

/* The launcher's table, of which only what was used is cleared afterwards. */
static void *get_table(void)
{
    static void *table;

    if (!table)
        table = mmap(NULL, sizeof(struct ck_launcher), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    HOLDS(table != MAP_FAILED);
    return table;
}

void *ck_map(int fd, size_t size)
{
    struct map *map = k.maps;

    while (map < k.maps + MAPS && map->at)
        map++;
    if (fate() || map == k.maps + MAPS || !size || size > 1 << 26)
        return NULL;
    map->at = size == sizeof(struct ck_launcher) ? get_table() : calloc(1, size);
    HOLDS(map->at);
    map->size = size;
    if (fd >= 0)
        memcpy(map->at, k.blob, size < k.blob_size ? size : k.blob_size);
    return map->at;
}

int ck_unmap(void *at, size_t size)
{
    struct map *map = k.maps;

    while (map < k.maps + MAPS && map->at != at)
        map++;
    HOLDS(map < k.maps + MAPS && map->size == size);
    if (size == sizeof(struct ck_launcher))
        HOLDS(madvise(at, size, MADV_DONTNEED) == 0);
    else
        free(at);
    map->at = NULL;
    return 0;
}

/* ---- processes */

pid_t ck_clone(uint64_t flags, int cgroup, int *pidfd)
{
    int fd = new_fd();

    if (fd < 0)
        return fd;
    *pidfd = fd;
    if (k.world % 11 != 10)
        return 1000 + fd;
    k.child = true;
    return 0;
}

pid_t ck_fork(void)
{
    k.child = true;
    return fate() ? -EAGAIN : k.world & 1 ? 0 : 7;
}

int ck_pidfd_kill(int pidfd, int signal)
{
    HOLDS(is_open(pidfd));
    if (signal == SIGKILL && pidfd >= 0 && pidfd < DESCRIPTORS)
        k.fds[pidfd].killed = true;
    return 0;
}

int ck_kill_and_wait(int pidfd)
{
    HOLDS(is_open(pidfd));
    return fate();
}

int ck_wait_pidfd(int pidfd, int *code, int *signal, struct rusage *usage)
{
    HOLDS(is_open(pidfd));
    if (pidfd < 0 || pidfd >= DESCRIPTORS || !k.fds[pidfd].killed)
        return -EAGAIN;
    *code = k.world & 1 ? (int)k.world : 0;
    *signal = k.world & 1 ? 0 : k.world & 2 ? SIGKILL : (int)(k.world >> 2 & 31);
    return 0;
}

int ck_wait_for(int fd, short events, int timeout_ms)
{
    int error = fate();

    HOLDS(is_open(fd));
    return error ? error : timeout_ms < 0 || k.world & 4;
}

int ck_execve(const char *path, char *const argv[], char *const envp[])
{
    look_at(path, strlen(path));
    for (; *argv; argv++)
        look_at(*argv, strlen(*argv));
    for (; *envp; envp++)
        look_at(*envp, strlen(*envp));
    return -ENOENT;
}

/* At a launcher's end: it holds what it has for itself and for those who are connected, no more. */
static void check_leaks(const struct ck_launcher *l)
{
    const int own[] = {l->control, l->owner, l->listener, l->run,     l->claim,
                       l->reserve, l->epoll, l->store,    l->host_net};
    bool known[DESCRIPTORS] = {false};

    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i] > 0)
            known[own[i]] = true;
    for (int i = 0; i < l->n_controllers; i++)
        known[l->controllers[i]] = true;
    for (uint32_t i = 0; i < l->pooled; i++)
        known[l->pool[i]] = true;
    for (int i = 0; i < CK_CONNECTIONS; i++)
        if (l->connections[i].fd > 0)
            known[l->connections[i].fd] = true;
    for (int fd = 0; fd < DESCRIPTORS; fd++)
        HOLDS(!k.fds[fd].open || known[fd]);
    for (int i = 1; i < MAPS; i++)
        HOLDS(!k.maps[i].at);
}

void ck_exit(int code)
{
    if (!code && !k.child)
        check_leaks(k.maps[0].at);
    longjmp(k.over, 1);
}

int ck_unlinkat(int dirfd, const char *path, int flags)
{
    HOLDS(is_open(dirfd));
    look_at(path, strlen(path));
    if (flags & AT_REMOVEDIR && k.world >> 4 == 15 && k.calls % 3) /* somebody is in that group */
        return -EBUSY;
    return fate() ? -EBUSY : k.calls % 5 ? 0 : -ENOENT;
}

int ck_peer_uid(int socket, uid_t *uid)
{
    *uid = k.world % 13 == 12 ? 1000 : 0;
    return fate();
}

uint64_t ck_now(clockid_t clock)
{
    return k.now += 1000;
}

int ck_set_groups(size_t n, const uint32_t *groups)
{
    look_at(groups, n * sizeof *groups);
    return fate();
}

int ck_seccomp(const struct sock_filter *filter, size_t n)
{
    look_at(filter, n * 8);
    return fate();
}

int ck_limit_devices(int group, const void *program, size_t size)
{
    HOLDS(is_open(group));
    look_at(program, size);
    return fate();
}

int ck_set_ids(uint32_t uid, uint32_t gid)
{
    return fate();
}

void ck_run_ordinarily(void)
{
}

int ck_set_fs_ids(uint32_t uid, uint32_t gid)
{
    return fate();
}

int ck_set_caps(uint64_t bounding, uint64_t permitted)
{
    return fate();
}

int ck_make_dir(int dirfd, const char *path, mode_t mode)
{
    HOLDS(is_open(dirfd));
    return fate();
}

int ck_pivot_here(void)
{
    return fate();
}

int ck_loopback_up(void)
{
    return fate();
}

void ck_set_signals(void (*handler)(int), uint64_t mask)
{
    fate();
}
