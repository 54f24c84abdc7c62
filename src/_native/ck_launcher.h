/* ck_launcher.h - the launcher: parent and PID 1 of all containers of one process and root.
 *
 * One loop over descriptors, one table made at start; nothing is allocated for a request.  It is
 * started with an empty environment and one socket, builds a mount namespace of its own (tmpfs
 * root, the engine's store at /store, templates), and dies with its owner: before that it kills,
 * waits for and releases every container.  When it is killed itself, the kernel ends them all.
 *
 *   ck_launcher.c        the loop, HELLO, packets
 *   ck_launcher_setup.c  the mount namespace and its templates
 *   ck_launcher_pool.c   what is made ahead: spare child, cgroups, network namespaces
 *   ck_launcher_prepare.c  the prepare ops
 *   ck_launcher_start.c  START: a child with its plan
 *   ck_launcher_end.c    exit, release ops, shutdown
 */
#pragma once

#include "ck_child.h"
#include "ck_wire.h"

enum {
    CK_CONTAINERS = 4096,  /* in one launcher */
    CK_POOL_MAX = 512,     /* network namespaces kept ready */
    CK_POOL_LOW = 4,       /* of them: fewer are refilled between two starts */
    CK_TRASH = 1024,       /* cgroups waiting to be removed */
    CK_KEPT = 4,           /* places of ended containers, kept for the next spares */
    CK_SPARE_NAMESPACES = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS,
};

enum ck_status { CK_FREE, CK_STARTING, CK_RUNNING, CK_ENDED };

struct ck_container {
    enum ck_status status;
    uint16_t flags;          /* enum ck_plan_flag */
    uint16_t release;        /* bits of enum ck_release */
    uint32_t number;         /* unique in this launcher: names its cgroup and sources */
    uint32_t generation;     /* of this table entry, so that a stale event finds nobody */
    int channel, pidfd, lock, report;
    uint32_t cause;          /* enum ck_cause the caller gave with KILL */
    uint64_t sources;        /* slots with a tree attached below /src */
    struct ck_report failed; /* errnum != 0: the start failed here */
    struct ck_state state;
    char dir[96];            /* "containers/ID", relative to the store; "" when none */
};

enum ck_release {
    CK_REL_DIR = 4, /* asked for by the plan, and there is no upper in it */
    CK_HAS_CGROUP = 16, CK_ABOUT_TO_EXEC = 32,
    CK_SETTLED = 256,        /* it was started to stay: starts do not wait for its end */
    CK_MEMORY = 64, CK_TUNED = 128, /* its cgroup has a limit on memory, on more than pids */
};

/* A locked directory and a cgroup of the same number, empty and with every value at its default. */
struct ck_place {
    uint32_t number;
    int lock, used;          /* used: another container was here before */
};

/* A child cloned ahead, parked on its socket. */
struct ck_spare {
    int ready, joined;       /* joined: it has been told to enter its cgroup */
    struct ck_place place;   /* its directory is containers/.LAUNCHER-NUMBER */
    int pidfd, socket;
};

struct ck_launcher {
    int control, owner, epoll, store, host_net;
    int n_controllers, controllers[CK_CONTROLLERS];
    int unified;             /* index of the cgroup v2 controller directory or -1 */
    uint32_t features;
    int32_t step;            /* how far set-up came, for READY */
    uint32_t last_number;
    uint32_t live;           /* containers that are starting, or run to their end */
    uint32_t first_free;     /* no entry of the table before this one is free */
    uint64_t idle_since;     /* CLOCK_MONOTONIC ns of the last work */
    int busy;                /* a cgroup could not be removed yet: try again after a pause */
    struct ck_hello hello;
    struct ck_spare spare;
    int pool[CK_POOL_MAX];
    struct ck_place kept[CK_KEPT];
    uint32_t trash[CK_TRASH];
    uint32_t pooled, n_kept, trashed;
    _Alignas(8) char packet[sizeof(struct ck_packet) + CK_PLAN_INLINE + 4096];
    struct ck_container containers[CK_CONTAINERS];
};

/* A start under way: the plan, its slots, and what earlier prepare ops decided. */
struct ck_start {
    struct ck_launcher *launcher;
    struct ck_container *container;
    struct ck_plan plan;
    size_t plan_size;
    int slots[CK_SLOTS];
    struct ck_spare spare;   /* the child that was ready; .ready 0: none */
    char upper[128];         /* "/up" or "/store/containers/ID": where uppers and files are made */
    uint32_t files;
    const char *uid_map, *gid_map;
};

/* setup */
int ck_launcher_enter(struct ck_launcher *l);

/* pool */
int ck_pool_make_cgroup(struct ck_launcher *l, uint32_t number);
int ck_pool_drop_cgroup(struct ck_launcher *l, uint32_t number);
void ck_pool_trash_cgroup(struct ck_launcher *l, uint32_t number);
pid_t ck_pool_clone(struct ck_launcher *l, uint32_t number, uint64_t namespaces, int *pidfd);
int ck_pool_join_cgroup(struct ck_launcher *l, uint32_t number);
int ck_pool_controller(const struct ck_launcher *l, const char *name);
int ck_pool_write_cgroup(struct ck_launcher *l, uint32_t number, const char *triples, uint32_t n);
int ck_pool_netns(struct ck_launcher *l);
int ck_pool_make_dir(struct ck_launcher *l, uint32_t number);
void ck_pool_drop_ahead(struct ck_launcher *l, uint32_t number);
void ck_pool_drop_dir(struct ck_launcher *l, const char *dir);
int ck_pool_move_dir(struct ck_launcher *l, uint32_t number, const char *dir, int back);
int ck_pool_keep(struct ck_launcher *l, struct ck_container *c);
void ck_pool_drop_kept(struct ck_launcher *l);
void ck_pool_end_spare(struct ck_launcher *l, struct ck_spare *spare);
int ck_pool_wants_work(const struct ck_launcher *l);
void ck_pool_work(struct ck_launcher *l); /* one step of refilling or cleaning */

/* prepare, start */
int ck_launcher_prepare(struct ck_start *start);
void ck_launcher_start(struct ck_launcher *l, const void *plan, size_t size, int *fds, int n_fds);
int ck_launcher_write_state(struct ck_container *c);

/* end */
void ck_launcher_ended(struct ck_launcher *l, struct ck_container *c);
void ck_launcher_release(struct ck_launcher *l, struct ck_container *c, uint16_t kind,
                         const struct ck_event *event);
void ck_launcher_fail(struct ck_launcher *l, struct ck_container *c);
_Noreturn void ck_launcher_shutdown(struct ck_launcher *l);

/* loop */
int ck_launcher_watch(struct ck_launcher *l, struct ck_container *c, int fd, int kind);
void ck_launcher_unwatch(struct ck_launcher *l, int *fd); /* and close it */
int ck_launcher_is_full(int fd);                          /* of descriptors, fd being a new one */
void ck_launcher_tell(struct ck_container *c, uint16_t kind, const struct ck_event *event, int fd);
enum { CK_WATCH_CONTROL, CK_WATCH_OWNER, CK_WATCH_PIDFD, CK_WATCH_CHANNEL, CK_WATCH_REPORT };
