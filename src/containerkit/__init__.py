"""A container engine that is a Python library.

    import containerkit as ck

    ck.run("python:3.12-slim", ["python", "-c", "print(42)"]).stdout

Every public name is here; each is loaded when it is first used, so that importing containerkit
costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = bool()  # noqa: UP018 -- to type checkers and jedi it is true; typing would cost 10 ms

__version__ = "0.1.0"

_WHERE = {
    "run": "default",
    "start": "default",
    "default_engine": "default",
    "echo": "default",
    "Engine": "engine",
    "EngineConfig": "model.engine_config",
    "Container": "runtime.container",
    "ContainerConfig": "model.info",
    "ContainerInfo": "model.info",
    "Containers": "runtime.containers",
    "Image": "images.image",
    "Images": "images.images",
    "HostImage": "images.host",
    "Plan": "launch.plan",
    "Change": "runtime.changes",
    "Copied": "runtime.copies",
    "FileInfo": "runtime.fileinfo",
    "Files": "runtime.files",
    "LogEntry": "stdio.entry",
    "ContainerOptions": "model.options",
    "Digest": "model.digest",
    "Event": "model.event",
    "Exit": "model.exit",
    "Healthcheck": "model.healthcheck",
    "ImageLimits": "model.image_limits",
    "IoLimit": "model.limits",
    "Limits": "model.limits",
    "UNLIMITED": "model.limits",
    "Log": "model.log",
    "IdMap": "model.idmap",
    "Mount": "model.mount",
    "Platform": "model.platform",
    "Progress": "model.progress",
    "Ready": "model.ready",
    "Reference": "model.reference",
    "Restart": "model.restart",
    "Result": "model.result",
    "Usage": "model.result",
    "HostFeature": "model.host",
    "HostReport": "model.host",
    "CheckReport": "model.check",
    "Problem": "model.check",
    "DiskUsage": "model.usage",
    "Pruned": "model.usage",
    "Space": "model.usage",
    "DegradedWarning": "model.host",
    "Security": "model.security",
    "Process": "runtime.process",
    "Stats": "model.stats",
    "Task": "model.stats",
    "Command": "model.options",
    "ImageLike": "images.like",
    "Logs": "stdio.logs",
    "Moment": "stdio.logs",
    "Events": "stdio.events",
    "Watch": "runtime.stats",
    "Reader": "stdio.pipes",
    "StreamLike": "runtime.redirect",
    "Writer": "stdio.pipes",
    "CpuStats": "model.stats",
    "MemoryStats": "model.stats",
    "PidStats": "model.stats",
    "IoStats": "model.stats",
    "NetworkStats": "model.stats",
    "Layer": "images.image",
    "HistoryEntry": "model.image_config",
    "ImageConfig": "model.image_config",
    "Collected": "model.collected",
    "Recovered": "runtime.recover",
    "Labels": "runtime.containers",
    "Status": "runtime.status",
    "Health": "runtime.status",
}

_ERRORS = (
    "AlreadyExists",
    "ArchiveError",
    "BlobNotFound",
    "BuildError",
    "CommandNotFound",
    "ConfigError",
    "Conflict",
    "ContainerKitError",
    "ContainerNotFound",
    "CorruptContent",
    "DigestMismatch",
    "FileError",
    "FileExists",
    "FileNotFound",
    "FileTooLarge",
    "HostError",
    "ImageNotFound",
    "InUse",
    "InvalidReference",
    "InvalidSpec",
    "InvalidStatus",
    "IsADirectory",
    "LaunchError",
    "MissingFeature",
    "NetworkNotFound",
    "NotADirectory",
    "NotExecutable",
    "NotFound",
    "NotPublished",
    "EngineClosed",
    "NotReady",
    "PermissionDenied",
    "ProcessFailed",
    "RateLimited",
    "RegistryError",
    "SandboxExpired",
    "SizeMismatch",
    "SpecialFile",
    "Timeout",
    "TransportError",
    "Unauthorized",
    "UnsafePath",
    "UnsupportedMediaType",
    "VolumeNotFound",
)

_WHERE.update(dict.fromkeys(_ERRORS, "errors"))
_MODULES = ("aio", "errors", "progress")

__all__ = ["__version__", *_WHERE, *_MODULES]  # noqa: PLE0604  (all of them are strings)

if TYPE_CHECKING:
    from containerkit import aio as aio
    from containerkit import errors as errors
    from containerkit import progress as progress
    from containerkit.default import default_engine as default_engine
    from containerkit.default import echo as echo
    from containerkit.default import run as run
    from containerkit.default import start as start
    from containerkit.engine import Engine as Engine
    from containerkit.errors import AlreadyExists as AlreadyExists
    from containerkit.errors import ArchiveError as ArchiveError
    from containerkit.errors import BlobNotFound as BlobNotFound
    from containerkit.errors import BuildError as BuildError
    from containerkit.errors import CommandNotFound as CommandNotFound
    from containerkit.errors import ConfigError as ConfigError
    from containerkit.errors import Conflict as Conflict
    from containerkit.errors import ContainerKitError as ContainerKitError
    from containerkit.errors import ContainerNotFound as ContainerNotFound
    from containerkit.errors import CorruptContent as CorruptContent
    from containerkit.errors import DigestMismatch as DigestMismatch
    from containerkit.errors import EngineClosed as EngineClosed
    from containerkit.errors import FileError as FileError
    from containerkit.errors import FileExists as FileExists
    from containerkit.errors import FileNotFound as FileNotFound
    from containerkit.errors import FileTooLarge as FileTooLarge
    from containerkit.errors import HostError as HostError
    from containerkit.errors import ImageNotFound as ImageNotFound
    from containerkit.errors import InUse as InUse
    from containerkit.errors import InvalidReference as InvalidReference
    from containerkit.errors import InvalidSpec as InvalidSpec
    from containerkit.errors import InvalidStatus as InvalidStatus
    from containerkit.errors import IsADirectory as IsADirectory
    from containerkit.errors import LaunchError as LaunchError
    from containerkit.errors import MissingFeature as MissingFeature
    from containerkit.errors import NetworkNotFound as NetworkNotFound
    from containerkit.errors import NotADirectory as NotADirectory
    from containerkit.errors import NotExecutable as NotExecutable
    from containerkit.errors import NotFound as NotFound
    from containerkit.errors import NotPublished as NotPublished
    from containerkit.errors import NotReady as NotReady
    from containerkit.errors import PermissionDenied as PermissionDenied
    from containerkit.errors import ProcessFailed as ProcessFailed
    from containerkit.errors import RateLimited as RateLimited
    from containerkit.errors import RegistryError as RegistryError
    from containerkit.errors import SandboxExpired as SandboxExpired
    from containerkit.errors import SizeMismatch as SizeMismatch
    from containerkit.errors import SpecialFile as SpecialFile
    from containerkit.errors import Timeout as Timeout
    from containerkit.errors import TransportError as TransportError
    from containerkit.errors import Unauthorized as Unauthorized
    from containerkit.errors import UnsafePath as UnsafePath
    from containerkit.errors import UnsupportedMediaType as UnsupportedMediaType
    from containerkit.errors import VolumeNotFound as VolumeNotFound
    from containerkit.images.host import HostImage as HostImage
    from containerkit.images.image import Image as Image
    from containerkit.images.image import Layer as Layer
    from containerkit.images.images import Images as Images
    from containerkit.images.like import ImageLike as ImageLike
    from containerkit.launch.plan import Plan as Plan
    from containerkit.model.check import CheckReport as CheckReport
    from containerkit.model.check import Problem as Problem
    from containerkit.model.collected import Collected as Collected
    from containerkit.model.digest import Digest as Digest
    from containerkit.model.engine_config import EngineConfig as EngineConfig
    from containerkit.model.event import Event as Event
    from containerkit.model.exit import Exit as Exit
    from containerkit.model.healthcheck import Healthcheck as Healthcheck
    from containerkit.model.host import DegradedWarning as DegradedWarning
    from containerkit.model.host import HostFeature as HostFeature
    from containerkit.model.host import HostReport as HostReport
    from containerkit.model.idmap import IdMap as IdMap
    from containerkit.model.image_config import HistoryEntry as HistoryEntry
    from containerkit.model.image_config import ImageConfig as ImageConfig
    from containerkit.model.image_limits import ImageLimits as ImageLimits
    from containerkit.model.info import ContainerConfig as ContainerConfig
    from containerkit.model.info import ContainerInfo as ContainerInfo
    from containerkit.model.limits import UNLIMITED as UNLIMITED
    from containerkit.model.limits import IoLimit as IoLimit
    from containerkit.model.limits import Limits as Limits
    from containerkit.model.log import Log as Log
    from containerkit.model.mount import Mount as Mount
    from containerkit.model.options import Command as Command
    from containerkit.model.options import ContainerOptions as ContainerOptions
    from containerkit.model.platform import Platform as Platform
    from containerkit.model.progress import Progress as Progress
    from containerkit.model.ready import Ready as Ready
    from containerkit.model.reference import Reference as Reference
    from containerkit.model.restart import Restart as Restart
    from containerkit.model.result import Result as Result
    from containerkit.model.result import Usage as Usage
    from containerkit.model.security import Security as Security
    from containerkit.model.stats import CpuStats as CpuStats
    from containerkit.model.stats import IoStats as IoStats
    from containerkit.model.stats import MemoryStats as MemoryStats
    from containerkit.model.stats import NetworkStats as NetworkStats
    from containerkit.model.stats import PidStats as PidStats
    from containerkit.model.stats import Stats as Stats
    from containerkit.model.stats import Task as Task
    from containerkit.model.usage import DiskUsage as DiskUsage
    from containerkit.model.usage import Pruned as Pruned
    from containerkit.model.usage import Space as Space
    from containerkit.runtime.changes import Change as Change
    from containerkit.runtime.container import Container as Container
    from containerkit.runtime.containers import Containers as Containers
    from containerkit.runtime.containers import Labels as Labels
    from containerkit.runtime.copies import Copied as Copied
    from containerkit.runtime.fileinfo import FileInfo as FileInfo
    from containerkit.runtime.files import Files as Files
    from containerkit.runtime.process import Process as Process
    from containerkit.runtime.recover import Recovered as Recovered
    from containerkit.runtime.redirect import StreamLike as StreamLike
    from containerkit.runtime.stats import Watch as Watch
    from containerkit.runtime.status import Health as Health
    from containerkit.runtime.status import Status as Status
    from containerkit.stdio.entry import LogEntry as LogEntry
    from containerkit.stdio.events import Events as Events
    from containerkit.stdio.logs import Logs as Logs
    from containerkit.stdio.logs import Moment as Moment
    from containerkit.stdio.pipes import Reader as Reader
    from containerkit.stdio.pipes import Writer as Writer


if not TYPE_CHECKING:  # so that a misspelt name is an error to them

    def __getattr__(name: str) -> object:
        """Load a public name on first use (PEP 562)."""
        from importlib import import_module

        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
        from containerkit.surface import present

        present(value)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return the public names: submodules that are loaded by now are none of them."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
