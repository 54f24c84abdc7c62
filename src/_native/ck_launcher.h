/* ck_launcher.h - the launcher: parent and PID 1 of all containers of one process and root.
 *
 * One loop over descriptors, one table made at start; nothing is allocated for a request.  It is
 * started with an empty environment and one socket, builds a mount namespace of its own (tmpfs
 * root, the engine's store at /store, templates), and dies with its owner: before that it kills,
 * waits for and releases every container.  When it is killed itself, the kernel ends them all.
 *
 *   ck_launcher.c        the loop, HELLO, packets
 *   ck_launcher_request.c  connections of any process: requests about kept containers
 *   ck_launcher_life.c   what happens to a container while it lives: signals, pauses, health
 *   ck_launcher_health.c  probes of its health
 *   ck_launcher_exec.c   further processes of a container
 *   ck_launcher_agent.c  what makes those
 *   ck_launcher_log.c    its output and input
 *   ck_launcher_setup.c  the mount namespace and its templates
 *   ck_launcher_own.c    /dev, masks, the view of its control groups: made by each child
 *   ck_launcher_pool.c   what is made ahead: spare child, cgroups, network namespaces
 *   ck_launcher_prepare.c  the prepare ops
 *   ck_launcher_start.c  START: a child with its plan
 *   ck_launcher_end.c    exit, release ops, shutdown
 */
#pragma once

#include <stdlib.h>

#include "ck_child.h"
#include "ck_wire.h"

enum {
    CK_CONTAINERS = 8192,  /* in one launcher, and their execs */
    CK_POOL_MAX = 512,     /* network namespaces kept ready */
    CK_POOL_LOW = 4,       /* of them: fewer are refilled between two starts */
    CK_TRASH = 1024,       /* cgroups waiting to be removed */
    CK_KEPT = 4,           /* places of ended containers, kept for the next spares */
    CK_CONNECTIONS = 1024, /* of other processes, and of watchers */
    CK_PROBE_OUTPUT = 4096, /* bytes kept of what a health probe says */
    CK_SPARE_NAMESPACES = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS,
};

enum {
    CK_RECORD_DATA = 64 << 10, /* of one record in a log: what one read of a stream gives at most */
    CK_RECORD_MAGIC = 0x4c43,  /* "CL" */
    CK_LOG_FILES = 1000,
};

/* One record of a log (stdio/records.py), with the size again behind the data. */
struct ck_record {
    uint32_t size;
    uint8_t stream, inside;  /* 1 output, 2 error; whether it goes on with a line */
    uint16_t magic;
    uint64_t time_ns;        /* CLOCK_REALTIME */
    char data[CK_RECORD_DATA + sizeof(uint32_t)];
};

/* ENDED: an exec of which only its group is left. */
enum ck_status { CK_FREE, CK_STARTING, CK_RUNNING, CK_RESTARTING, CK_ENDED };

/* Input and output of one container, all -1 without; ck_launcher_log.c. */
struct ck_log {
    int input, output[2], file; /* our ends; output[0] is the master of a terminal */
    int terminal, slave;        /* the other side of a terminal: while it is open, so is the terminal */
    uint8_t open[2];            /* whether the last line of a stream has not ended */
    uint32_t max_files;
    uint64_t max_bytes, size;   /* of one file: its cap, and as it is */
};

/* A parked process in all of one container's namespaces, which makes its execs. */
struct ck_agent {
    int socket, pidfd;       /* socket 0 or -1: there is none */
};

/* To start a container again: its plan, and copies of the inputs that it reads. */
struct ck_again {
    size_t size;
    int inputs[CK_SLOTS];    /* 0: none */
    _Alignas(8) char plan[];
};

struct ck_container;

/* A health check; times in ns. */
struct ck_probe {
    uint64_t interval, timeout, start_period, start_interval;
    uint64_t at;             /* CLOCK_MONOTONIC: when it begins, or has had its time */
    uint32_t retries;
    bool running, late;
    struct ck_container *exec; /* while it is running */
    int out;                 /* our end of the pipe of its output and error, the inputs of its plan */
    size_t used, size;       /* of the output, of the plan */
    char output[CK_PROBE_OUTPUT];
    _Alignas(8) char plan[];
};

