/* ck_path.h - paths that something else chose, resolved beneath a root descriptor.
 *
 * Symbolic links are followed as if the root were `/`: absolute ones start again at the root, `..`
 * stops there, magic links of /proc are never followed.  One openat2(2) does it; where the kernel or
 * a seccomp filter refuses that call, a walk with O_NOFOLLOW on each component does the same.
 * Like ck_sys.h, functions return >= 0 or a negative errno.
 */
#pragma once

#include <sys/types.h>

enum {
    CK_PATH_NO_SYMLINKS = 1, /* a link anywhere in the path is -ELOOP */
    CK_PATH_WALK = 2,        /* do not try openat2: tests of the walk */
};

/* Open path beneath root; flags as open(2), without O_CREAT and O_TMPFILE. */
int ck_path_open(int root, const char *path, int flags, unsigned how);

/* Make the directories of path that are missing, with mode (less the umask); returns an O_PATH
 * descriptor of the last one. */
int ck_path_mkdirs(int root, const char *path, mode_t mode, unsigned how);

/* How many directories fd lies below root, going up; -ELOOP when more than max or not below. */
int ck_path_depth(int root, int fd, unsigned max);

/* Remove what name in parent is, with all below it; recurses as deep as the tree is. */
int ck_path_remove(int parent, const char *name);
