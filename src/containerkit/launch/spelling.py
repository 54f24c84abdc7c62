"""What somebody meant who named an option that there is not.

Owns the words of others (Docker's command line and SDK, testcontainers, `subprocess`), and which of
ours does the same.  Pure.  Neighbour: `request` refuses the option.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

_LIMITS: Final = "limits=Limits({})"
_SECURITY: Final = "security=Security({})"

_MEANT: Final = {
    "environment": 'env={"NAME": "value"}',
    "env_file": 'env={"NAME": "value"}',
    "envs": 'env={"NAME": "value"}',
    "e": 'env={"NAME": "value"}',
    "volumes": "mounts=[Mount.bind(source, target)]",
    "volume": "mounts=[Mount.bind(source, target)]",
    "mount": "mounts=[Mount.bind(source, target)]",
    "binds": "mounts=[Mount.bind(source, target)]",
    "v": "mounts=[Mount.bind(source, target)]",
    "tmpfs": "mounts=[Mount.tmpfs(target)]",
    "cwd": "workdir",
    "working_dir": "workdir",
    "workingdir": "workdir",
    "directory": "workdir",
    "w": "workdir",
    "detach": "start(…) returns while it runs; lifetime='detached' outlives this process",
    "detached": "lifetime='detached'",
    "daemon": "lifetime='detached'",
    "d": "start(…) returns while it runs; lifetime='detached' outlives this process",
    "remove": "nothing: run removes it; leaving the with block of start does",
    "auto_remove": "nothing: run removes it; leaving the with block of start does",
    "rm": "nothing: run removes it; leaving the with block of start does",
    "memory": _LIMITS.format('memory="64m"'),
    "mem": _LIMITS.format('memory="64m"'),
    "mem_limit": _LIMITS.format('memory="64m"'),
    "memswap_limit": _LIMITS.format('memory_swap="1g"'),
    "memory_swap": _LIMITS.format('memory_swap="1g"'),
    "cpus": _LIMITS.format("cpus=1.5"),
    "cpu_quota": _LIMITS.format("cpus=1.5"),
    "cpu_period": _LIMITS.format("cpus=1.5"),
    "nano_cpus": _LIMITS.format("cpus=1.5"),
    "cpu_shares": _LIMITS.format("cpu_shares=512"),
    "cpuset": _LIMITS.format('cpuset="0-1"'),
    "cpuset_cpus": _LIMITS.format('cpuset="0-1"'),
    "pids": _LIMITS.format("pids=100"),
    "pids_limit": _LIMITS.format("pids=100"),
    "shm_size": _LIMITS.format('shm_size="64m"'),
    "disk": _LIMITS.format('disk="1g"'),
    "ulimits": _LIMITS.format("ulimits=…"),
    "privileged": "security=Security.privileged()",
    "cap_add": _SECURITY.format("capabilities=…"),
    "cap_drop": _SECURITY.format("capabilities=…"),
    "capabilities": _SECURITY.format("capabilities=…"),
    "seccomp": _SECURITY.format("seccomp=…"),
    "security_opt": "security=Security(…)",
    "userns": _SECURITY.format('userns="auto"'),
    "userns_mode": _SECURITY.format('userns="auto"'),
    "read_only": _SECURITY.format("read_only=True"),
    "devices": _SECURITY.format("devices=…"),
    "sysctls": _SECURITY.format("sysctls=…"),
    "no_new_privileges": _SECURITY.format("no_new_privileges=True"),
    "network_mode": "network",
    "net": "network",
    "port_bindings": "ports",
    "publish": "ports",
    "restart_policy": "restart",
    "health_check": "healthcheck",
    "log_config": "log",
    "logging": "log",
    "interactive": "stdin_open",
    "terminal": "tty",
    "label": "labels",
    "secret": "secrets",
    "host_name": "hostname",
    "stop_timeout": "stop_grace",
    "username": "user",
    "uid": "user",
    "arch": "platform",
    "args": "command, the second argument, with all its words",
    "cmd": "command, the second argument, with all its words",
    "timeout_s": "timeout",
    "timeout_seconds": "timeout",
    "universal_newlines": "text=True",
    "capture_output": "nothing: both outputs are kept, as .stdout and .stderr",
    "encoding": "encoding of run, exec and popen",
    "errors": "errors of run, exec and popen",
    "stdout": "nothing: a container that is started writes to its log; run, exec and popen take stdout",
    "stderr": "nothing: a container that is started writes to its log; run, exec and popen take stderr",
    "stdin": "stdin_open",
    "shell": "command as one text, which is given to the image's shell",
}

_CUTOFF: Final = 0.75
"""How like another a word must be (difflib): "enviroment" is, "stderr" is like "user" at 0.6."""


def meant(name: str, known: Collection[str]) -> str | None:
    """Return what the hint says for an option that there is not; None: nothing is like it.

    Args:
        name: as the caller wrote it.
        known: the options that there are.
    """
    from difflib import get_close_matches

    word = name.strip("_").lower()
    if word in known:
        return f"did you mean {word}?"
    said = _MEANT.get(word)
    if said is None:
        close = get_close_matches(word, [*known, *_MEANT], n=1, cutoff=_CUTOFF)
        if not close:
            return None
        said = _MEANT.get(close[0], close[0])
    if said.startswith("nothing: "):
        return said.removeprefix("nothing: ")
    return f"did you mean {said}?"
