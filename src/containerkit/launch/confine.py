"""How a process gives up its rights: groups, ids, capabilities, no_new_privs, the filter.

Owns the order of these steps, the same for a container's first process and for an exec.  Must not
look at the host.

What is the same for everything that runs in a container (capabilities(7), tests/security):
- permitted and effective: user 0 the bounding set, others nothing; inheritable and ambient: nothing,
  whatever the caller has, so that no program gets a capability by being run;
- securebits are as they were, which is none set, but for a caller that set some of its own: keeping
  capabilities over the change of user ends with the exec, as the kernel has it;
- groups: those of the user and no other; with no_new_privs nothing gives more than this.

Neighbours: `compile` and `execute` put them behind the steps that need rights.
"""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING, Final

from containerkit.errors import MissingFeature
from containerkit.launch import defaults
from containerkit.launch.capabilities import mask_of, names_of
from containerkit.launch.ops import F_OPTIONAL, Code, Op
from containerkit.launch.seccomp import program_of
from containerkit.model.security import DEFAULT_CAPABILITIES

if TYPE_CHECKING:
    from containerkit.launch.identity import Identity
    from containerkit.launch.request import HostFacts
    from containerkit.model.security import Security


_OF_THE_NETWORK: Final = frozenset(("NET_ADMIN", "NET_BROADCAST", "NET_RAW"))
"""Asked of the user namespace that owns the network; so is NET_BIND_SERVICE, but a setting opens
all ports instead."""


def confine(
    security: Security,
    identity: Identity,
    bounding: int,
    workdir: str,
    facts: HostFacts,
    notes: list[str],
) -> list[Op]:
    """Return the steps from all rights to the container's own, in its working directory.

    Args:
        security: no_new_privileges and the filter are read.
        identity: who it becomes.
        bounding: capabilities it may ever have; user 0 holds them all.
        workdir: entered with all rights, as by other engines: an image's ``WORKDIR /root`` with a
            ``USER`` beside it.  Where root has none (a network file system), with the user's own.
        facts: the machine and the kernel are read.
        notes: gets a sentence about the filter.

    Raises:
        MissingFeature: the machine's system calls have no numbers here.
    """
    steps = [Op(Code.CHDIR, flags=F_OPTIONAL, arena=(workdir, None, None))]
    if security.no_new_privileges:
        steps.append(defaults.NO_NEW_PRIVS)
    if identity.groups:
        groups = pack(f"<{len(identity.groups)}I", *identity.groups)
        steps.append(Op(Code.GROUPS, arena=(groups, None, None)))
    steps.append(Op(Code.IDS, value=(identity.uid, identity.gid)))
    # Without no_new_privs only CAP_SYS_ADMIN may load a filter: before CAPS drops it.
    if not security.no_new_privileges:
        steps += filter_steps(security, bounding, facts, notes)
    held = bounding if identity.uid == 0 else 0
    steps.append(Op(Code.CAPS, value=(bounding, held)))
    steps.append(Op(Code.CHDIR, arena=(workdir, None, None)))
    if security.no_new_privileges:
        steps += filter_steps(security, bounding, facts, notes)
    return steps


def bounding_set(security: Security, available: int, notes: list[str]) -> int:
    """Return the mask of the capabilities that a container may have.

    Raises:
        MissingFeature: others than the default ones were asked for, and the caller lacks them.
    """
    wanted = mask_of(security.capabilities)
    missing = wanted & ~available
    idle = sorted(_OF_THE_NETWORK & security.capabilities)
    if idle and security.userns != "host":
        notes.append(
            f"{' '.join(idle)} without effect: the network is not the user namespace's own"
        )
    if not missing:
        return wanted
    names = " ".join(names_of(missing))
    if (
        security.preset != "privileged"
        and security.capabilities is not DEFAULT_CAPABILITIES
        and (security.capabilities != DEFAULT_CAPABILITIES)
    ):
        raise MissingFeature(
            f"cannot give the capabilities {names}: the caller does not have them",
            feature="capabilities",
        )
    notes.append(f"without the capabilities {names}: the caller does not have them")
    return wanted & ~missing


def filter_steps(security: Security, bounding: int, facts: HostFacts, notes: list[str]) -> list[Op]:
    """Return the step that loads the filter of a container, or says that it has none.

    Args:
        security: the policy.
        bounding: the capabilities that it may have.
        facts: the machine and the kernel are read.
        notes: gets a sentence about the filter.

    Raises:
        MissingFeature: the machine's system calls have no numbers here.
    """
    policy = security.seccomp
    program = program_of(
        policy,
        machine=facts.machine,
        capabilities=names_of(bounding),
        own_userns=security.userns != "host",
        kernel=facts.kernel,
    )
    if program is None:
        notes.append("no filter of system calls: it is unconfined")
        return [defaults.UNCONFINED]
    what = f"the policy {policy}" if isinstance(policy, str) else "what the caller gave"
    notes.append(f"system calls are filtered by {what}")
    return [Op(Code.SECCOMP, arena=(program, None, None))]
