/* fuzz_apply.c - any archive applied to a directory: nothing outside of it changes, and openat2 and
 * the walk that stands in for it make the same of it. */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>

#include "archive.h"
#include "ck_path.h"
#include "scratch.h"

#define LAYERS      SCRATCH "/layers"
#define DESTINATION LAYERS "/destination"

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    return remove(path);
}

static int remove_tree(int dir, const char *name)
{
    char path[300];

    HOLDS(snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir, name) < (int)sizeof path);
    return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const struct ck_apply_options limits = {
    .max_entries = 20, /* all small enough to be reached */
    .max_bytes = 1 << 20,
    .max_depth = 8,
    .max_xattr_bytes = 60,
    .max_meta_bytes = 1 << 14,
    .remove_tree = remove_tree,
};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    if (unshare(CLONE_NEWNS) < 0) {
        perror("fuzz_apply: not without a mount namespace");
        exit(0);
    }
    make_scratch();
    return 0;
}

static uint64_t mix(uint64_t hash, const void *data, size_t size)
{
    const uint8_t *at = data;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ at[i]) * 1099511628211U; /* FNV-1a */
    return hash;
}

/* Of all below a directory, whatever order they are read in. */
static uint64_t hash_tree(int parent, const char *name, int depth)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    uint64_t sum = 0;

    HOLDS(dir && depth < 64);
    while ((entry = readdir(dir))) {
        char text[4096] = "";
        struct stat st;
        uint64_t hash;

        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        HOLDS(fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0);
        const uint64_t fields[] = {st.st_mode,  st.st_uid,
                                   st.st_gid,   st.st_rdev,
                                   st.st_nlink, S_ISDIR(st.st_mode) ? 0 : (uint64_t)st.st_size};
        hash = mix(mix(1, fields, sizeof fields), entry->d_name, strlen(entry->d_name));
        if (S_ISLNK(st.st_mode) && readlinkat(fd, entry->d_name, text, sizeof text - 1) > 0)
            hash = mix(hash, text, strlen(text));
        if (S_ISDIR(st.st_mode))
            hash += 3 * hash_tree(fd, entry->d_name, depth + 1);
        sum += hash;
    }
    closedir(dir);
    return sum;
}

/* What a path of strangers is, in a tree of strangers: in both ways the same, and nothing outside. */
static void look_up(int root)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (unsigned how = 0; how <= CK_PATH_NO_SYMLINKS; how += CK_PATH_NO_SYMLINKS) {
            int fd = ck_path_open(root, names[i], O_PATH, how);
            int other = ck_path_open(root, names[i], O_PATH, how | CK_PATH_WALK);
            struct stat st = {0}, there = {0};

            HOLDS((fd < 0) == (other < 0));
            HOLDS(fd < 0 || (fstat(fd, &st) == 0 && fstat(other, &there) == 0));
            HOLDS(st.st_ino == there.st_ino && st.st_dev == there.st_dev);
            HOLDS(!S_ISDIR(st.st_mode) || ck_path_depth(root, fd, 64) >= 0);
            for (int j = 0; fd >= 0 && j < OUTSIDE; j++)
                HOLDS(st.st_ino != before[j].st_ino || st.st_dev != before[j].st_dev);
            if (fd >= 0)
                close(fd), close(other);
        }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int fd = ck_path_mkdirs(root, names[i], 0700, i % 2 ? CK_PATH_WALK : 0);

        HOLDS(fd < 0 || ck_path_depth(root, fd, 64) >= 0);
        HOLDS(fd != -EROFS);
        if (fd >= 0)
            close(fd);
    }
}

/* A sparse file, which is Python's: all hole here.  Returns how many bytes of the stream it takes. */
static uint64_t leave_out(const struct ck_apply_result *result)
{
    uint64_t read = mix(1, result->header, 512) + mix(1, result->records, result->records_size);

    HOLDS(result->file < 0 || ftruncate(result->file, (off_t)(read % 5000)) == 0);
    return result->size + -result->size % 512;
}

static int apply(const uint8_t *data, size_t size, unsigned flags, size_t piece, uint64_t *hash)
{
    struct ck_apply_options options = limits;
    struct ck_apply_result result = {0};
    const struct ck_error *err = &result.err;
    struct ck_applier *applier;
    const int layers = open(LAYERS, O_RDONLY | O_DIRECTORY);
    size_t part;
    int dir, error = 0;

    HOLDS(mkdir(DESTINATION, 0755) == 0);
    options.flags = flags;
    HOLDS((dir = open(DESTINATION, O_RDONLY | O_DIRECTORY)) >= 0);
    HOLDS(applier = ck_apply_new(dir, &options, &result));
    for (size_t at = 0; at < size && error == 0; at += part) {
        uint8_t *copy = exactly(data + at, part = size - at < piece ? size - at : piece);

        error = ck_apply_feed(applier, copy, part);
        free(copy);
        HOLDS(!result.entry || strlen(result.entry) <= limits.max_meta_bytes); /* callers read it */
        if (error > 0) {
            const uint64_t taken = leave_out(&result);

            HOLDS(result.left < part);
            part -= result.left;
            part += taken < size - at - part ? (size_t)taken : size - at - part;
            error = ck_apply_feed(applier, data, 0);
        }
    }
    if (error == 0)
        error = ck_apply_feed(applier, NULL, 0);
    HOLDS(error == 0 || (err->code && strlen(err->detail) < sizeof err->detail));
    HOLDS(err->errnum != EROFS); /* it would have changed something elsewhere */
    HOLDS(result.bytes <= options.max_bytes && result.entries <= options.max_entries + 1);
    ck_apply_free(applier);
    *hash = hash_tree(layers, "destination", 0) + mix(1, err->detail, strlen(err->detail));
    if (piece % 8 == 3) /* it takes long */
        look_up(dir);
    close(dir);
    HOLDS(remove_tree(layers, "destination") == 0);
    close(layers);
    check_outside();
    return error;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t first = 0, second = 0;
    unsigned options, user;

    if (!size)
        return 0;
    options = data[size - 1];
    user = options & 1 ? CK_APPLY_USER_XATTRS : 0;
    apply(data, size - 1, user, size, &first);
    if (options & 2) {
        apply(data, size - 1, user | CK_APPLY_NO_OPENAT2, options * 5 + 1, &second);
        HOLDS(first == second);
    }
    return 0;
}
