/* ck_launcher_log.c - what a kept container writes, and where its input comes from.
 *
 * What one read gives becomes one record at the end of "containers/ID/log", by one write
 * (stdio/records.py).  At its cap the file becomes log.1, the one before log.2, and so on.  Nothing
 * here waits: a stream is read when it has something, once a turn of the loop, and what the log can
 * not take is counted and dropped, so that a container never waits for a disk or a reader.
 */
#include "ck_launcher.h"

enum { DRAIN_MAX = 64 }; /* reads of a stream at the end: more than a pipe holds */

/* ---- the files */

static void name_file(const struct ck_container *c, uint32_t number, char name[112])
{
    const int n = snprintf(name, 112, "%s/log", c->dir);

    if (number)
        snprintf(name + n, (size_t)(112 - n), ".%u", number);
}

static void rotate(const struct ck_launcher *l, struct ck_container *c)
{
    char from[112], to[112];
    struct stat st;

    name_file(c, c->log.max_files - 1, to);
    if (ck_fstatat(l->store, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
        c->state.dropped += (uint64_t)st.st_size;
    ck_unlinkat(l->store, to, 0);
    for (uint32_t i = c->log.max_files - 1; i > 0; i--) {
        name_file(c, i - 1, from);
        ck_renameat(l->store, from, l->store, to);
        memcpy(to, from, sizeof to);
    }
    ck_close_at(&c->log.file);
}

static int open_file(const struct ck_launcher *l, struct ck_container *c)
{
    const int flags = O_CREAT | O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK;
    struct stat st;
    char name[112];

    name_file(c, 0, name);
    CK_TRY(c->log.file = ck_openat(l->store, name, flags, 0600));
    CK_TRY(ck_fstat(c->log.file, &st));
    c->log.size = (uint64_t)st.st_size;
    return 0;
}

/* Append the record in the buffer; a part of one would make what follows unreadable. */
static void append(struct ck_launcher *l, struct ck_container *c, uint32_t size)
{
    const size_t length = offsetof(struct ck_record, data) + size + sizeof size;
    ssize_t wrote;

    if (!c->log.max_bytes)
        return;
    if (c->log.file >= 0 && c->log.size && c->log.size + length > c->log.max_bytes)
        rotate(l, c);
    wrote = c->log.file < 0 ? open_file(l, c) : 0;
    if (wrote >= 0)
        wrote = ck_write(c->log.file, &l->record, length);
    if (wrote == (ssize_t)length) {
        c->log.size += length;
        return;
    }
    c->state.dropped += size;
    if (wrote > 0 && ck_ftruncate(c->log.file, (off_t)c->log.size) < 0)
        rotate(l, c);
}

/* ---- streams */

/* Nobody has the terminal open, not even we: it was hung up (vhangup(2)).  Whoever opens it finds it in
 * order all the same; without its master it could not be opened, and its session would get SIGHUP. */
static void open_again(struct ck_launcher *l, struct ck_container *c)
{
    ck_close_at(&c->log.slave);
    c->log.slave = ck_open_peer(c->log.output[0]);
    if (c->log.slave <
        0) /* what it says is not read any more: epoll would tell the hang-up for ever */
        ck_epoll_set(l->epoll, EPOLL_CTL_DEL, c->log.output[0], 0, 0);
}

int ck_log_take(struct ck_launcher *l, struct ck_container *c, int stream)
{
    struct ck_record *record = &l->record;
    ssize_t got;

    if (c->log.output[stream] < 0)
        return 0;
    got = ck_read(c->log.output[stream], record->data, CK_RECORD_DATA);
    if (got == -EIO && c->log.slave >= 0)
        open_again(l, c);
    else if (got <= 0 && got != -EAGAIN)
        ck_launcher_unwatch(l, &c->log.output[stream]);
    if (got <= 0)
        return 0;
    const uint32_t size = (uint32_t)got;
    record->size = size;
    record->stream = (uint8_t)(stream + 1);
    record->inside = c->log.open[stream];
    c->log.open[stream] = record->data[size - 1] != '\n';
    record->magic = CK_RECORD_MAGIC;
    record->time_ns = ck_now(CLOCK_REALTIME);
    memcpy(record->data + size, &size, sizeof size);
    append(l, c, size);
    return 1;
}

/* All its processes are dead: what is in its pipes is all that comes. */
void ck_log_finish(struct ck_launcher *l, struct ck_container *c)
{
    ck_close_at(&c->log.slave); /* what a terminal has left ends now */
    for (int stream = 0; stream < 2; stream++) {
        for (int n = 0; c->log.max_bytes && n < DRAIN_MAX && ck_log_take(l, c, stream); n++)
            continue;
        ck_launcher_unwatch(l, &c->log.output[stream]);
    }
    ck_log_close_input(l, c);
    ck_close_at(&c->log.file);
}

/* ---- setting up */

/* Make a pipe; its one end fills a slot, the other one is kept. */
static int add_pipe(struct ck_start *start, int16_t slot, int *ours, int writes)
{
    int pair[2];

    if (slot < 0)
        return 0;
    CK_TRY(ck_pipe(pair));
    start->slots[slot] = pair[!writes];
    *ours = pair[writes];
    return writes ? 0 : ck_set_nonblocking(*ours); /* who attaches may wait to write */
}

/* Whether a launcher was killed while it ran this container, so that its log may end in half a
 * record: that must stay the end of its file. */
static int was_lost(const struct ck_container *c)
{
    struct ck_state before;

    return ck_pread(c->lock, &before, sizeof before, 0) == sizeof before &&
           before.magic == CK_WIRE_MAGIC &&
           (before.status != CK_STATE_STOPPED || before.cause == CK_CAUSE_LOST);
}

int ck_log_open(struct ck_start *start, const struct ck_op *op)
{
    struct ck_launcher *l = start->launcher;
    struct ck_container *c = start->container;
    const int again = c->log.max_files != 0; /* restarted by us: the record is of our own making */

    if (!c->dir[0] || op->value[1] < 1 || op->value[1] > CK_LOG_FILES)
        return -EINVAL;
    c->log.max_bytes = op->value[0];
    c->log.max_files = (uint32_t)op->value[1];
    memset(c->log.open, 0, sizeof c->log.open);
    CK_TRY(add_pipe(start, op->fd[0], &c->log.input, 1));
    for (int stream = 0; stream < 2; stream++) {
        int *output = &c->log.output[stream];
        CK_TRY(add_pipe(start, op->fd[stream + 1], output, 0));
        if (*output >= 0)
            CK_TRY(ck_container_watch(l, c, *output, CK_WATCH_LOG_STDOUT + stream));
    }
    if (!c->log.max_bytes)
        return 0;
    if (!again && was_lost(c))
        rotate(l, c);
    return open_file(l, c);
}

/* The slave is held until the end: a terminal that nobody has open reads as EIO, and is to be there for
 * whoever opens it later, as long as its container runs. */
void ck_log_terminal(struct ck_launcher *l, struct ck_container *c, int master, int slave)
{
    ck_launcher_unwatch(l, &c->log.output[0]);
    ck_close_at(&c->log.slave);
    c->log.output[0] = master;
    c->log.slave = slave;
    c->log.terminal = 1;
    if (c->flags != CK_PLAN_KEPT) /* its caller reads it: STARTED takes it there */
        return;
    ck_set_nonblocking(master);
    ck_container_watch(l, c, master, CK_WATCH_LOG_STDOUT);
}

/* ---- input */

int ck_log_input(struct ck_launcher *l, struct ck_container *c)
{
    const int input = c->log.terminal ? c->log.output[0] : c->log.input;

    if (input < 0)
        return c->status == CK_STARTING ? -EAGAIN : -ENOTCONN; /* its terminal comes yet */
    return ck_dup_above(input, 0);
}

int ck_log_close_input(struct ck_launcher *l, struct ck_container *c)
{
    const int input = ck_steal_fd(&c->log.input);

    return input < 0 ? -ENOTCONN : ck_close(input);
}
