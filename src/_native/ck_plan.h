/* ck_plan.h - the launch plan: what it looks like in memory and on the wire, and what is valid.
 *
 * A plan is header | ops | arena, little-endian, one contiguous buffer.  Three sections of ops:
 * prepare (run by the launcher), child (run inside the new namespaces, ends in exec), release (the
 * undo list, run by the launcher after exit and after a failure).  Offsets into the arena point at
 *   text   a NUL-terminated string,
 *   bytes  u32 length, then that many bytes; 4-aligned,
 *   list   u32 count, then count NUL-terminated strings; 4-aligned.
 * Offset 0 means absent: the arena begins with four NUL bytes and ends with a NUL byte.
 * `containerkit.launch` holds the same numbers; a test compares them.
 */
#ifndef CK_PLAN_H
#define CK_PLAN_H

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

struct ck_plan_header { /* 48 bytes */
    uint32_t magic;
    uint16_t version;
    uint16_t flags;         /* enum ck_plan_flag */
    uint16_t n_ops[3];      /* prepare, child, release */
    uint16_t n_inputs;      /* slots 0..n_inputs-1 are descriptors the caller sends */
    uint32_t arena_size;
    uint32_t reserved0;
    uint64_t namespaces;    /* CLONE_NEW* of the child; NEWNS and NEWPID are required */
    uint8_t reserved[16];
};

enum ck_plan_flag {
    CK_PLAN_EPHEMERAL = 1,  /* `run`: the release section runs as soon as the container has ended */
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
    /* prepare: 1.. */
    CK_OP_LOCK = 1,       /* arena0 "containers/ID": make the directory (CREATE), take its lock */
    CK_OP_CGROUP,         /* arena0 list of triples: controller, file, value, ... */
    CK_OP_NETNS,          /* value0 enum ck_netns; fd0 the slot it fills (POOLED) */
    CK_OP_SOURCE,         /* fd0 input slot with a detached tree: attach it as source @fd0 */
    CK_OP_CLONE,          /* fd0 source's slot; fd1 slot to fill with a clone; value0 MOUNT_ATTR_* */
    CK_OP_UPPER_TMPFS,    /* value0 bytes, value1 inodes: a fresh tmpfs for uppers */
    CK_OP_UPPER_DIR,      /* arena0 "containers/ID": uppers live below it in the store */
    CK_OP_OVERLAY,        /* fd0 slot to fill; arena0 list of lowers, top first, each relative to
                             the store or "@N" for source N; arena1 name of its upper (absent: none);
                             value0 MOUNT_ATTR_* */
    CK_OP_FILE,           /* fd0 slot to fill with a mountable file; arena0 bytes; value0 mode */
    CK_OP_ID_MAP,         /* arena0 uid_map text, arena1 gid_map text: with CLONE_NEWUSER only */
    CK_OP_STATE,          /* write the state record */
    /* child: 32.. */
    CK_OP_JOIN_NET = 32,  /* fd0 slot: setns */
    CK_OP_ROOT,           /* fd0 slot with the root's tree: becomes the new root */
    CK_OP_MOUNT_FS,       /* arena0 type, arena1 target, arena2 list of k=v or flag; value0 MOUNT_ATTR_* */
    CK_OP_MOVE_MOUNT,     /* fd0 slot; arena0 target */
    CK_OP_TEMPLATE,       /* arena0 "dev" or "empty", arena1 target: a read-only clone of a template */
    CK_OP_MASK,           /* arena0 path: covered by an empty read-only file or directory, if it exists */
    CK_OP_READ_ONLY,      /* arena0 path: bound on itself read-only, if it exists */
    CK_OP_MKDIR,          /* arena0 path, value0 mode, value1 uid << 32 | gid; exists: fine */
    CK_OP_COPY_FD,        /* fd0 input slot: its content becomes the new file arena0; value as MKDIR */
    CK_OP_ROOT_READ_ONLY, /* the root mount becomes read-only */
    CK_OP_PIVOT,          /* pivot_root into the new root, detach the old one */
    CK_OP_HOSTNAME,       /* arena0 */
    CK_OP_LOOPBACK,       /* bring lo up (a network namespace of its own that is not pooled) */
    CK_OP_SYSCTL,         /* arena0 path below /proc/sys, arena1 value */
    CK_OP_RLIMIT,         /* flags the resource, value0 soft, value1 hard */
    CK_OP_OOM_SCORE,      /* value0 oom_score_adj + 1000 */
    CK_OP_KEYRING,        /* join a fresh anonymous session keyring */
    CK_OP_STDIO,          /* fd0..2 slots become 0, 1, 2; -1: /dev/null of the template */
    CK_OP_SESSION,        /* setsid; with TTY: descriptor 0 becomes the controlling terminal */
    CK_OP_UMASK,          /* value0 */
    CK_OP_GROUPS,         /* arena0 bytes: u32 each */
    CK_OP_IDS,            /* value0 uid, value1 gid; capabilities survive until CAPS */
    CK_OP_CAPS,           /* value0 bounding set, value1 permitted = effective; inheritable, ambient 0 */
    CK_OP_CHDIR,          /* arena0, with the container user's rights */
    CK_OP_NO_NEW_PRIVS,
    CK_OP_SECCOMP,        /* arena0 bytes: struct sock_filter each */
    CK_OP_EXEC,           /* arena0 list of candidates tried in order, arena1 argv, arena2 envp */
    /* release: 80.. */
    CK_OP_DROP_CGROUP = 80, /* kill what is left in it, then remove it */
    CK_OP_DROP_SOURCES,     /* detach the sources */
    CK_OP_DROP_DIR,         /* arena0 "containers/ID": remove the directory tree, then its lock */
    CK_OP_END,
};