/* What goes on with a kept container; ck_launcher_life.c.  Times are ns of CLOCK_MONOTONIC. */
struct ck_life {
    struct ck_again *again;
    struct ck_probe *probe;
    uint32_t policy, retries;   /* enum ck_restart */
    uint64_t started, backoff;  /* since when it runs; the last pause before a restart */
    uint64_t at;                /* RESTARTING: when; of a dying exec: until when its end is waited for */
    bool frozen, dying;         /* dying: it was sent SIGKILL */
    bool told;                  /* of an exec that does not die: its end was told before it came */
};

/* A container; or an exec, which is one more process of a container: what it starts is in a group of its
 * own, or for want of one in the namespace that is its lock; it has no directory, record, release ops. */
struct ck_container {
    enum ck_status status;
    struct ck_container *within; /* of an exec; else NULL */
    uint16_t flags;          /* enum ck_plan_flag */
    uint16_t release;        /* bits of enum ck_release */
    uint32_t number;         /* unique in this launcher: names its cgroup and sources; an exec's group */
    uint32_t generation;     /* of this table entry, so that a stale event finds nobody */
    int channel, lock, report;
    int pidfd;               /* of an ENDED exec: somebody's who is left in its group */
    int adopter;             /* pidfd: of an exec's, if it has one */
    uint32_t cause;          /* enum ck_cause the caller gave with KILL */
    uint64_t sources;        /* slots with a tree attached below /src */
    int user;                /* its user namespace or TREE, -1: ours */
    int16_t ids;             /* then: the source that is the store as seen from there */
    uint64_t owner;          /* and uid << 32 | gid of its root */
    uint32_t oom_kills, refused; /* processes in its cgroup, when last asked: killed, not made */
    struct ck_report failed; /* errnum != 0: the start failed here */
    struct ck_state state;
    struct ck_log log;
    struct ck_agent agent;
    struct ck_life life;
    char dir[96];            /* "containers/ID", relative to the store; "" when none */
};

enum ck_release {
    CK_REL_DIR = 4, /* the plan made it, and there is no upper in it */
    CK_HAS_CGROUP = 16, CK_ABOUT_TO_EXEC = 32,
    CK_SETTLED = 64,         /* it was started to stay: starts do not wait for its end */
    CK_HOST_NET = 1024,      /* it is in the launcher's network */
    CK_ADOPTS = 2,           /* its execs have adopters: what they orphan is reaped */
    CK_HAS_INIT = 128,       /* its first process waits for orphans */
    CK_QUIET = 8,            /* an exec of which nobody wants STARTED */
    CK_TUNED = CK_F_TUNED, CK_UNCOMMON = CK_F_UNCOMMON, /* of its cgroup, */
    CK_SPOILT = CK_F_SPOILT, /* which may turn out later */
};

/* A locked directory and a cgroup of the same number, empty and with every value at its default. */
struct ck_place {
    uint32_t number;
    int lock, used, tuned;   /* another container was here before, with limits on more than pids */
};

/* A child cloned ahead, parked on its socket. */
struct ck_spare {
    int ready, joined;       /* joined: it has been told to enter its cgroup */
    struct ck_place place;   /* its directory is containers/.LAUNCHER-NUMBER */
    int pidfd, pid, socket;
};

/* A process that has connected: it asks one thing, and is answered or watches. */
struct ck_connection {
    int fd;                  /* < 0: the entry is free, and so it is in zeroed memory for 0 */
    uint16_t kind;           /* 0 before its request; WATCH; FREEZE: thawed with its end */
    struct ck_container *container; /* what it waits for, and which use of that entry */
    uint32_t of;
};

/* What shows a hierarchy's groups to containers: which directory it is; ino 0: nothing does. */
struct ck_view {
    dev_t dev;
    ino_t ino;
    int tree;                /* during set-up */
};

