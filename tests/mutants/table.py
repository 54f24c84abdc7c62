"""The mutants: which text of which file, what it becomes, what that breaks, which tests must notice.

A row is short enough to survive the next change of its lines, and its text occurs once in its file:
a unit test compares all rows with the tree.  A new defence brings its row.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Mutant(NamedTuple):
    """One line broken on purpose.

    Args:
        file: from the top of the checkout.
        old: the exact text, which occurs once.
        new: what it becomes.
        breaks: what is no longer so.
        tests: pytest node ids, of which at least one must fail; all pass without the mutant.
        hangs: whether tests that do not end have noticed, too.
    """

    file: str
    old: str
    new: str
    breaks: str
    tests: tuple[str, ...]
    hangs: bool = False

    def apply(self, text: str) -> str:
        """Return the text with the mutant in it.

        Raises:
            ValueError: *old* is not there exactly once.
        """
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.old!r} is {count} times in {self.file}")
        return text.replace(self.old, self.new)


C: Final = "src/_native/"
FAULTS: Final = "tests/integration/registry/test_faults.py::"
RETRY: Final = "tests/unit/registry/test_retry.py::"
PULL: Final = "tests/integration/pull/test_bad_input.py::"
PY: Final = "src/containerkit/"
SECURITY: Final = "tests/security/"
UNIT: Final = "tests/unit/"
INTEGRATION: Final = "tests/integration/"
CAPS: Final = f"{SECURITY}test_capabilities.py::test_they_are_exact[two]"
PROPERTY: Final = "tests/property/test_plans_agree_with_c.py::"
DURABLE: Final = f"{UNIT}state/test_durable.py::"

RIGHTS: Final = (
    Mutant(C + "ck_sys.c", "result(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))", "0",
           "the bounding set is not lowered", (CAPS,)),
    Mutant(C + "ck_sys.c", "{(uint32_t)permitted, (uint32_t)permitted, 0}",
           "{(uint32_t)permitted, (uint32_t)permitted, (uint32_t)permitted}",
           "capabilities are inheritable", (CAPS,)),
    Mutant(C + "ck_sys.c", "syscall(SYS_setresgid, gid, gid, gid)",
           "syscall(SYS_setresgid, -1, gid, gid)", "the real group id stays root's",
           (f"{SECURITY}test_identity.py::test_users_and_exact_groups",)),
    Mutant(C + "ck_sys.c", "syscall(SYS_setresuid, uid, uid, uid)",
           "syscall(SYS_setresuid, -1, uid, uid)", "the real user id stays root's",
           (f"{SECURITY}test_identity.py::test_users_and_exact_groups",)),
    Mutant(C + "ck_sys.c", 'CK_TRY(ck_umount("."));', "", "the old root stays mounted below the new",
           (f"{INTEGRATION}run/test_isolation.py::test_mounts",)),
    Mutant(C + "ck_ops_cred.c",
           "return ck_set_groups(length / sizeof(uint32_t), (const void *)groups);", "return 0;",
           "the caller's groups stay",
           (f"{SECURITY}test_identity.py::test_the_callers_groups_stay_with_it",)),
    Mutant(C + "ck_ops_cred.c", "CK_OP_IS(ck_op_no_new_privs, ck_no_new_privs())",
           "CK_OP_IS(ck_op_no_new_privs, 0)", "no_new_privs is not set",
           (f"{SECURITY}test_capabilities.py::test_setuid_programs_give_nothing",)),
    Mutant(C + "ck_ops_cred.c",
           "return ck_seccomp((const void *)filter, length / sizeof(struct sock_filter));",
           "return 0;", "the filter of system calls is not loaded",
           (f"{SECURITY}test_seccomp.py::test_what_no_container_needs_is_refused",)),
    Mutant(C + "ck_ops_cred.c", "CK_OP_IS(ck_op_caps, ck_set_caps(op->value[0], op->value[1]))",
           "CK_OP_IS(ck_op_caps, 0)", "no capability is dropped", (CAPS,)),
    Mutant(C + "ck_plan.c", "return !now->ended || is_confined(now) ? 0 : -EINVAL;", "return 0;",
           "a plan without ids, capabilities or a filter is run",
           (f"{PROPERTY}test_what_does_not_confine_is_refused_by_both",)),
    Mutant(C + "ck_plan.c", "(op->flags & CK_F_OPTIONAL && !may_be_optional(op->code))", "0",
           "a program starts where what confines it has failed",
           (f"{PROPERTY}test_what_confines_may_not_fail",)),
    Mutant(C + "ck_ops_cred.c", "return ck_not_dumpable(); /* a change", "return 0; /* a change",
           "with fs.suid_dumpable=1 a change of ids leaves a process dumpable",
           (f"{SECURITY}test_dumpable.py::test_it_never_is[ids]",)),
    Mutant(C + "ck_ops_cred.c", "return ck_not_dumpable();\n", "return 0;\n",
           "with fs.suid_dumpable=1 entering a user namespace leaves a process dumpable",
           (f"{SECURITY}test_dumpable.py::test_it_never_is[user namespace]",)),
    Mutant(PY + "launch/confine.py", "held = bounding if identity.uid == 0 else 0",
           "held = bounding", "an ordinary user inside has root's capabilities until it executes",
           (f"{UNIT}launch/test_compile.py::test_another_user_holds_no_capability_and_all_its_groups",)),
    Mutant(PY + "launch/confine.py", "if security.no_new_privileges:\n        steps.append",
           "if not security.no_new_privileges:\n        steps.append",
           "no_new_privs is for those who asked not to have it",
           (f"{SECURITY}test_capabilities.py::test_setuid_programs_give_nothing",)),
    Mutant(C + "ck_ops_ns.c", "CK_OP_IS(ck_op_keyring, ck_session_keyring())",
           "CK_OP_IS(ck_op_keyring, 0)", "the caller's session keyring stays",
           (f"{SECURITY}test_keyring.py::test_the_hosts_keys",)),
    Mutant(C + "ck_launcher_request.c", "(uid != 0 && uid != ck_geteuid())", "0",
           "anybody may send requests to the launcher",
           (f"{SECURITY}test_launcher_socket.py::test_another_user",)),
)  # fmt: skip
"""Capabilities, ids, filters: what a process in a container may do."""

FILES: Final = (
    Mutant(C + "ck_path.c", "RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS", "RESOLVE_NO_MAGICLINKS",
           "links lead out of the root",
           (f"{UNIT}test_native_paths.py::test_nothing_else_is_reached",
            f"{UNIT}test_native_paths.py::test_links_lead_to_what_is_beneath")),
    Mutant(C + "ck_path.c", "resolve |= RESOLVE_NO_SYMLINKS;", "resolve |= 0;",
           "links are followed where none may be",
           (f"{UNIT}test_native_paths.py::test_links_can_be_refused",)),
    Mutant(C + "ck_path.c", "(text[0] == '/' && ck_path_type(link) == PROC_SUPER_MAGIC)", "0",
           "the walk follows the text of magic links",
           (f"{UNIT}test_native_paths.py::test_magic_links_are_not_followed",)),
    Mutant(C + "ck_ops_mount.c", 'return ck_move_mount(tree, target, "");', "return 0;",
           "masks cover nothing", (f"{SECURITY}test_masks.py::test_they_are_empty",)),
    Mutant(C + "ck_ops_mount.c",
           "CK_TRY(itself ? ck_mount_set(tree, MOUNT_ATTR_RDONLY, AT_RECURSIVE) : 0);", "",
           "read-only paths can be written to",
           (f"{SECURITY}test_masks.py::test_read_only_paths",)),
    Mutant(C + "ck_ops_mount.c",
           "CK_OP_IS(ck_op_root_read_only, ck_mount_set(child->root, MOUNT_ATTR_RDONLY, 0))",
           "CK_OP_IS(ck_op_root_read_only, 0)", "a read-only root is writable",
           (f"{SECURITY}test_strict.py::test_it_writes_to_scratch_only",)),
    Mutant(C + "ck_ops_mount.c", "is_system(child, target))", "0 && is_system(child, target))",
           "a mount follows an image's link into /proc",
           (f"{SECURITY}test_mounts.py::test_links_of_an_images_own_to_the_systems",)),
    Mutant(C + "ck_child.c", "error = ck_child_close(child);", "error = ck_close_range(3, ~0U, 1);",
           "descriptors are open while execve resolves paths",
           (f"{SECURITY}test_execve.py::test_what_is_open[run-bind-default]",)),
    Mutant(C + "ck_ops_proc.c", "return -EISDIR;", "child->aux = i;",
           "a stream is a directory of the host",
           (f"{SECURITY}test_descriptors.py::test_a_directory_is_no_stream",)),
    Mutant(C + "ck_ops_cred.c", "if (own || ck_path_type(i) == PIPEFS_MAGIC)", "if (true)",
           "files of the host become a container's by being its streams",
           (f"{SECURITY}test_descriptors.py::test_a_file_that_is_given_stays_its_owners",)),
    Mutant(C + "ck_launcher_prepare.c", "CK_TRY(ck_mount_set(tree, op->value[0], AT_RECURSIVE));",
           "CK_TRY(ck_mount_set(tree, 0, AT_RECURSIVE));", "every source is attached writable",
           (f"{SECURITY}test_mounts.py::test_what_nobody_writes_to_is_attached_read_only",)),
    Mutant(PY + "launch/mounts.py", "op.fd[0] not in written:", "False:",
           "no source is asked to be read-only",
           (f"{SECURITY}test_mounts.py::test_what_nobody_writes_to_is_attached_read_only",)),
    Mutant(C + "ck_launcher_own.c", 'apart(own, "dev", CK_OWN_DEV)',
           "apart(AT_FDCWD, CK_TEMPLATE_DEV, CK_OWN_DEV)",
           "all containers have one /dev",
           (f"{SECURITY}test_own_files.py::test_no_file_system_is_shared",)),
    Mutant(C + "ck_launcher_own.c", "ck_mount_set(own, INERT | MOUNT_ATTR_RDONLY, 0)",
           "ck_mount_set(own, INERT, 0)",
           "what covers hidden paths is writable",
           (f"{SECURITY}test_masks.py::test_what_covers_them",)),
    Mutant(C + "ck_launcher_own.c", "ck_mount_set(tree, INERT | MOUNT_ATTR_RDONLY, 0)",
           "ck_mount_set(tree, INERT, 0)",
           "control groups are shown writable",
           (f"{SECURITY}test_cgroups.py::test_groups_of_others",)),
    Mutant(C + "ck_launcher_own.c", 'CK_GROUPS "/%d/%s", i, group', 'CK_GROUPS "/%d%.0s", i, group',
           "control groups of all containers are shown",
           (f"{SECURITY}test_cgroups.py::test_groups_of_others",)),
    Mutant(C + "ck_tar.c", "if (e->size && e->type != '0' && e->type != '1')", "if (0)",
           "data of what is no file is read as headers",
           (f"{SECURITY}test_layers.py::test_malformed",)),
    Mutant(C + "ck_tar.c", "*at != '=' && *at != 0)", "*at != '=' && (!again || *at != 0))",
           "a key of an extended header ends at its NUL",
           (f"{SECURITY}test_layers.py::test_malformed",)),
)  # fmt: skip
"""Paths, mounts and archives."""

LIFE: Final = (
    Mutant(C + "ck_pause.h", "? last * 2 :", "? last :",
           "pauses between restarts do not double",
           (f"{INTEGRATION}life/test_restarts.py::test_pauses_between_them_double",)),
    Mutant(C + "ck_pause.h", "? last * 2 : CK_PAUSE_MOST * ms", "? last * 2 : last * 2",
           "pauses between restarts have no most", (f"{UNIT}test_native_pauses.py::test_pauses",)),
    Mutant(C + "ck_pause.h", "|| ran >= CK_SETTLED_AFTER * ms", "",
           "pauses do not begin anew after a run that settled",
           (f"{UNIT}test_native_pauses.py::test_pauses",)),
    Mutant(C + "ck_launcher_life.c", "!c->cause || cause < c->cause", "1",
           "the last cause of a kill is told, not the gravest",
           (f"{INTEGRATION}life/test_requests.py::test_the_cause_of_a_kill",)),
    Mutant(C + "ck_ops_init.c", "else if (signal > 0)\n            ck_kill(command, signal);", "",
           "init passes no signal on",
           (f"{INTEGRATION}logs/test_init.py::test_signals_are_passed_on",), True),
    Mutant(C + "ck_ops_init.c", "if (own.memory)", "if (0)",
           "init keeps the launcher's table",
           (f"{INTEGRATION}logs/test_init.py::test_nothing_of_the_launchers_table_stays_mapped",)),
    Mutant(C + "ck_ops_proc.c",
           "CK_OP_IS(ck_op_rlimit, ck_set_rlimit(op->flags, op->value[0], op->value[1]))",
           "CK_OP_IS(ck_op_rlimit, 0)", "resource limits are not set",
           (f"{INTEGRATION}limits/test_limits.py::test_rlimits",)),
    Mutant(C + "ck_launcher_exec.c", "if (some->pid[i] == pid && ", "if (",
           "whether a listed process is still in the group is not looked at again",
           (f"{SECURITY}test_reused_pids.py::test_the_list_of_a_group",)),
    Mutant(C + "ck_launcher_exec.c", "AT_REMOVEDIR) != -EBUSY", "AT_REMOVEDIR) != 1",
           "what an exec left running lives on",
           (f"{INTEGRATION}exec/test_ends.py::test_what_daemonised_ends_with_the_first_process",)),
    Mutant(C + "ck_launcher_exec.c", 'path, ""), true);', 'path, ""), false);',
           "what an exec has left runs on while it is killed",
           (f"{SECURITY}test_outrunning.py::test_what_runs_from_process_to_process",)),
    Mutant(C + "ck_launcher_exec.c", "if (e->life.dying)\n", "if (0)\n",
           "an exec that was killed before it began runs all the same",
           (f"{INTEGRATION}exec/test_stopped.py::test_what_was_given_up_does_not_run_later",), True),
    Mutant(C + "ck_launcher_exec.c", "    e->life.dying = true;\n", "",
           "whoever waits for a killed exec that does not die is told nothing",
           (f"{SECURITY}test_holding.py::test_an_exec_is_held[at exit]",), True),
    Mutant(C + "ck_launcher_pool.c", "if (place->tuned)", "if (0)",
           "limits of a start hold for the next in its group",
           (f"{INTEGRATION}limits/test_limits.py::test_nothing_of_one_start_is_left_for_the_next",)),
    Mutant(C + "ck_launcher_health.c", "c->state.health == CK_HEALTH_STARTING &&", "0 &&",
           "there is no start period",
           (f"{INTEGRATION}life/test_restarts.py::test_failures_at_first_do_not_count",
            f"{INTEGRATION}waits/test_health.py::test_failures_in_the_start_period_do_not_count")),
    Mutant(C + "ck_launcher.c", "c->generation != ck_tag_generation(tag) || ", "",
           "the end of an exec is taken for that of the next one in its entry",
           (f"{INTEGRATION}exec/test_entries.py::test_the_end_of_an_adopter",)),
    Mutant(C + "ck_launcher_start.c", "error = close_others(&child);", "error = 0;",
           "what its launcher has open counts for the limit of a container",
           (f"{INTEGRATION}limits/test_limits.py::test_few_files_beside_many_containers[cloned]",)),
    Mutant(C + "ck_launcher_request.c", "if (fd == -EMFILE)", "if (0)",
           "a connection beyond the limit of descriptors waits for ever",
           (f"{INTEGRATION}life/test_requests.py::test_no_descriptor_for_a_connection",), True),
    Mutant(C + "ck_launcher_pool.c", "strlen(text) > 7)", "0)",
           "a start gets a group in which others' pages are charged",
           (f"{INTEGRATION}limits/test_limits.py::test_pages_that_outlive_a_container_are_not_the_nexts",)),
    Mutant(C + "ck_ops_proc.c", "|| st.st_rdev != makedev(major, minor)", "",
           "any device is taken for /dev/null",
           (f"{INTEGRATION}exec/test_exec.py::test_another_device_is_not_taken_for_null",)),
    Mutant(C + "ck_ops_proc.c",
           "ck_path_open(AT_FDCWD, ck_child_text(child, op, 0), O_PATH | O_DIRECTORY, 0)",
           "ck_openat(AT_FDCWD, ck_child_text(child, op, 0), O_PATH | O_DIRECTORY, 0)",
           "a working directory is a magic link",
           (f"{INTEGRATION}exec/test_exec.py::test_a_workdir_is_no_magic_link",)),
    Mutant(PY + "runtime/verbs.py", "asked = seconds > 0 and takes_signal(self.pid, number)",
           "asked = seconds > 0", "stop waits for a first process that gets no signal",
           (f"{INTEGRATION}handles/test_lifecycle.py::test_stop_does_not_wait_for_who_gets_no_signal",),
           True),
    Mutant(PY + "runtime/recover.py", "yield _is_named(fd, path), fd", "yield True, fd",
           "a lock on a file that was renamed away counts",
           (f"{UNIT}runtime/test_recover.py::test_a_file_renamed_since_is_nobodys_debris",)),
)  # fmt: skip
"""Signals, ends, limits, restarts, health."""

DISK: Final = (
    Mutant(PY + "content/ingest.py", "os.fdatasync(self._lock.fd)", "pass",
           "a blob is named before its bytes are on the disk",
           (f"{DURABLE}test_a_blob_is_on_disk_before_it_is_named",)),
    Mutant(PY + "content/ingest.py", "sync_directory(self._target.parent)", "pass",
           "a power cut takes a blob's name",
           (f"{DURABLE}test_a_blob_is_on_disk_before_it_is_named",)),
    Mutant(PY + "content/draft.py", "os.fdatasync(self._fd)", "pass",
           "a draft is named before its bytes are on the disk",
           (f"{DURABLE}test_a_draft_is_on_disk_before_it_is_named",)),
    Mutant(PY + "content/draft.py", "sync_directory(target.parent)", "pass",
           "a power cut takes a draft's name",
           (f"{DURABLE}test_a_draft_is_on_disk_before_it_is_named",)),
    Mutant(PY + "state/atomic.py", "os.fdatasync(fd)", "pass",
           "a file is replaced before its bytes are on the disk",
           (f"{DURABLE}test_a_file_is_on_disk_before_it_replaces_another",)),
    Mutant(PY + "content/ingest.py", "if self._hasher.hexdigest() != self._digest.encoded:",
           "if False:", "any bytes are a blob",
           (f"{UNIT}content/test_store.py::test_wrong_bytes_leave_nothing",)),
    Mutant(PY + "content/ingest.py", "if self.offset + len(chunk) > self.size:", "if False:",
           "a blob may be longer than was said",
           (f"{UNIT}content/test_store.py::test_too_many_bytes_leave_nothing",)),
    Mutant(PY + "state/lock.py", "(fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX)",
           "fcntl.LOCK_SH", "a lock excludes nobody",
           (f"{UNIT}state/test_lock.py::test_a_second_holder_in_the_same_process_is_refused",)),
    Mutant(PY + "state/lock.py", "                fcntl.flock(fd, fcntl.LOCK_UN)",
           "                pass", "a copy of the descriptor keeps a lock that was given back",
           (f"{UNIT}state/test_lock.py::test_a_copy_of_the_descriptor_keeps_no_lock",)),
    Mutant(PY + "state/lock.py", "return os.path.samestat(os.fstat(fd), named)", "return True",
           "a lock on a file that has no name counts",
           (f"{UNIT}state/test_lock.py::test_a_lock_on_a_file_that_is_no_longer_named_does_not_count",)),
    Mutant(PY + "state/events.py", "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass",
           "events are rotated in the middle of a write",
           (f"{UNIT}state/test_events.py::test_a_stopped_writer_or_renamer_holds_nobody_up",)),
    Mutant(PY + "state/events.py", "fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)", "pass",
           "a writer does not tell a rotation that it writes",
           (f"{UNIT}state/test_events.py::test_nobody_rotates_while_a_writer_has_it_open",)),
    Mutant(PY + "state/events.py",
           "if status.st_size < least or not os.path.samestat(status, os.stat(path)):",
           "if status.st_size < least:", "a rotation renames a file that it did not look at",
           (f"{UNIT}state/test_events.py::test_a_rotation_that_came_second_renames_nothing",)),
    Mutant(PY + "snapshots/gc.py",
           "with root.sweep_lock(shared=False).holding(deadline=deadline):", "if True:",
           "a collection runs beside a pull",
           (f"{UNIT}state/test_sweep.py::test_a_collection_waits_for_who_pins",)),
)  # fmt: skip
"""What is on the disk: durability, locks, records."""

REGISTRY: Final = (
    Mutant(PY + "registry/protocol.py",
           'elif parts.scheme == "http" and url.startswith("https:"):', "elif False:",
           "a redirect leads from TLS to plain HTTP",
           (f"{UNIT}registry/test_protocol.py::test_redirects_that_are_not",)),
    Mutant(PY + "registry/protocol.py",
           "elif parts.username is not None or parts.password is not None:", "elif False:",
           "a redirect carries credentials",
           (f"{UNIT}registry/test_protocol.py::test_redirects_that_are_not",)),
    Mutant(PY + "registry/auth.py", "realm = redirect_target(origin, realm)", "realm = str(realm)",
           "a login goes to any realm",
           (f"{UNIT}registry/test_auth.py::test_a_realm_that_may_not_be_asked",)),
    Mutant(PY + "registry/auth.py", 'parameters.setdefault(parameter["name"].lower(), value)',
           'parameters[parameter["name"].lower()] = value',
           "a second parameter of a challenge wins",
           (f"{UNIT}registry/test_auth.py::test_challenges",)),
    Mutant(PY + "registry/auth.py", "password: str = attrs.field(repr=False)",
           "password: str = attrs.field()", "a password is shown by repr",
           (f"{UNIT}registry/test_auth.py::test_secrets_have_no_repr",)),
    Mutant(PY + "registry/retry.py", "if number == errno.ETIMEDOUT and not answered:", "if False:",
           "a silent registry is told after five tries",
           (f"{RETRY}test_a_registry_that_never_answers_is_told_within_a_minute",)),
    Mutant(PY + "registry/fetch.py", "or client.has_answered(reference)", "",
           "a registry that restarts between two downloads is not waited for",
           (f"{FAULTS}test_a_registry_that_restarts_between_two_requests_is_waited_for",)),
    Mutant(PY + "registry/session.py", "doubtful is not None and not of_tls", "False",
           "a 400 of plain HTTP is told as a TLS error",
           (f"{FAULTS}test_a_400_is_not_taken_for_tls",)),
    Mutant(PY + "registry/session.py", "self._origins.pop(self._key(access), None)", "pass",
           "a registry that begins to speak TLS is sent plain HTTP for ever",
           (f"{FAULTS}test_a_registry_that_begins_to_speak_tls",)),
    Mutant(PY + "registry/connections.py", "self._answering.settimeout(seconds)", "pass",
           "an answer that has begun may not take its time",
           (f"{FAULTS}test_an_answer_that_has_begun_may_take_its_time",)),
    Mutant(PY + "images/source.py", "self._places = [one for one in self._places if one[0] is not place]",
           "pass", "each part of an image waits for a mirror that is not there",
           (f"{PULL}test_a_mirror_that_breaks_is_asked_once",)),
    Mutant(PY + "images/layer.py", "if right or _is_no_accident(error):", "if False:",
           "a layer that is wrong itself is fetched twice",
           (f"{PULL}test_an_image_that_is_wrong_itself_is_not_fetched_again",)),
    Mutant(PY + "images/source.py", "[registry, *mirrors] if again else", "",
           "what a mirror changes is asked of the mirror again",
           (f"{PULL}test_what_a_mirror_changes_is_fetched_from_the_registry",)),
)  # fmt: skip
"""Credentials, and where they go; what comes corrupt."""

SHOWN: Final = (
    Mutant(PY + "model/html.py", "escape(_cut(said).translate(_PICTURES))", "_cut(said)",
           "the output of a container is HTML of a notebook",
           (f"{UNIT}model/test_html.py::test_nothing_that_is_shown_is_a_tag",)),
)  # fmt: skip
"""What is shown of what containers wrote."""

NARROW: Final = (
    Mutant(PY + "runtime/rootfiles.py", "if not stat.S_ISREG(status.st_mode):", "if False:",
           "accounts of a container are read from whatever is there",
           (f"{SECURITY}test_accounts.py::test_what_lies_there_is_not_opened",), True),
    Mutant(PY + "runtime/rootfiles.py", "os.O_PATH | os.O_NOFOLLOW |", "os.O_PATH |",
           "the kernel follows an image's link to accounts, on the host",
           (f"{UNIT}runtime/test_rootfiles.py::test_no_link_leads_to_the_host",)),
    Mutant(C + "ck_launcher_end.c", "while (l->strangers &&", "while (0 &&",
           "nobody waits for strangers",
           (f"{SECURITY}test_parents.py::test_its_launcher_ends",
            f"{SECURITY}test_parents.py::test_those_that_are_made_all_the_same"), True),
    Mutant(C + "ck_ops_mount.c", "O_PATH | O_NOFOLLOW, CK_PATH_NO_SYMLINKS);", "O_PATH, 0);",
           "a mask covers what a link leads to",
           (f"{SECURITY}test_masks.py::test_a_mask_through_a_link",)),
)  # fmt: skip
"""What is refused, and who is waited for."""

MUTANTS: Final = (*RIGHTS, *FILES, *LIFE, *DISK, *REGISTRY, *SHOWN, *NARROW)
