/* ck_plan.h - the launch plan: what it looks like in memory and on the wire, and what is valid.
 *
 * A plan is header | ops | arena, little-endian, one contiguous buffer.  Two sections of ops: prepare
 * (run by the launcher, which undoes it at the end), child (run inside the new namespaces, ends in
 * exec).  Offsets into the arena point at
 *   text   a NUL-terminated string,
 *   bytes  u32 length, then that many bytes; 4-aligned,
 *   list   u32 count, then count NUL-terminated strings; 4-aligned.
 * Offset 0 means absent: the arena begins with four NUL bytes and ends with a NUL byte.
 * `containerkit.launch` holds the same numbers; a test compares them.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    CK_PLAN_MAGIC = 0x4c504b43, /* "CKPL" */
    CK_PLAN_VERSION = 1,
    CK_PLAN_MAX = 1 << 20,      /* bytes in all */
    CK_PLAN_INLINE = 60 << 10,  /* a larger one travels as a sealed memfd */
    CK_PLAN_OPS_MAX = 1024,     /* per section */
    CK_SLOTS = 64,              /* descriptor slots; the caller's come first */
};

struct ck_plan_header { /* 32 bytes */
    uint32_t magic;
    uint16_t version;
    uint16_t flags;         /* enum ck_plan_flag */
    uint16_t n_ops[2];      /* prepare, child */
    uint16_t n_inputs;      /* slots 0..n_inputs-1 are descriptors the caller sends */
    uint16_t reserved1;
    uint32_t arena_size;
    uint32_t reserved0;
    uint64_t namespaces;    /* CLONE_NEW* of the child; NEWNS and NEWPID at least, none for EXEC */
};

enum ck_plan_flag { /* exactly one of them */
    CK_PLAN_EPHEMERAL = 1, /* `run`: nothing of it is left when it has ended */
    CK_PLAN_KEPT = 2,      /* its directory and record stay */
    CK_PLAN_EXEC = 4,      /* not a container: one more process of a running one */
};

struct ck_op { /* 40 bytes */
    uint16_t code;
    uint16_t flags;
    int16_t fd[3];          /* slots; -1 absent */
    uint16_t reserved;
    uint32_t arena[3];      /* offsets; 0 absent */
    uint64_t value[2];
};

enum ck_op_code {
#define CK_PREPARE_OP(name, number, ...) CK_OP_##name = number,
#define CK_CHILD_OP(name, number, ...) CK_OP_##name = number,
#include "ck_ops.h"
    CK_OP_END
};

enum ck_op_flag {
    CK_F_CREATE = 1,      /* LOCK: make the directory.  MOVE_MOUNT, MOUNT_FS, TEMPLATE: make the target,
                             component by component, when it is missing */
    CK_F_FILE = 2,        /* MOVE_MOUNT: the target is a file */
    CK_F_VOLATILE = 4,    /* OVERLAY */
    CK_F_AS_IS = 16,      /* ID_MAP, SOURCE: nothing is shown with other ids than it has */
    CK_F_OPTIONAL = 32,   /* of child ops: a failure of this step is none */
    CK_F_RECURSIVE = 64,  /* CLONE: with submounts */
    CK_F_TUNED = 256,     /* CGROUP: with limits on more than pids, */
    CK_F_UNCOMMON = 512,  /* one of which wants a group that only few containers have, or */
    CK_F_SPOILT = 2048,   /* can not be put back */
    CK_F_OWN = 128,       /* MOVE_MOUNT, MOUNT_FS: over what is ours, with no link on the way.
                             READ_ONLY: that mount, none over it */
};

enum ck_netns { CK_NETNS_POOLED = 1, CK_NETNS_HOST = 2 };

enum ck_own { CK_OWN_IS_DEV, CK_OWN_IS_GROUPS };

enum ck_restart { CK_RESTART_ON_FAILURE = 1, CK_RESTART_ALWAYS, CK_RESTART_UNLESS_STOPPED };

enum ck_section { CK_PREPARE, CK_CHILD };

/* A plan checked by ck_plan_check: every offset, list, slot and order in it is good. */
struct ck_plan {
    const struct ck_plan_header *header;
    const struct ck_op *ops[2];
    const char *arena;
    uint32_t arena_size;
};

_Static_assert(sizeof(struct ck_plan_header) == 32, "launch/wire.py");
_Static_assert(sizeof(struct ck_op) == 40, "launch/wire.py");

/* What a failed step reports: section, index in it, op code, errno; aux is the op's own. */
struct ck_report {
    uint16_t section, index, code, errnum;
    int32_t aux;
};

/* Validate size bytes as a plan.  0, or a negative errno with *at set to section << 16 | index. */
int ck_plan_check(const void *bytes, size_t size, struct ck_plan *out, uint32_t *at);

/* Arena access; the plan is checked, so these can not leave it.  Absent: NULL, count or length 0. */
const char *ck_plan_text(const struct ck_plan *plan, uint32_t offset);
const char *ck_plan_list(const struct ck_plan *plan, uint32_t offset, uint32_t *count); /* or bytes */
const char *ck_plan_next(const char *item); /* the string behind this one in its list */