struct ck_launcher {
    int control, owner, listener, run, claim, reserve, epoll, store, host_net;
    int orphans;             /* BARE: proc_tid_children(5) of ourselves, else -1 */
    int n_controllers, controllers[CK_CONTROLLERS];
    struct ck_view views[CK_CONTROLLERS]; /* of each directory */
    int cpuset, cpuset_view; /* the owner's group of that; whether its file is shown */
    int unified;             /* index of the cgroup v2 controller directory or -1 */
    int32_t step;            /* how far set-up came, for READY */
    uint32_t last_number, last_exec; /* of a container, of an exec */
    uint32_t live;           /* containers that are starting, or run to their end */
    uint32_t first_free;     /* no entry of the table before this one is free */
    uint32_t used, present;  /* entries ever used; those in use */
    bool apart;              /* it may not come back to the network it is in: a user namespace's */
    bool strangers;          /* it may have children that nobody knows: of execs, or not waited for yet */
    bool left;               /* it lives on without an owner, until nothing is present */
    uint64_t idle_since;     /* CLOCK_MONOTONIC ns of the last work */
    int busy;                /* a cgroup could not be removed yet: try again after a pause */
    struct ck_hello hello;
    struct ck_spare spare;
    int pool[CK_POOL_MAX];
    struct ck_place kept[CK_KEPT];
    uint32_t trash[CK_TRASH];
    uint32_t pooled, n_kept, trashed;
    _Alignas(8) char packet[sizeof(struct ck_packet) + CK_PLAN_INLINE + 4096];
    struct ck_record record; /* the one buffer of all logs */
    uint64_t due;            /* CLOCK_MONOTONIC ns of the next timer; 0: none */
    struct ck_connection connections[CK_CONNECTIONS];
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
    uint64_t again_too;      /* slots, beside the inputs, that a restart has as well */
    bool again;              /* a restart: what outlives the first start is there */
};

/* setup */
int ck_launcher_enter(struct ck_launcher *l);
void ck_launcher_leave_group(const struct ck_launcher *l);

/* own: what each child makes that is its container's alone */
int ck_own_make(const struct ck_launcher *l);
int ck_own_show_groups(const struct ck_launcher *l, uint32_t number); /* once it has joined them */
void ck_own_find_groups(struct ck_launcher *l, int proc); /* while the host's mounts are there */
int ck_own_attach_groups(struct ck_launcher *l);

/* pool */
const char *ck_pool_group(const struct ck_launcher *l, uint32_t number, const char *file,
                          char out[128]);
int ck_pool_make_cgroup(struct ck_launcher *l, uint32_t number);
int ck_pool_drop_cgroup(struct ck_launcher *l, uint32_t number);
void ck_pool_trash_cgroup(struct ck_launcher *l, uint32_t number);
pid_t ck_pool_clone(struct ck_launcher *l, uint32_t number, uint64_t namespaces, int *pidfd,
                    int *socket);
int ck_pool_join_cgroup(struct ck_launcher *l, uint32_t number);
int ck_pool_controller(const struct ck_launcher *l, const char *name); /* its index */
/* A container's group, "N", or an exec's in it, "N/xN". */
int ck_pool_freeze(const struct ck_launcher *l, const char *group, bool frozen);
int ck_pool_write_cgroup(struct ck_launcher *l, uint32_t number, const char *triples, uint32_t n);
int ck_pool_read_cgroup(const struct ck_launcher *l, uint32_t number, const char *controller,
                        const char *file, char text[512]); /* bytes, or an errno */
