/* The applier and the path resolver on a real directory, under the sanitizers. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive.h"
#include "check.h"
#include "ck_path.h"

static char top[] = "/dev/shm/ck-apply-XXXXXX";
static int top_fd;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

static int remove_tree(int dir, const char *name)
{
    char path[300];

    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir, name);
    return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const struct ck_apply_options roomy = {
    .max_entries = 1000,
    .max_bytes = 1 << 24,
    .max_depth = 64,
    .max_xattr_bytes = 4096,
    .max_meta_bytes = 1 << 16,
    .remove_tree = remove_tree,
};

static int fresh_directory(void)
{
    int fd;

    remove_tree(top_fd, "out");
    CHECK_INT(mkdirat(top_fd, "out", 0700), 0);
    fd = openat(top_fd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

static unsigned open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* A sparse file, which is Python's: all hole here.  Returns how many bytes of the stream it takes. */
static size_t leave_out(const struct ck_apply_result *result)
{
    size_t more = result->header[156] == 'S' && result->header[482] ? 512 : 0;

    if (result->file >= 0)
        CHECK_INT(ftruncate(result->file, 1000), 0);
    for (size_t i = 0; i < result->records_size; i++)
        CHECK(result->records[i] != '\n');
    return more + result->size / 512 * 512 + (result->size % 512 ? 512 : 0);
}

static int apply(const uint8_t *data, size_t len, size_t piece, unsigned flags,
                 struct ck_error *err)
{
    struct ck_apply_options options = roomy;
    struct ck_apply_result result = {0};
    struct ck_applier *applier;
    size_t at = 0;
    int fd = fresh_directory(), done = 0;

    options.flags = flags;
    CHECK(applier = ck_apply_new(fd, &options, &result));
    while (done >= 0 && at < len) {
        size_t part = len - at < piece ? len - at : piece;

        done = ck_apply_feed(applier, data + at, part);
        at += part;
        if (done == 1) {
            at -= result.left;
            part = leave_out(&result);
            at += part < len - at ? part : len - at;
            done = ck_apply_feed(applier, data + at, 0);
        }
    }
    if (done == 0)
        done = ck_apply_feed(applier, NULL, 0);
    CHECK(result.entries <= options.max_entries || done < 0);
    *err = result.err;
    ck_apply_free(applier);
    close(fd);
    return done;
}

static void one_of_each(void)
{
    static const size_t pieces[] = {1, 100, 512, 513, sizeof archive};
    unsigned before = open_descriptors();
    struct stat st;

    put_one_of_each();
    for (size_t i = 0; i < 2 * sizeof pieces / sizeof *pieces; i++) {
        struct ck_error err = {0};
        unsigned flags = CK_APPLY_USER_XATTRS | (i % 2 ? CK_APPLY_NO_OPENAT2 : 0);

        if (apply(archive, used, pieces[i / 2], flags, &err) < 0)
            fprintf(stderr, "%s\n", err.detail);
        CHECK_INT(err.code, 0);
        CHECK_INT(fstatat(top_fd, "out/sparse", &st, 0), 0);
        CHECK_INT(st.st_size, 1000);
        CHECK_INT(fstatat(top_fd, "out/old", &st, 0), 0);
        CHECK_INT(st.st_size, 1000);
        CHECK_INT(fstatat(top_fd, "out/hard", &st, 0), 0);
        CHECK_INT(st.st_size, 700);
        CHECK_INT(fstatat(top_fd, "out/d", &st, AT_SYMLINK_NOFOLLOW), 0);
        CHECK(S_ISREG(st.st_mode));
    }
    CHECK_INT(open_descriptors(), before);
    used = 0;
}

static void damaged(void)
{
    static uint8_t copy[sizeof archive];
    unsigned before = open_descriptors();
    uint32_t random = 88172645u;

    put_one_of_each();
    for (int round = 0; round < 1500; round++) {
        struct ck_error err = {0};
        unsigned changes = 1 + next_random(&random) % 4;

        memcpy(copy, archive, used);
        while (changes--) {
            size_t at = next_random(&random) % used;

            copy[at] = (uint8_t)next_random(&random);
            if (next_random(&random) % 8)
                sign(copy + at / 512 * 512);
        }
        apply(copy, used, 1 + next_random(&random) % 3000,
              CK_APPLY_USER_XATTRS | (round % 2 ? CK_APPLY_NO_OPENAT2 : 0), &err);
    }
    CHECK_INT(open_descriptors(), before);
    used = 0;
}

