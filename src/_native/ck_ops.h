/* ck_ops.h - the one table of ops: a row each, read by whoever defines the row's macro.
 *
 * CK_PREPARE_OP, CK_CHILD_OP(NAME, number, phase, slots, arguments, handler)
 *   phase      when a child op may run: ANY, BEFORE_PIVOT, AFTER_PIVOT, PRIVILEGED (before CAPS)
 *   slots      one letter for fd[0..2]: i in, o out (or -1), ? in or -1, - none
 *   arguments  one letter for arena[0..2]: t text, l list, b bytes; capital: may be absent; - none
 */
#ifndef CK_PREPARE_OP
#define CK_PREPARE_OP(...)
#endif
#ifndef CK_CHILD_OP
#define CK_CHILD_OP(...)
#endif

/* "containers/ID": make the directory (CREATE; an ephemeral one without uppers in it is removed at its
 * end), take its lock */
CK_PREPARE_OP(LOCK, 1, ANY, "---", "t--", do_lock)
/* triples: controller, file, value, ... */
CK_PREPARE_OP(CGROUP, 2, ANY, "---", "L--", do_cgroup)
/* value0 enum ck_netns; fd0 the slot it fills (POOLED) */
CK_PREPARE_OP(NETNS, 3, ANY, "o--", "---", do_netns)
/* fd0 input slot with a detached tree: attach it as source @fd0, with the ids of ID_MAP; OPTIONAL: or,
 * where its file system cannot have others, with its own; AS_IS: always.  value0 MOUNT_ATTR_*.  The slot
 * is empty then */
CK_PREPARE_OP(SOURCE, 4, ANY, "i--", "---", do_source)
/* fd0 the source's slot; fd1 slot to fill with a clone; value0 MOUNT_ATTR_* */
CK_PREPARE_OP(CLONE, 5, ANY, "io-", "---", do_clone)
/* value0 bytes, value1 inodes: a fresh tmpfs for uppers */
CK_PREPARE_OP(UPPER_TMPFS, 6, ANY, "---", "---", do_upper_tmpfs)
/* "containers/ID": uppers live below it in the store */
CK_PREPARE_OP(UPPER_DIR, 7, ANY, "---", "t--", do_upper_dir)
/* fd0 slot to fill; lowers, top first, each relative to the store or "@N" for source N; name of its
 * upper (absent: none); value0 MOUNT_ATTR_* */
CK_PREPARE_OP(OVERLAY, 8, ANY, "o--", "lT-", do_overlay)
/* fd0 slot to fill with a mountable file; its content; value0 mode, value1 MOUNT_ATTR_* */
CK_PREPARE_OP(FILE, 9, ANY, "o--", "B--", do_file)
/* uid_map, gid_map (user_namespaces(7)); fd0 slot to fill with a user namespace that has them, in which
 * the store's layers (AS_IS: not they) and the sources are seen from here on;
 * value0 uid << 32 | gid: files' owner */
CK_PREPARE_OP(ID_MAP, 10, ANY, "o--", "tt-", do_id_map)
/* write the state record */
CK_PREPARE_OP(STATE, 11, ANY, "---", "---", do_state)
/* slots to fill: its standard input (or -1: none), output, error; value0 bytes of one file of the
 * log (0: keep none), value1 files */
CK_PREPARE_OP(LOG, 12, ANY, "ooo", "---", ck_log_open)
/* value0 enum ck_restart; value1 retries, 0: no limit */
CK_PREPARE_OP(RESTART, 13, ANY, "---", "---", ck_life_restart)
/* the encoded exec plan of a probe; value0 interval << 32 | timeout, value1 start period << 32 |
 * interval in it, all ms; flags: retries */
CK_PREPARE_OP(HEALTH, 14, ANY, "---", "b--", ck_health_open)
/* struct bpf_insn each: the program that says which devices its group may use (cgroup v2) */
CK_PREPARE_OP(DEVICES, 15, ANY, "---", "b--", do_devices)
/* "containers/ID/…"; fd0 slot to fill with that directory: the root of its processes (BARE) */
CK_PREPARE_OP(TREE, 16, ANY, "o--", "t--", do_tree)

/* fd0: setns */
CK_CHILD_OP(JOIN_NET, 32, BEFORE_PIVOT, "i--", "---", ck_op_join_net)
/* fd0 the root's tree: becomes the new root; value0 uid << 32 | gid: who what is made in it belongs to */
CK_CHILD_OP(ROOT, 33, BEFORE_PIVOT, "i--", "---", ck_op_root)
/* type, target, options "k=v" or "flag"; value0 MOUNT_ATTR_* */
CK_CHILD_OP(MOUNT_FS, 34, BEFORE_PIVOT, "---", "ttL", ck_op_mount_fs)
/* fd0 a tree; target */
CK_CHILD_OP(MOVE_MOUNT, 35, BEFORE_PIVOT, "i--", "t--", ck_op_move_mount)
/* target: the container's own, read-only; value0 enum ck_own */
CK_CHILD_OP(TEMPLATE, 36, BEFORE_PIVOT, "---", "t--", ck_op_template)
/* path: covered by an empty read-only file or directory, if it exists */
CK_CHILD_OP(MASK, 37, BEFORE_PIVOT, "---", "t--", ck_op_mask)
/* path: bound on itself read-only, if it exists */
CK_CHILD_OP(READ_ONLY, 38, BEFORE_PIVOT, "---", "t--", ck_op_read_only)
/* path; value0 mode, value1 uid << 32 | gid; exists: fine */
CK_CHILD_OP(MKDIR, 39, BEFORE_PIVOT, "---", "t--", ck_op_mkdir)
/* fd0 an input: its content becomes the new file, in the root of what MOUNT_FS mounted last, which is
 * the directory of path; values as MKDIR */
