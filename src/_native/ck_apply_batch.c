#define _GNU_SOURCE
#include "ck_apply.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include "ck_sys.h"
#include "ck_sys_ns.h"

/* Making a file costs about 20 us of kernel time, most of what unpacking costs.  Files that lie
 * whole in the bytes at hand are therefore only noted, with their directory's descriptor, and written
 * together, by this thread and a helper.  Their order does not matter as long as no two of a batch,
 * and nothing else done meanwhile, touch one path: ck_batch_guard sees to that. */

bool ck_private_umask(void)
{
    if (ck_unshare(CLONE_FS) < 0)
        return false;
    ck_umask(0);
    return true;
}

static int write_file(const struct ck_applier *a, const struct ck_job *job, bool chmod_always)
{
    CK_CLEANUP_FD int fd = ck_openat(job->dir, job->leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
                                     job->meta.mode & 01777);
    int error;

    if (fd < 0)
        return fd;
    error = ck_write_all(fd, job->data, job->size);
    return error < 0 ? error : ck_tree_finish_file(a, fd, &job->meta, chmod_always);
}

static void run_jobs(struct ck_applier *a, bool chmod_always)
{
    struct ck_batch *batch = &a->batch;
    unsigned i;

    while ((i = atomic_fetch_add(&batch->next, 1)) < batch->count)
        batch->jobs[i].error = write_file(a, &batch->jobs[i], chmod_always);
}

static void *help(void *arg)
{
    struct ck_applier *a = arg;
    struct ck_batch *batch = &a->batch;
    bool chmod_always = !ck_private_umask();

    pthread_mutex_lock(&batch->lock);
    for (;;) {
        while (batch->work != CK_OFFERED && batch->work != CK_STOP)
            pthread_cond_wait(&batch->changed, &batch->lock);
        if (batch->work == CK_STOP)
            break;
        batch->work = CK_TAKEN;
        pthread_mutex_unlock(&batch->lock);
        run_jobs(a, chmod_always);
        pthread_mutex_lock(&batch->lock);
        batch->work = CK_IDLE;
        pthread_cond_broadcast(&batch->changed);
    }
    pthread_mutex_unlock(&batch->lock);
    return NULL;
}

void ck_batch_start(struct ck_applier *a)
{
    struct ck_batch *batch = &a->batch;
    sigset_t all, before;

    batch->number = 1;
    if (!(a->options.flags & CK_APPLY_HELPER))
        return;
    pthread_mutex_init(&batch->lock, NULL);
    pthread_cond_init(&batch->changed, NULL);
    sigfillset(&all); /* signals are the embedding program's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    batch->has_helper = pthread_create(&batch->helper, NULL, help, a) == 0; /* else alone */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void say(struct ck_batch *batch, int work)
{
    pthread_mutex_lock(&batch->lock);
    batch->work = work;
    pthread_cond_broadcast(&batch->changed);
    pthread_mutex_unlock(&batch->lock);
}

void ck_batch_stop(struct ck_applier *a)
{
    if (!a->batch.has_helper)
        return;
    say(&a->batch, CK_STOP);
    pthread_join(a->batch.helper, NULL);
    a->batch.has_helper = false;
}

/* The helper may not have woken up yet: take the offer back, else wait for its last job. */
static void withdraw(struct ck_batch *batch)
{
    pthread_mutex_lock(&batch->lock);
    if (batch->work == CK_OFFERED)
        batch->work = CK_IDLE;
    while (batch->work == CK_TAKEN)
        pthread_cond_wait(&batch->changed, &batch->lock);
    pthread_mutex_unlock(&batch->lock);
}

int ck_batch_run(struct ck_applier *a, struct ck_error *err)
{
    struct ck_batch *batch = &a->batch;
    unsigned count = batch->count;
    bool shared = batch->has_helper && count > 8;

    if (!count)
        return 0;
    atomic_store(&batch->next, 0);
    if (shared)
        say(batch, CK_OFFERED);
    run_jobs(a, a->chmod_always);
    if (shared)
        withdraw(batch);
    batch->count = 0;
    batch->names_used = 0;
    batch->number++;
    for (unsigned i = 0; i < count; i++) {
        struct ck_job *job = &batch->jobs[i];

        if (job->error == -EEXIST) { /* a later entry replaces an earlier one */
            job->error = ck_tree_clear(a, job->dir, job->leaf);
            if (job->error == 0)
                job->error = write_file(a, job, a->chmod_always);
        }
        if (job->error < 0)
            return ck_apply_fail(err, -job->error, "write", job->path);
    }
    return 0;
}

int ck_batch_guard(struct ck_applier *a, const struct ck_name *name, struct ck_error *err)
{
    uint32_t hash = ck_hash(name->text, name->len) % CK_SEEN;

    return a->batch.seen[hash] == a->batch.number ? ck_batch_run(a, err) : 0;
}

int ck_batch_add(struct ck_applier *a, int dir, const uint8_t *data, size_t size,
                 struct ck_error *err)
{
    struct ck_batch *batch = &a->batch;
    const struct ck_name *name = &a->name;
    char *path;

    if ((batch->count == CK_JOBS || batch->names_used + name->len + 1 > CK_NAMES) &&
        ck_batch_run(a, err) < 0)
        return -1;
    path = batch->names + batch->names_used;
    memcpy(path, name->text, name->len + 1);
    batch->names_used += name->len + 1;
    batch->seen[ck_hash(name->text, name->len) % CK_SEEN] = batch->number;
    batch->jobs[batch->count++] = (struct ck_job){
        .dir = dir,
        .path = path,
        .leaf = path + name->leaf,
        .data = data,
        .size = size,
        .meta = ck_apply_meta(a),
    };
    return a->aliased ? ck_batch_run(a, err) : 0;
}