static void expect_open(int dir, const char *path, unsigned how, const char *wanted)
{
    for (unsigned walk = 0; walk <= CK_PATH_WALK; walk += CK_PATH_WALK) {
        int fd = ck_path_open(dir, path, O_RDONLY, how | walk);
        char link[64], text[256] = "";

        if (fd < 0) {
            CHECK_TEXT(strerrorname_np(-fd), wanted);
            continue;
        }
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        CHECK(readlink(link, text, sizeof text - 1) > 0);
        CHECK(strncmp(text, top, strlen(top)) == 0);
        CHECK_TEXT(text + strlen(top), wanted);
        CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        close(fd);
    }
}

/* Both ways of resolving give the same answers. */
static void paths(void)
{
    int dir = fresh_directory(), fd;
    char deep[1024] = "";

    CHECK_INT(symlinkat("/a/b", dir, "absolute"), 0);
    CHECK_INT(symlinkat("../../..", dir, "up"), 0);
    CHECK_INT(symlinkat("loop", dir, "loop"), 0);
    CHECK_INT(symlinkat("/nowhere", dir, "dangling"), 0);
    fd = ck_path_mkdirs(dir, "a/b/c", 0755, 0);
    CHECK(fd >= 0);
    close(fd);
    close(openat(dir, "a/file", O_CREAT | O_WRONLY, 0600));
    CHECK_INT(symlinkat("../file", dir, "a/b/link"), 0);
    expect_open(dir, "a/b", 0, "/out/a/b");
    expect_open(dir, "/a//b/./c/..", 0, "/out/a/b");
    expect_open(dir, "../../../a", 0, "/out/a");
    expect_open(dir, "..", 0, "/out");
    expect_open(dir, "/", 0, "/out");
    expect_open(dir, "absolute/c", 0, "/out/a/b/c");
    expect_open(dir, "absolute", 0, "/out/a/b");
    expect_open(dir, "up/a/b/link", 0, "/out/a/file");
    expect_open(dir, "absolute/c", CK_PATH_NO_SYMLINKS, "ELOOP");
    expect_open(dir, "a/b/link", CK_PATH_NO_SYMLINKS, "ELOOP");
    expect_open(dir, "loop", 0, "ELOOP");
    expect_open(dir, "loop/x", 0, "ELOOP");
    expect_open(dir, "dangling", 0, "ENOENT");
    expect_open(dir, "dangling/x", 0, "ENOENT");
    expect_open(dir, "a/file/x", 0, "ENOTDIR");
    expect_open(dir, "a/file/", 0, "ENOTDIR");
    expect_open(dir, "a/file/..", 0, "ENOTDIR");
    expect_open(dir, "missing/..", 0, "ENOENT");
    expect_open(dir, "", 0, "ENOENT");
    memset(deep, 'n', 300);
    expect_open(dir, deep, 0, "ENAMETOOLONG");
    fd = ck_path_mkdirs(dir, "absolute/../new/er", 0755, CK_PATH_WALK);
    CHECK(fd >= 0);
    CHECK_INT(ck_path_depth(dir, fd, 10), 3);
    CHECK_INT(ck_path_depth(dir, fd, 2), -ELOOP);
    CHECK_INT(ck_path_depth(fd, dir, 64), -ELOOP);
    close(fd);
    CHECK_INT(ck_path_mkdirs(dir, "dangling/x", 0755, 0), -ENOENT);
    CHECK_INT(ck_path_mkdirs(dir, "a/file/x", 0755, 0), -ENOTDIR);
    close(dir);
}

int main(void)
{
    CHECK(mkdtemp(top));
    top_fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(top_fd >= 0);
    paths();
    if (geteuid() == 0) { /* owners */
        one_of_each();
        damaged();
    }
    remove_tree(top_fd, "out");
    rmdir(top);
    close(top_fd);
    return 0;
}
