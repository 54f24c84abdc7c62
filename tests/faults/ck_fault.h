/* ck_fault.h - the page through which a sweep says which call is to fail, shared by all processes.
 *
 * tests/faults/page.py has the same layout.
 */
#pragma once

#include <stdint.h>

enum ck_fault_class { /* bits */
    FAULT_OPEN = 1, FAULT_WRITE = 2, FAULT_FSYNC = 4, FAULT_RENAME = 8, FAULT_MKDIR = 16,
    FAULT_MOUNT = 32, FAULT_CLONE = 64, FAULT_MMAP = 128, FAULT_SOCKET = 256,
};

struct ck_fault_page { /* 64 bytes */
    uint32_t armed;
    uint32_t classes;   /* of calls that are counted */
    int32_t errnum;     /* what the chosen one says; 0: it waits until disarmed, to be killed there */
    uint32_t nth;       /* which one, from 1 */
    uint32_t count;     /* so far */
    uint32_t hit;       /* 1: it has failed */
    uint32_t pid;       /* in whom, as it sees itself */
    uint32_t reserved;
    char name[32];      /* of the call that failed */
};

/* 0, or the negative errno of the chosen call. */
int ck_fault_in(uint32_t class, const char *name);
