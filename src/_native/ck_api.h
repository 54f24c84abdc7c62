/* ck_api.h - everything Python may call or read: plain structs, enums and functions, no macros,
 * no includes, so that CFFI reads this very file.  uint64_t and friends come from the includer. */

/* ---- errors ------------------------------------------------------------------------------- */

enum ck_code {
    CK_E_OS = 1,       /* errnum says it */
    CK_E_ARCHIVE = 2,  /* malformed or truncated tar */
    CK_E_UNSAFE = 3,   /* a path or link that would leave the destination */
    CK_E_LIMIT = 4,    /* more than one of struct ck_apply_options allows */
};

struct ck_error {
    int code;          /* enum ck_code */
    int errnum;        /* positive errno or 0 */
    char detail[512];  /* object and cause, UTF-8 or raw path bytes, NUL-terminated */
};

/* ---- layers: the tar applier (ck_tar, ck_apply, ck_path) ---------------------------------- */

enum ck_apply_flags {
    CK_APPLY_USER_XATTRS = 1, /* opaque marks as user.overlay.*, not trusted.overlay.* */
    CK_APPLY_OWN_IDS = 4,      /* all is the caller's own, and has no file capabilities */
    CK_APPLY_NO_OPENAT2 = 2,   /* resolve as on a kernel without openat2 (tests) */
};

struct ck_apply_options {
    unsigned flags;           /* enum ck_apply_flags */
    uint64_t max_entries;
    uint64_t max_bytes;       /* of all files together, holes included */
    uint32_t max_depth;       /* directories below each other */
    uint32_t max_xattr_bytes; /* names and values of one entry */
    uint32_t max_meta_bytes;  /* one extended header */
    /* the caller's: remove a directory in another, with all below it; 0 or a negative errno */
    int (*remove_tree)(int dirfd, const char *name);
};

struct ck_apply_result {
    uint64_t entries;         /* that the archive holds, whiteouts included */
    uint64_t bytes;           /* of all files together, holes included */
    const char *entry;        /* the present one, as the archive spells it; raw bytes; or NULL */
    struct ck_error err;      /* of a failure */
    /* of a sparse file that is the caller's to write: */
    size_t left;              /* bytes behind its header, not taken */
    int file;                 /* open and empty; -1: it is left out */
    uint64_t size;            /* bytes in the stream: its data, in some formats also its map */
    const unsigned char *header; /* 512 bytes */
    const char *records;      /* PAX, each "length key" NUL "value" NUL */
    size_t records_size;      /* 0: none */
};

struct ck_applier;

/* Begin to apply one layer to the empty directory root, which stays open until ck_apply_free.  The
 * result is the caller's, of zeros, and kept up to date by ck_apply_feed.  NULL: no memory. */
struct ck_applier *ck_apply_new(int root, const struct ck_apply_options *options,
                                struct ck_apply_result *result);
/* Take the next bytes of the tar stream; or, without buf, end it: check that it was whole, set the
 * directories' modes and times.  The calling thread has a working directory and a umask (of 0) of
 * its own afterwards, not those of the process: give it a thread of its own.
 * 1: an entry is a sparse file.  The caller takes its data and padding from the last `left` bytes and
 * those that follow, counts its bytes, and calls again with what comes behind it, even if that is none.
 * After a failure only ck_apply_free may follow. */
int ck_apply_feed(struct ck_applier *, const void *buf, size_t len);
void ck_apply_free(struct ck_applier *);

/* ---- paths that something else chose, beneath a root descriptor (ck_path) ------------------
 *
 * Symbolic links are followed as if the root were `/`: absolute ones start again at the root, `..`
 * stops there, magic links of /proc are never followed.  One openat2(2) does it; where the kernel or
 * a seccomp filter refuses that call, a walk with O_NOFOLLOW on each component does the same.
 * Both return a descriptor or a negative errno. */

enum ck_path_how {
    CK_PATH_NO_SYMLINKS = 1, /* a link anywhere in the path is -ELOOP */
    CK_PATH_WALK = 2,        /* do not try openat2: tests of the walk */
};

/* Open path beneath root; flags as open(2), without O_CREAT and O_TMPFILE. */
int ck_path_open(int root, const char *path, int flags, unsigned how);
/* Make the directories of path that are missing, with mode (less the umask), or, with that of a
 * regular file, such a one with directories of 0755 above; returns an O_PATH descriptor of the last. */
int ck_path_mkdirs(int root, const char *path, unsigned mode, unsigned how);
/* The kind of the file system that fd lies on: f_type of statfs(2), or a negative errno. */
int64_t ck_path_type(int fd);

/* ---- launch: the launcher's client side (ck_spawn); each returns >= 0 or a negative errno --- */

/* Start the launcher in pid and mount namespaces of its own, with an empty environment and nothing
 * but the control socket, within the user namespace; -1: ours; CK_NO_NAMESPACES: in none of its own, not
 * for processes and mounts either.  Returns its pid and fills *pidfd. */
enum ck_namespaces { CK_NO_NAMESPACES = -2 };
int ck_spawn_launcher(int program, int control, int userns, int *pidfd);
/* A detached clone of the host's tree at path (open_tree(2)), for a plan's source or a program,
 * made with the rights of a user namespace, -1: ours. */
int ck_open_source(const char *path, int recursive, int read_only, int userns);
/* A process in a new user namespace, without maps yet, for others to open it by: fills *pidfd.  It
 * ends when the descriptor that is returned is closed, or is killed; it is to be waited for.  A trial has
 * namespaces of all kinds that the launcher needs, and ends with the errno of a refused mount, or 0. */
int ck_spawn_namespace(int trial, int *pidfd);
/* Attach a program of size bytes, struct bpf_insn each, to a group of cgroup v2, open as group: it
 * says which devices may be used there and in those below that have no program of their own. */
int ck_limit_devices(int group, const void *program, size_t size);