CK_CHILD_OP(COPY_FD, 40, BEFORE_PIVOT, "i--", "t--", ck_op_copy_fd)
/* the root mount becomes read-only */
CK_CHILD_OP(ROOT_READ_ONLY, 41, BEFORE_PIVOT, "---", "---", ck_op_root_read_only)
/* pivot_root into the new root, detach the old one */
CK_CHILD_OP(PIVOT, 42, BEFORE_PIVOT, "---", "---", ck_op_pivot)
/* the root of what MOUNT_FS mounted last gets what every /dev has */
CK_CHILD_OP(DEV_NODES, 44, BEFORE_PIVOT, "---", "---", ck_op_dev_nodes)
CK_CHILD_OP(HOSTNAME, 43, PRIVILEGED, "---", "t--", ck_op_hostname)
/* path below /proc/sys, value */
CK_CHILD_OP(SYSCTL, 45, PRIVILEGED, "---", "tt-", ck_op_sysctl)
/* flags the resource, value0 soft, value1 hard */
CK_CHILD_OP(RLIMIT, 46, PRIVILEGED, "---", "---", ck_op_rlimit)
/* oom_score_adj, in digits */
CK_CHILD_OP(OOM_SCORE, 47, PRIVILEGED, "---", "t--", ck_op_oom_score)
/* join a fresh anonymous session keyring */
CK_CHILD_OP(KEYRING, 48, PRIVILEGED, "---", "---", ck_op_keyring)
/* slots become 0, 1, 2; -1: /dev/null */
CK_CHILD_OP(STDIO, 49, ANY, "???", "---", ck_op_stdio)
/* setsid */
CK_CHILD_OP(SESSION, 50, ANY, "---", "---", ck_op_session)
/* value0 */
CK_CHILD_OP(UMASK, 51, ANY, "---", "---", ck_op_umask)
/* u32 each */
CK_CHILD_OP(GROUPS, 52, PRIVILEGED, "---", "B--", ck_op_groups)
/* value0 uid, value1 gid; capabilities survive until CAPS */
CK_CHILD_OP(IDS, 53, PRIVILEGED, "---", "---", ck_op_ids)
/* value0 bounding set, value1 permitted = effective; inheritable, ambient 0 */
CK_CHILD_OP(CAPS, 54, AFTER_PIVOT, "---", "---", ck_op_caps)
/* path, with the rights it has then; nothing to do where an earlier one did it */
CK_CHILD_OP(CHDIR, 55, AFTER_PIVOT, "---", "t--", ck_op_chdir)
CK_CHILD_OP(NO_NEW_PRIVS, 56, ANY, "---", "---", ck_op_no_new_privs)
/* struct sock_filter each */
CK_CHILD_OP(SECCOMP, 57, AFTER_PIVOT, "---", "b--", ck_op_seccomp)
/* candidates tried in order, argv, envp */
CK_CHILD_OP(EXEC, 58, AFTER_PIVOT, "---", "lll", ck_op_exec)
/* value0 rows, value1 columns: a terminal of the container's own becomes 0, 1, 2 and that of a new
 * session; both of its sides go to the launcher */
CK_CHILD_OP(PTY, 59, PRIVILEGED, "---", "---", ck_op_pty)
/* what follows runs in a child; the first process stays and is its init */
CK_CHILD_OP(INIT, 60, AFTER_PIVOT, "---", "---", ck_op_init)
/* instead of EXEC: wait until the launcher lets go */
CK_CHILD_OP(PARK, 61, AFTER_PIVOT, "---", "---", ck_op_park)
/* fd0 ID_MAP's; -1: in an exec, its container's.  value0 uid, value1 gid, of the host: of its streams */
CK_CHILD_OP(JOIN_USER, 62, PRIVILEGED, "?--", "---", ck_op_join_user)
/* In a plan without namespaces: orphans of its processes come to the first one, which INIT leaves; fd0
 * TREE's, -1: in an exec, its container's; value0 1: the root stays as it is */
CK_CHILD_OP(CHROOT, 63, PRIVILEGED, "?--", "---", ck_op_chroot)
/* text, path: a symbolic link, unless something is there or its directory is not */
CK_CHILD_OP(LINK, 64, BEFORE_PIVOT, "---", "tt-", ck_op_link)
/* instead of SECCOMP: that there is no filter is meant */
CK_CHILD_OP(UNCONFINED, 65, ANY, "---", "---", ck_op_unconfined)

#undef CK_PREPARE_OP
#undef CK_CHILD_OP
