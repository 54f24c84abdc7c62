/* ck_wire.h - packets between an engine's process and its launcher (SOCK_SEQPACKET).
 *
 * The control socket carries HELLO once, then START requests: header, plan, and by SCM_RIGHTS a
 * channel of its own for every request (first descriptor) and the plan's inputs.  A plan above
 * CK_PLAN_INLINE bytes is a sealed memfd, the last descriptor.  On its channel the request gets
 * exactly one of STARTED (with a pidfd; left out for ephemeral plans) or FAILED, then EXITED; the
 * caller may send KILL and DROP there.  What is ephemeral is gone when EXITED comes, and everything
 * of a failed start when FAILED does; but a directory that UPPER_DIR named is the caller's to remove,
 * since that may take long.  End-of-file on a channel kills and releases.
 */
#pragma once

#include <stdint.h>

#include "ck_plan.h"

enum {
    CK_WIRE_MAGIC = 0x57504b43, /* "CKPW" */
    CK_WIRE_VERSION = 1,
    CK_FDS_MAX = 66,            /* channel, inputs, plan; the kernel's own limit is 253 */
    CK_CONTROLLERS = 12,
    CK_CONTROL_FD = 3,          /* where the launcher finds its end after exec */
};

enum ck_packet_kind {
    CK_HELLO = 1, CK_START, CK_KILL, CK_DROP,                          /* to the launcher */
    CK_READY = 64, CK_STARTED, CK_FAILED, CK_EXITED, CK_RELEASED,      /* from it */
};

struct ck_packet { /* 16 bytes, before everything */
    uint32_t magic;
    uint16_t version;
    uint16_t kind;
    uint32_t size;  /* of what follows in this packet */
    uint32_t value; /* KILL: signal | enum ck_cause << 16; START: 1 when the plan is a memfd */
};

/* Descriptors: owner's pidfd, then one directory per controller: the launcher's own cgroup. */
struct ck_hello {
    struct ck_packet packet;
    char id[32];                         /* launcher id, hexadecimal, names its files */
    char controllers[CK_CONTROLLERS][16]; /* "pids", …; "unified" for cgroup v2; "" ends them */
    uint64_t root_dev, root_ino;         /* of the engine's root, checked after opening root */
    uint32_t netns_pool;                 /* network namespaces kept ready */
    uint32_t spares;                     /* 0 or 1 parked child */
    uint32_t idle_ms;                    /* refill after so long without work */
    uint32_t flags;                      /* enum ck_hello_flag */
    char root[4096];                     /* path of the engine's root directory */
};

enum ck_hello_flag {
    CK_CLASSIC_OVERLAY = 1, /* overlays by mount(2), as before Linux 6.5: for tests */
};

enum ck_cause {
    CK_CAUSE_EXITED, CK_CAUSE_SIGNAL, CK_CAUSE_OOM, CK_CAUSE_TIMEOUT, CK_CAUSE_OUTPUT,
    CK_CAUSE_OWNER, CK_CAUSE_REMOVED, CK_CAUSE_LOST,
};

struct ck_event { /* 120 bytes: READY, STARTED, FAILED, EXITED, RELEASED */
    struct ck_packet packet;
    struct ck_report report;    /* FAILED; READY: errnum of the launcher's own set-up */
    int32_t code, signal;       /* EXITED */
    uint32_t cause;
    uint32_t features;          /* READY: enum ck_feature */
    uint64_t started_ns, finished_ns; /* CLOCK_REALTIME */
    uint64_t user_us, system_us, max_rss_kib;
    uint64_t reserved[4];
};

enum ck_feature { CK_HAS_OVERLAY_APPEND = 1, CK_HAS_SPARE = 2, CK_HAS_POOL = 4 };

/* containers/ID/lock: one record in the file whose lock says that somebody supervises it. */
struct ck_state { /* 128 bytes */
    uint32_t magic;             /* CK_WIRE_MAGIC */
    uint16_t version;
    uint16_t status;            /* 1 running, 2 stopped */
    char launcher[32];
    int32_t code, signal;
    uint32_t cause, pid;        /* pid: in the launcher's pid namespace, for reading only */
    uint64_t started_ns, finished_ns;
    uint64_t reserved[6];
    uint32_t reserved1;
    uint32_t checksum;          /* FNV-1a of the 124 bytes before */
};

_Static_assert(sizeof(struct ck_packet) == 16, "runtime/packets.py: PACKET");
_Static_assert(sizeof(struct ck_hello) == 4368, "runtime/packets.py: HELLO");
_Static_assert(sizeof(struct ck_event) == 120, "runtime/packets.py: EVENT");
_Static_assert(sizeof(struct ck_state) == 128, "the record on disk");