int ck_pool_netns(struct ck_launcher *l);
int ck_pool_sysfs(void); /* a mount of it that shows the network we are in */
/* One made by a child; with sysfs, a mount of it that shows that network. */
int ck_pool_netns_apart(struct ck_launcher *l, int *sysfs);
/* What a container's directory is called before it has the container's name: made, locked. */
const char *ck_pool_ahead(const struct ck_launcher *l, uint32_t number, char name[96]);
/* Its lock; after a failure to make it, whoever calls drops what there is. */
int ck_pool_lock_dir(struct ck_launcher *l, const char *dir, bool make);
void ck_pool_drop_dir(struct ck_launcher *l, const char *dir);
bool ck_pool_is_charged(const struct ck_launcher *l, const struct ck_place *place);
int ck_pool_keep(struct ck_launcher *l, struct ck_container *c);
void ck_pool_close(struct ck_launcher *l);
void ck_pool_end_spare(struct ck_launcher *l, struct ck_spare *spare);
int ck_pool_wants_work(const struct ck_launcher *l);
void ck_pool_work(struct ck_launcher *l); /* one step of refilling or cleaning */

/* prepare, start */
int ck_launcher_prepare(struct ck_start *start);
void ck_source_path(char out[48], const struct ck_container *c, unsigned slot);
void ck_launcher_start(struct ck_launcher *l, const void *plan, size_t size, int *fds, int n_fds);
void ck_launcher_start_again(struct ck_launcher *l, struct ck_container *c);
int ck_launcher_write_state(struct ck_container *c);

/* request: the connections */
void ck_request_accept(struct ck_launcher *l);
void ck_request_event(struct ck_launcher *l, size_t index);
/* To its channel and to all that watch it. */
void ck_request_tell(struct ck_launcher *l, struct ck_container *c, uint16_t kind,
                     const struct ck_event *event);

/* life: signals, pauses, restarts, events */
int ck_life_restart(struct ck_start *start, const struct ck_op *op); /* the op RESTART */
int ck_life_remember(struct ck_start *start);
void ck_life_forget(struct ck_launcher *l, struct ck_container *c);
int ck_life_started(struct ck_launcher *l, struct ck_container *c);
bool ck_life_ended(struct ck_launcher *l, struct ck_container *c);
int ck_life_set_freezer(struct ck_launcher *l, const struct ck_container *c, bool frozen);
void ck_life_kill(struct ck_launcher *l, struct ck_container *c, int signal, uint32_t cause);
int ck_life_signal(struct ck_launcher *l, struct ck_container *c, const uint32_t value[4]);
int ck_life_freeze(struct ck_launcher *l, struct ck_container *c, bool frozen);
void ck_life_due(struct ck_launcher *l, uint64_t when); /* have ck_life_work called then */
void ck_life_work(struct ck_launcher *l);               /* all timers that are due */
/* Append one line to the events: kind, the container, and what format adds: `,"code":%d`. */
__attribute__((format(printf, 4, 5))) void ck_event_write(struct ck_launcher *l, const char *kind,
                                                          const struct ck_container *c,
                                                          const char *format, ...);

/* health */
int ck_health_open(struct ck_start *start, const struct ck_op *op); /* the op HEALTH */
void ck_health_forget(struct ck_launcher *l, struct ck_container *c);
void ck_health_schedule(struct ck_launcher *l, struct ck_container *c);
void ck_health_output(struct ck_launcher *l, struct ck_container *c);
void ck_health_work(struct ck_launcher *l, struct ck_container *c, uint64_t now);
/* A probe has ended (code >= 0, 128 + signal), or could not be started (a negative errno). */
void ck_life_probed(struct ck_launcher *l, struct ck_container *c, int code);

/* exec: plan and inputs stay the caller's; the channel does not, whatever is returned: what there is
 * to say is said on it.  -1: a health probe, whose end ck_life_probed is told, unless an error is
 * returned.  A plan above CK_PLAN_INLINE bytes is a memfd's, which is behind the n_fds inputs. */
int ck_exec_start(struct ck_launcher *l, struct ck_container *c, const void *plan, size_t size,
                  const int *fds, int n_fds, int channel, int quiet);
