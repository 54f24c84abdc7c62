/* ck_wire.h - packets between the engines of a root and a launcher (SOCK_SEQPACKET).
 *
 * The control socket, the owner's, carries HELLO once, then START requests: header, plan, and by
 * SCM_RIGHTS a channel of its own for every request (first descriptor) and the plan's inputs.  A
 * plan above CK_PLAN_INLINE bytes is a sealed memfd, the last descriptor.  On its channel the request
 * gets STARTED (with a pidfd, and the terminal's master for ephemeral plans; left out for those without
 * a terminal that do not park) or FAILED, then EXITED; the caller may send KILL there.
 *
 *   ephemeral  everything of it is gone when EXITED or FAILED comes; end-of-file on its channel kills
 *   kept       its directory and record stay; end-of-file before STARTED kills, later lets go of it
 *
 * Every process of the root reaches a launcher by connecting to RUN/<launcher id>.sock.  A connection
 * carries one request (struct ck_request) about one kept container and is that request's channel:
 *
 *   WATCH        STARTED (with a pidfd while it runs), then EXITED when it has ended for good
 *   EXEC         as START: STARTED with a pidfd (and the terminal's master) or FAILED, then EXITED;
 *                KILL may be sent; end-of-file kills all that the exec started
 *   others       DONE, or FAILED with an errno
 */
#pragma once

#include <stdint.h>

#include "ck_plan.h"

enum {
    CK_WIRE_MAGIC = 0x57504b43, /* "CKPW" */
    CK_WIRE_VERSION = 1,
    CK_FDS_MAX = 66,            /* channel, inputs, plan; the kernel's own limit is 253 */
    CK_CONTROLLERS = 16,
    CK_CONTROL_FD = 3,          /* where the launcher finds its end after exec */
};

enum ck_packet_kind {
    CK_HELLO = 1, CK_START, CK_LEAVE,               /* on the control socket */
    CK_KILL = 8,                                    /* on a request's channel */
    CK_WATCH = 16, CK_EXEC, CK_SIGNAL, CK_FREEZE, CK_THAW, CK_ATTACH = 22, CK_CLOSE_INPUT,
                                                    /* first on a connection */
    CK_READY = 64, CK_STARTED, CK_FAILED, CK_EXITED, CK_DONE, /* from the launcher */
};

struct ck_packet { /* 16 bytes, before everything */
    uint32_t magic;
    uint16_t version;
    uint16_t kind;
    uint32_t size;  /* of what follows in this packet */
    uint32_t value; /* KILL: signal | enum ck_cause << 16; START: 1 when the plan is a memfd */
};

/* A request about a kept container, first on a connection.  Behind it:
 *   EXEC      the plan, or value[0] = 1: it is the last descriptor, a sealed memfd; its inputs travel
 *             with it; value[1] = 1: STARTED is left out
 *   SIGNAL    value: signal or 0, enum ck_cause, enum ck_signal_flag
 *   FREEZE, THAW   of all its processes; DONE before the kernel has frozen them.  FREEZE with value[0]
 *             = 1: they are thawed at the connection's end, if they were not frozen before
 *   ATTACH    DONE with a descriptor: what is written to it is its standard input (its terminal's
 *             master, if it has one); FAILED with ENOTCONN when it has no open input,
 *             EAGAIN when that can not be told before it has started
 *   CLOSE_INPUT    the launcher's own end of the input is closed: end-of-file when no other is left
 * LEAVE (control socket, no request): the launcher lives on without its owner, until its last
 * container has ended; with value 1 its owner (no process, but what HELLO gave) still ends it. */
struct ck_request {
    struct ck_packet packet;
    char id[64];
    uint32_t value[4];
};

enum ck_signal_flag { CK_STOP_ASKED = 1 }; /* recorded: it is not restarted any more */

/* Descriptors: owner's pidfd, the listening socket, the directory that it is bound in (the launcher
 * unlinks "<id>.sock" there at its end, and the directory when it is empty), then one directory per
 * controller: the launcher's own cgroup. */