enum ck_op_flag {
    CK_F_CREATE = 1,      /* LOCK: make the directory.  MOVE_MOUNT, MOUNT_FS, TEMPLATE: make the target,
                             component by component, when it is missing */
    CK_F_FILE = 2,        /* MOVE_MOUNT: the target is a file */
    CK_F_VOLATILE = 4,    /* OVERLAY */
    CK_F_USERXATTR = 8,   /* OVERLAY */
    CK_F_TTY = 16,        /* SESSION */
    CK_F_OPTIONAL = 32,   /* a failure of this step is recorded, not fatal */
    CK_F_RECURSIVE = 64,  /* CLONE: with submounts */
};

enum ck_netns { CK_NETNS_POOLED = 1, CK_NETNS_HOST = 2 };

enum ck_section { CK_PREPARE, CK_CHILD, CK_RELEASE };

/* A plan checked by ck_plan_check: every offset, list, slot and order in it is good. */
struct ck_plan {
    const struct ck_plan_header *header;
    const struct ck_op *ops[3];
    const char *arena;
    uint32_t arena_size;
};

_Static_assert(sizeof(struct ck_plan_header) == 48, "launch/wire.py");
_Static_assert(sizeof(struct ck_op) == 40, "launch/wire.py");

/* What a failed step reports: section, index in it, op code, errno; aux is the op's own. */
struct ck_report {
    uint16_t section;
    uint16_t index;
    uint16_t code;
    uint16_t errnum;
    int32_t aux;
};

/* Validate size bytes as a plan.  0, or a negative errno with *at set to section << 16 | index. */
int ck_plan_check(const void *bytes, size_t size, struct ck_plan *out, uint32_t *at);

/* Arena access; the plan is checked, so these can not leave it.  Absent: NULL, count or length 0. */
const char *ck_plan_text(const struct ck_plan *plan, uint32_t offset);
const char *ck_plan_list(const struct ck_plan *plan, uint32_t offset, uint32_t *count);
const char *ck_plan_next(const char *item); /* the string behind this one in its list */
const void *ck_plan_bytes(const struct ck_plan *plan, uint32_t offset, uint32_t *length);

#endif