void ck_exec_kill(struct ck_launcher *l, struct ck_container *e, int signal);
void ck_exec_found(struct ck_launcher *l, struct ck_container *e, int pidfd); /* which it takes */
/* Of one that has ended, with an adopter: whether that has, too. */
bool ck_exec_is_over(struct ck_launcher *l, struct ck_container *e);
void ck_exec_overdue(struct ck_launcher *l, struct ck_container *e, uint64_t now); /* it was killed */
void ck_exec_finish(struct ck_launcher *l, struct ck_container *e); /* also once more, while ENDED */
void ck_exec_drop_all(struct ck_launcher *l, struct ck_container *c); /* it has ended */
bool ck_exec_is_ending(const struct ck_container *c);    /* the container's first process */
/* Below whose groups each exec has one: a directory; -1 where there are none. */
int ck_exec_hierarchy(const struct ck_launcher *l, const struct ck_container *c);
/* To the container's agent, made when there is none; descriptors: the socket for reports, the exec's
 * group or namespace, the plan's inputs, the memfd of a plan above CK_PLAN_INLINE bytes. */
int ck_agent_send(struct ck_launcher *l, struct ck_container *c, const void *plan, size_t size,
                  const int *fds, int n);
void ck_agent_end(struct ck_container *c);
void ck_agent_adopt(struct ck_container *c); /* from now on */

/* log */
int ck_log_open(struct ck_start *start, const struct ck_op *op); /* the op LOG */
/* Read a stream once, 0: output, 1: error; 0 when it has nothing more now. */
int ck_log_take(struct ck_launcher *l, struct ck_container *c, int stream);
void ck_log_finish(struct ck_launcher *l, struct ck_container *c); /* drain, close */
int ck_log_input(struct ck_launcher *l, struct ck_container *c); /* a new descriptor or an errno */
int ck_log_close_input(struct ck_launcher *l, struct ck_container *c);
/* Of the op PTY; it takes both. */
void ck_log_terminal(struct ck_launcher *l, struct ck_container *c, int master, int slave);

/* end */
void ck_launcher_reap(struct ck_launcher *l); /* children that are nobody's */
void ck_launcher_ended(struct ck_launcher *l, struct ck_container *c);
void ck_launcher_release(struct ck_launcher *l, struct ck_container *c, uint16_t kind);
void ck_launcher_fail(struct ck_launcher *l, struct ck_container *c);
_Noreturn void ck_launcher_shutdown(struct ck_launcher *l);

/* loop */
struct ck_container *ck_launcher_new(struct ck_launcher *l, int channel); /* an entry; NULL: no room */
void ck_launcher_hear(struct ck_launcher *l, struct ck_container *c, bool ended); /* its reports */
bool ck_launcher_is_packet(const struct ck_packet *packet, ssize_t got);
/* The plan behind a request, or that in a sealed memfd, its last descriptor, to be unmapped; NULL: it
 * is none to be trusted. */
void *ck_launcher_plan(void *behind, bool sealed, const int *fds, int *n, size_t *size);
int ck_launcher_watch(struct ck_launcher *l, int fd, int kind, uint32_t generation, size_t index);
int ck_container_watch(struct ck_launcher *l, const struct ck_container *c, int fd, int kind);
/* Of an event: */
static inline int ck_tag_kind(uint64_t tag) { return (int)(tag >> 56); }
static inline uint32_t ck_tag_generation(uint64_t tag) { return (uint32_t)(tag >> 16); }
static inline size_t ck_tag_index(uint64_t tag) { return tag & 0xffff; }
void ck_launcher_unwatch(struct ck_launcher *l, int *fd); /* and close it */
bool ck_launcher_is_full(int fd); /* of descriptors, fd being a new one */
/* fd, terminal: -1: none */
void ck_launcher_tell(int channel, uint16_t kind, const struct ck_event *event, int fd, int terminal);
int ck_launcher_refuse(int channel, uint32_t at, int error); /* a plan, and close the channel */

/* What an event is about; from CK_WATCH_PIDFD on the index is a container's or an exec's. */
enum {
    CK_WATCH_CONTROL, CK_WATCH_OWNER, CK_WATCH_LISTENER, CK_WATCH_CONNECTION,
    CK_WATCH_PIDFD, CK_WATCH_CHANNEL, CK_WATCH_REPORT, CK_WATCH_LOG_STDOUT, CK_WATCH_LOG_STDERR,
    CK_WATCH_PROBE,
};
