/* kernel.h - a kernel that does nothing, and the script that says what it tells the launcher. */
#ifndef KERNEL_H
#define KERNEL_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#include "../fuzz.h"
#include "ck_launcher.h"

enum { DESCRIPTORS = 256, MAPS = 256, CALLS = 20000 };

struct descriptor {
    bool open, watched, killed;
    bool processes; /* a list of them: the kernel writes numbers */
    uint64_t tag;
};

struct map {
    void *at;
    size_t size;
};

/* All that a run changes. */
struct kernel {
    const uint8_t *script;
    size_t left;
    jmp_buf over;               /* the script's end, the program's, or too many calls */
    struct descriptor fds[DESCRIPTORS];
    struct map maps[MAPS];
    uint64_t now;
    unsigned calls, fail_in, world; /* world: bits of what files and processes are like */
    int error;                  /* of the call that is to fail */
    bool child;                 /* a clone has returned in the child */
    int pending;                /* the descriptor that has the packet, -1: none */
    bool greeted;
    size_t size, blob_size;
    int n_fds;
    uint8_t *packet, *blob; /* of so many bytes; blob: what is in a memfd */
};

enum { PACKET = 1 << 16 };

extern struct kernel k;

int fate(void);
int new_fd(void);
uint8_t take(void);
size_t take_bytes(uint8_t *into, size_t most); /* as many as the script says */

#endif
