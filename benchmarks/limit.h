/* limit.h - what limit.c (the launcher's side) and limit_child.c (the child's side) share. */
#ifndef LIMIT_H
#define LIMIT_H

#include <stdint.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof((array)[0])))

enum {
    N_FILES = 2,      /* /etc/hosts, /etc/hostname */
    N_FDS = 2 + N_FILES,
    PLAN_SIZE = 4096, /* about what a default plan takes */
};

/* In the launcher's mount namespace, and so in every child's before its pivot. */
#define DEV_TEMPLATE "/tmpl/dev"
#define MASK_DIR "/tmpl/mask/empty"
#define MASK_FILE "/tmpl/mask/file"
#define NEW_ROOT "/new"

_Noreturn void die(const char *what);
long must(long result, const char *what);
int open_file(int dirfd, const char *path, int flags);
void write_file(int dirfd, const char *path, const void *data, unsigned long size);

/* Options are pairs of name and value, ended by NULL. */
int new_fs(const char *type, const char *const *options, unsigned attributes);
int clone_tree(int dirfd, const char *path, unsigned flags);
void set_attributes(int mount, uint64_t attributes, unsigned flags);
void attach(int mount, int dirfd, const char *path);
void pivot_here(void);

/* The child from the moment it is parked: wait for a plan on its socket, end in exec. */
_Noreturn void serve_as_spare(int socket);

#endif
