/* ck_path.h - paths beneath a root descriptor: ck_path_open and ck_path_mkdirs are in
 * ck_api.h.  Like ck_sys.h, functions return >= 0 or a negative errno. */
#pragma once

#include "ck_sys.h"

/* How many directories fd lies below root, going up; -ELOOP when more than max or not below. */
int ck_path_depth(int root, int fd, unsigned max);

/* Write to a file that is there, beneath dirfd. */
int ck_path_write(int dirfd, const char *path, const char *text);
