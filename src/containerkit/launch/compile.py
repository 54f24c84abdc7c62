"""A request and the host's facts, compiled into a launch plan.

Owns the order of the steps and which of them a container gets.  Pure: the same request and facts
give the same plan, on any machine; so plans are tested as text.  Must not look at the host.

The order is the start's security (each rule is there because of an advisory):
- the network namespace first, so that /sys shows it;
- /proc, /sys and /dev before anything the image or the caller chooses, masks after all mounts;
- hidden paths, then the pivot: from there on the host's tree is gone;
- limits and host name while there are rights; groups, then ids, then capabilities;
- the working directory is made, and its links seen through, while paths are resolved beneath the
  root, and entered before the rights are given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch import defaults, userns
from containerkit.launch import devices as device_steps
from containerkit.launch import mounts as mount_steps
from containerkit.launch.capabilities import ALL_MASK
from containerkit.launch.confine import bounding_set, confine
from containerkit.launch.identity import resolve_user
from containerkit.launch.limits import (
    DEFAULT_DISK,
    DEFAULT_SHM,
    bytes_of,
    cgroup_settings,
    rlimit_ops,
)
from containerkit.launch.ops import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    F_CREATE,
    NETNS_POOLED,
    Code,
    Op,
)
from containerkit.launch.plan import Plan
from containerkit.launch.presets import check_network, default_user, limits_of
from containerkit.launch.process import (
    candidates,
    command_line,
    environment,
    host_name,
    working_directory,
)
from containerkit.launch.request import HostFacts, LaunchRequest, check_options
from containerkit.launch.restart import restart_steps
from containerkit.launch.reuse import cgroup_flags
from containerkit.launch.streams import check_streams, connect, inputs_of
from containerkit.model.security import Security

if TYPE_CHECKING:
    from containerkit.launch.ops import Slots as Fds
    from containerkit.model.mount import Mount

_NAMESPACES: Final = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS
_SECURITY: Final = Security()


def compile_plan(request: LaunchRequest, facts: HostFacts) -> Plan:
    """Compile a launch plan.

    Args:
        request: what to start.
        facts: what the host can do.

    Returns:
        A plan that `Plan.check` accepts.

    Raises:
        ConfigError: an option without meaning, alone or beside another; an unknown user; nothing
            to run.
        InvalidSpec: the image's config or files say something impossible.
        MissingFeature: something asked for that this host, or this version, does not have.
    """
    if facts.bare:
        from containerkit.launch.bare import compile_bare

        return compile_bare(request, facts)
    return _Compiler(request, facts).compile()


class _Compiler:
    """One compilation: what was decided so far, for the steps that come later."""

    def __init__(self, request: LaunchRequest, facts: HostFacts) -> None:
        options = request.options
        check_options(options)
        self.request = request
        self.facts = facts
        self.options = options
        self.notes: list[str] = []
        self.security: Security = options.get("security") or _SECURITY
        if request.park and self.security.devices:  # which may have gone
            self.security = attrs.evolve(self.security, devices=())
        self.limits = limits_of(options)
        check_network(options)
        self.host_network = is_host_network(options.get("network"))
        default = facts.hostname if self.host_network and facts.hostname else request.id[:12]
        self.hostname = host_name(options.get("hostname"), default)
        self.ids = userns.ids_of(self.security, request.ids, facts.ids)
        default = default_user(options, request.image.user, facts.ids)
        user = user_of(options.get("user"), default)
        self.identity = userns.identity_among(
            resolve_user(user, request.passwd, request.group), self.ids, facts.ids, self.notes
        )
        self.mounts: list[Mount] = mount_steps.check_mounts(
            defaults.with_scratch(options.get("mounts") or (), self.security)
        )
        self.secrets = tuple(options.get("secrets") or ())
        self.owner = userns.owner_of(self.ids, self.identity)
        # The ids of what lies in layers: a launcher in a user namespace has no others shown.
        self.shown = self.ids if facts.ids is None or request.copied else None
        self.user_slot = -1
        check_streams(request)
        self.slots = mount_steps.Slots(inputs_of(request))
        mount_steps.add_inputs(self.slots, request.rootfs.mounts, self.mounts, self.secrets)
        device_steps.add_inputs(self.slots, self.security, facts)

    def compile(self) -> Plan:
        _check_security(self.security, host_network=self.host_network)
        request = self.request
        directory = f"containers/{request.id}"
        create = F_CREATE if request.create else 0
        prepare = [Op(Code.LOCK, flags=create, arena=(directory, None, None))]
        namespaces = _NAMESPACES
        settings = cgroup_settings(self.limits, self.facts, self.notes, request.devices)
        access = device_steps.device_access(self.security, request.nodes, self.facts, self.notes)
        if self.facts.cgroup is not None:
            settings += access.settings
            group = Op(
                Code.CGROUP,
                flags=cgroup_flags(settings, self.facts.cgroup),
                arena=(settings, None, None),
            )
            prepare += (group, *access.prepare)
            namespaces |= CLONE_NEWCGROUP
        if self.ids is not None:
            shown, copied = self.shown is not None, bool(request.copied)
            prepare.append(userns.map_step(self.ids, self.slots, shown=shown, copied=copied))
            self.user_slot = prepare[-1].fd[0]
        child = self._network(prepare)
        self._storage(prepare, directory)
        prepare += self.slots.sources(
            mapped=self.shown is not None,
            as_is=self.ids is not None and self.facts.ids is not None,
            copied=bool(request.copied),
        )
        if request.copied:
            self.notes.append(f"its layers are a copy that has its ids: {request.copied}")
        self._files(prepare, child)
        on_prepare, streams = connect(request, self.slots)
        prepare += on_prepare + restart_steps(request) + self._health()
        if not request.park:
            prepare.append(defaults.STATE)
        child.append(defaults.PIVOT)
        self._process(child, streams)
        self._confine(child)
        self._execute(child)
        return Plan(
            inputs=self.slots.inputs,
            prepare=mount_steps.attached(prepare),
            child=child,
            namespaces=namespaces,
            kind="ephemeral" if request.ephemeral or request.park else "kept",
            notes=self.notes,
        )

    def _health(self) -> list[Op]:
        if self.options.get("healthcheck") is None and self.request.image.healthcheck is None:
            return []
        from containerkit.launch.health import health_steps  # it compiles an exec, with our help

        return health_steps(self.request, self.facts)

    def _network(self, prepare: list[Op]) -> list[Op]:
        if self.host_network:
            prepare.append(defaults.HOST_NETWORK)
            return []
        slot: Fds = (self.slots.fill(), -1, -1)
        prepare.append(Op(Code.NETNS, fd=slot, value=(NETNS_POOLED, 0)))
        return [Op(Code.JOIN_NET, fd=slot)]

    def _storage(self, prepare: list[Op], directory: str) -> None:
        if self.request.ephemeral:
            size = bytes_of(self.limits.disk, DEFAULT_DISK)
            # An inode costs about a kilobyte of memory that the size does not count.
            prepare.append(Op(Code.UPPER_TMPFS, value=(size, max(1024, size >> 11) if size else 0)))
            return
        if isinstance(self.limits.disk, int):
            raise MissingFeature(
                "cannot limit disk: this version of containerkit limits what `run` writes only",
                feature="disk",
            )
        prepare.append(Op(Code.UPPER_DIR, arena=(directory, None, None)))

    def _files(self, prepare: list[Op], child: list[Op]) -> None:
        """Everything that is mounted or written beneath the new root."""
        request = self.request
        root = mount_steps.RootSteps(
            self.slots,
            read_only=self.security.read_only,
            volatile=request.volatile and not request.ephemeral,
            maker=userns.packed_root(self.shown),
        )
        for mount in request.rootfs.mounts:
            root.add(mount)
        own, on_own = mount_steps.user_mounts(self.slots, self.mounts, request.file_sources)
        etc, on_etc = mount_steps.generated_files(
            self.slots, self._etc(), self.mounts, read_only=self.security.read_only
        )
        dev, on_dev = device_steps.dev_steps(self.slots, self.security, self.facts)
        prepare += root.prepare + own + etc + dev
        on_root, on_own = mount_steps.above_tmpfs(
            list(zip(request.rootfs.mounts, root.child, strict=True)),
            list(zip(self.mounts, on_own, strict=True)),
        )
        child += on_root
        child.append(defaults.MTAB)
        child += (defaults.PROC, *on_dev, self._terminals())
        if not self.mounts or not mount_steps.covers(self.mounts, "/dev/shm"):
            child.append(self._shm())
        child.append(defaults.MQUEUE)
        if self.host_network and self.facts.ids is not None:
            self.notes.append("no /sys: it shows the host's network, not ours in a user namespace")
        elif device_steps.is_privileged(self.security):
            child += (defaults.WRITABLE_SYSFS, *device_steps.control_group_steps(self.facts))
        elif self.security.preset != "strict":
            child.append(defaults.SYSFS)
        if not device_steps.is_privileged(self.security) and not mount_steps.covers(
            self.mounts, defaults.GROUPS_PLACE
        ):
            child += device_steps.group_view(self.facts)
        child += on_own
        child += on_etc
        if self.secrets:
            child.append(defaults.SECRETS)
            child += mount_steps.secret_files(self.slots, self.secrets, self.owner)
        child += [
            Op(Code.MKDIR, arena=(path, None, None), value=(0o755, 0))
            for path in mount_steps.places_of(request.image.volumes, self.mounts)
        ]
        self.workdir = working_directory(request.image, self.options.get("workdir"))
        if self.workdir != "/":
            child.append(Op(Code.MKDIR, arena=(self.workdir, None, None), value=(0o755, 0)))
        if self.security.read_only:
            child.append(defaults.ROOT_READ_ONLY)
        child += self._hidden()

    def _etc(self) -> dict[str, bytes | None]:
        request = self.request
        return {
            "/etc/hosts": request.hosts
            if self.host_network
            else defaults.hosts_file(self.hostname),
            "/etc/hostname": f"{self.hostname}\n".encode(),
            # Without a network there is nobody to ask: the image's own stays.
            "/etc/resolv.conf": request.resolv_conf if self.host_network else None,
        }

    def _terminals(self) -> Op:
        ids = self.facts.ids
        own = ids is not None and ids.missing(0, 5) is not None
        return defaults.devpts(None) if own else userns.devpts(self.ids)

    def _shm(self) -> Op:
        size = bytes_of(self.limits.shm_size, DEFAULT_SHM)
        return defaults.DEFAULT_SHM_OP if size == DEFAULT_SHM else defaults.shm(size)

    def _hidden(self) -> list[Op]:
        masks, fixed = self.security.masked_paths, self.security.read_only_paths
        steps: list[Op] = []
        if masks is None:
            steps += defaults.MASKS
            steps += [Op(Code.MASK, arena=(path, None, None)) for path in self.facts.hardware]
        else:
            steps += [Op(Code.MASK, arena=(path, None, None)) for path in masks]
        if fixed is None:
            steps += defaults.READ_ONLY
        else:
            steps += [Op(Code.READ_ONLY, arena=(path, None, None)) for path in fixed]
        return steps

    def _process(self, child: list[Op], streams: list[Op]) -> None:
        """What is set on the process and its namespaces while it has all rights."""
        request = self.request
        child.append(Op(Code.HOSTNAME, arena=(self.hostname, None, None)))
        for name, value in self.security.sysctls:
            path = name.replace(".", "/")
            child.append(Op(Code.SYSCTL, arena=(path, value, None)))
        child += rlimit_ops(self.facts.rlimits, self.limits.ulimits)
        if request.oom_score_adj is not None:
            if not -1000 <= request.oom_score_adj <= 1000:
                raise ConfigError(f"oom_score_adj {request.oom_score_adj} is out of range")
            child.append(Op(Code.OOM_SCORE, arena=(str(request.oom_score_adj), None, None)))
        child.append(defaults.KEYRING)
        child += streams
        if self.ids is not None:
            child.append(userns.join_step(self.ids, self.identity, self.user_slot))
        child.append(defaults.UMASK)

    def _confine(self, child: list[Op]) -> None:
        available = self.facts.capabilities if self.ids is None else ALL_MASK
        bounding = bounding_set(self.security, available, self.notes)
        child += confine(
            self.security, self.identity, bounding, self.workdir, self.facts, self.notes
        )

    def _execute(self, child: list[Op]) -> None:
        request, options = self.request, self.options
        if request.park:
            child.append(defaults.PARK)
            return
        if options.get("init"):
            child.append(defaults.INIT)
        argv = command_line(request.image, request.command, options.get("entrypoint"))
        env = environment(
            request.image,
            options.get("env"),
            hostname=self.hostname,
            home=self.identity.home,
            tty=bool(options.get("tty")),
        )
        paths = candidates(argv[0], env.get("PATH"))
        envp = tuple([f"{name}={value}" for name, value in env.items()])
        child.append(Op(Code.EXEC, arena=(paths, argv, envp)))


def is_host_network(network: object) -> bool:
    """Return whether a container uses the network around it.

    Raises:
        MissingFeature: a network of a later version.
    """
    if network is None or network == "none":
        return False
    if network == "host":
        return True
    raise MissingFeature(
        f"cannot use the network {network!r}: this version of containerkit has 'none' and 'host'",
        feature="network",
    )


def user_of(user: object, default: str) -> str:
    """Return a user as `resolve_user` takes it: the one given, else the default.

    Raises:
        ConfigError: neither text nor a number, or empty.
    """
    if user is None:
        return default
    if isinstance(user, bool) or not isinstance(user, int | str):
        raise ConfigError(f"user {user!r} is neither text nor a number")
    if user == "":
        raise ConfigError("user is empty", hint="leave it out for the image's own")
    return str(user)


def _check_security(security: Security, *, host_network: bool) -> None:
    """Refuse what this version can not hold."""
    if host_network:
        for name, _value in security.sysctls:
            if name.startswith("net."):
                raise ConfigError(
                    f"sysctl {name} would be the host's own: the container is in its network"
                )