struct ck_hello {
    struct ck_packet packet;
    char id[32];                         /* launcher id, hexadecimal, names its files */
    char controllers[CK_CONTROLLERS][16]; /* "pids", …; "unified" for cgroup v2; "=cpuset":
                                          * the last, to be shown only; "" ends them */
    uint64_t root_dev, root_ino;         /* of the engine's root, checked after opening root */
    uint32_t netns_pool;                 /* network namespaces kept ready */
    uint32_t n_common;                   /* the first controllers: every container has a group of each */
    uint32_t idle_ms;                    /* refill after so long without work */
    uint32_t flags;                      /* enum ck_hello_flag */
    char root[4096];                     /* path of the engine's root directory */
};

enum ck_hello_flag {
    CK_CLASSIC_OVERLAY = 1, /* overlays as before Linux 6.5: for tests, or found out */
    CK_OUTSIDE = 2,         /* cgroup v2: it is to live in its group too, not in its owner's */
    CK_LONE = 4,            /* it runs one container; cgroup v1: whose groups are its own */
    CK_USER_MARKS = 8,      /* overlays by user.* attributes: those of trusted.* are not ours */
    CK_BARE = 16,           /* no namespaces are to be had: containers are processes beside it */
    CK_SPARES = 32,         /* a child is kept parked */
};

enum ck_cause {
    CK_CAUSE_EXITED, CK_CAUSE_SIGNAL, CK_CAUSE_OOM, CK_CAUSE_TIMEOUT, CK_CAUSE_OUTPUT,
    CK_CAUSE_OWNER, CK_CAUSE_REMOVED, CK_CAUSE_LOST, CK_CAUSE_PIDS,
};

struct ck_usage { uint64_t user_us, system_us, max_rss_kib; };

/* containers/ID/lock: one record in the file whose lock says that somebody supervises it. */
struct ck_state { /* 128 bytes */
    uint32_t magic;             /* CK_WIRE_MAGIC */
    uint16_t version;
    uint16_t status;            /* enum ck_state_status */
    char launcher[32];          /* that runs it, or ran it last */
    int32_t code, signal;
    uint32_t cause, pid;        /* pid: in the launcher's pid namespace, for reading only */
    uint64_t started_ns, finished_ns; /* CLOCK_REALTIME */
    uint32_t restarts;
    uint16_t health, failing;   /* enum ck_health; probes that failed in a row */
    int32_t probe_code;         /* of the last probe that ended */
    uint32_t flags;             /* enum ck_state_flag */
    uint64_t dropped;           /* bytes that the log does not hold: not taken, or rotated away */
    struct ck_usage usage;      /* of an ended one */
    uint32_t group;             /* names its control groups below the launcher's; 0: not told */
    uint32_t checksum;          /* Adler-32 of the 124 bytes before */
};

struct ck_event { /* 160 bytes: READY, STARTED, FAILED, EXITED, DONE */
    struct ck_packet packet;
    struct ck_report report;    /* FAILED; READY: errnum of the launcher's own set-up */
    uint32_t reserved;
    struct ck_state state;      /* STARTED, EXITED */
};

enum ck_state_status { CK_STATE_RUNNING = 1, CK_STATE_STOPPED, CK_STATE_RESTARTING, CK_STATE_PAUSED };
enum ck_state_flag { CK_STATE_STOP_ASKED = 1 };
enum ck_health { CK_HEALTH_NONE, CK_HEALTH_STARTING, CK_HEALTHY, CK_UNHEALTHY };

_Static_assert(sizeof(struct ck_packet) == 16, "runtime/packets.py: PACKET");
_Static_assert(sizeof(struct ck_hello) == 4432, "runtime/packets.py: HELLO");
_Static_assert(sizeof(struct ck_request) == 96, "runtime/packets.py: REQUEST");
_Static_assert(sizeof(struct ck_event) == 160, "runtime/packets.py: EVENT");
_Static_assert(sizeof(struct ck_state) == 128, "the record on disk");
