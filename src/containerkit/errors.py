"""Every exception that containerkit raises on purpose.

    ContainerKitError                 .hint
      ConfigError(ValueError)         the caller asked for something that can not mean anything
        InvalidReference
        InvalidSpec
        UnsupportedMediaType
      NotFound(LookupError)
        ImageNotFound  ContainerNotFound  NetworkNotFound  VolumeNotFound  BlobNotFound
      Conflict(RuntimeError)          the object exists, is used, or is in another state
        AlreadyExists  InUse  InvalidStatus
      RegistryError(RuntimeError)     .request .status .codes .retryable
        Unauthorized  RateLimited(.retry_after)  TransportError(OSError)
      CorruptContent(ValueError)      bytes are not what their name promises
        DigestMismatch  SizeMismatch  UnsafePath(.entry)  ArchiveError(.entry)
      HostError(OSError)              the host can not do it
        MissingFeature(.feature)  PermissionDenied(PermissionError)
        FileError                     a file in a container: .path
          FileNotFound(NotFound, FileNotFoundError)  FileExists(FileExistsError)
          NotADirectory(NotADirectoryError)  IsADirectory(IsADirectoryError)  SpecialFile
          FileTooLarge
      LaunchError(OSError)            .op_index .op .errno .plan
        CommandNotFound(FileNotFoundError)  NotExecutable
      NotReady EngineClosed SandboxExpired BuildError    RuntimeErrors
      NotPublished(LookupError)
      ProcessFailed(RuntimeError)     .result; only from check=True or Result.check()
      Timeout(TimeoutError)           .result

`refusals` translates what the host says to Python's own calls.
A message is one line: attempt, object, cause, hint.  What a handler may want to decide on is an
attribute, never only text.  All of them pickle and copy with their attributes.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any, Final, Literal


class ContainerKitError(Exception):
    """The base of every error containerkit raises on purpose.

    Args:
        message: attempt, object and cause, without a final full stop.
        hint: what the reader can do about it; appended to the text as ``; hint: …``.
        attributes: set on the instance under their own names.
    """

    hint: str | None = None

    def __init__(self, message: str = "", *, hint: str | None = None, **attributes: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        for name, value in attributes.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        """The text, safe to print: what a container says in it reaches no terminal as a command."""
        text = f"{self.message}; hint: {self.hint}" if self.hint else self.message
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message), self.__dict__.copy()


def _rebuild(kind: type[ContainerKitError], message: str) -> ContainerKitError:
    # A class that is a LookupError too would otherwise be made by the one that has less room.
    maker: Any = OSError if issubclass(kind, OSError) else kind
    error: ContainerKitError = maker.__new__(kind, message)
    Exception.__init__(error, message)
    return error


class _OSErrorMixin(ContainerKitError, OSError):
    """A ContainerKitError that also answers ``errno`` and ``strerror`` as an OSError does."""

    def __init__(
        self,
        message: str = "",
        *,
        errno: int | None = None,
        hint: str | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(message, hint=hint, **attributes)
        self.errno = errno
        self.strerror = os.strerror(errno) if errno else None

    def __str__(self) -> str:
        return ContainerKitError.__str__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.__dict__.copy()
        state |= {"errno": self.errno, "strerror": self.strerror}
        return _rebuild, (type(self), self.message), state


class ConfigError(ContainerKitError, ValueError):
    """An argument, option or setting has no meaning, alone or beside another."""


class InvalidReference(ConfigError):
    """A text is not an image reference (distribution-spec grammar)."""


class InvalidSpec(ConfigError):
    """A document (manifest, config, plan) is well-formed but says something impossible."""


class UnsupportedMediaType(ConfigError):
    """A descriptor names a media type that containerkit does not read."""

    media_type: str = ""


class NotFound(ContainerKitError, LookupError):
    """A named object is not in this engine's root, nor where it was looked for."""


class ImageNotFound(NotFound):
    """No image by this name, id or digest; after a pull: the registry has none either."""


class ContainerNotFound(NotFound):
    """No container by this name, id or unique prefix."""


class NetworkNotFound(NotFound):
    """No network by this name or id."""


class VolumeNotFound(NotFound):
    """No volume by this name."""


class BlobNotFound(NotFound):
    """No content under this digest, in the store or in the registry."""


class Conflict(ContainerKitError, RuntimeError):
    """The request is sensible but not in the present state of the object."""


class AlreadyExists(Conflict):
    """The name is taken."""


class InUse(Conflict):
    """Something still needs the object that was to be removed or changed."""


class InvalidStatus(Conflict):
    """The container's status does not allow the request."""

    status: str = ""
    allowed: tuple[str, ...] = ()


class RegistryError(ContainerKitError, RuntimeError):
    """A registry refused or broke the distribution-spec.

    Attributes:
        request: method and URL, credentials removed.
        status: the HTTP status, None when there was no answer.
        codes: the error codes of the answer's body (distribution-spec, Error Codes).
        retryable: whether the same request may succeed later.
    """

    request: str = ""
    status: int | None = None
    codes: tuple[str, ...] = ()
    retryable: bool = False


class Unauthorized(RegistryError):
    """The registry wants other, or any, credentials (401, 403)."""


class RateLimited(RegistryError):
    """The registry asks to slow down (429); ``retry_after`` is in seconds, when it said so."""

    retry_after: float | None = None


class TransportError(_OSErrorMixin, RegistryError):
    """The connection failed: name resolution, TLS, reset, truncation, timeout."""


class CorruptContent(ContainerKitError, ValueError):
    """Bytes are not what their descriptor, digest or format promises."""


class DigestMismatch(CorruptContent):
    """The bytes hash to another digest than their name."""

    expected: str = ""
    actual: str = ""


class SizeMismatch(CorruptContent):
    """There are more or fewer bytes than the descriptor says."""

    expected: int = 0
    actual: int = 0


class UnsafePath(CorruptContent):
    """An archive entry, link or config names a path outside of where it may write."""

    entry: str = ""


class ArchiveError(CorruptContent):
    """A tar stream or compressed stream is malformed, truncated or exceeds a limit."""

    entry: str = ""


class HostError(_OSErrorMixin):
    """The host refused or lacks something containerkit needs."""


class MissingFeature(HostError):
    """A kernel, host or containerkit feature that was asked for is not there."""

    feature: str = ""


class PermissionDenied(HostError, PermissionError):
    """The caller lacks a right that the host could give."""


class FileError(HostError):
    """A file in a container, or the local one beside it, can not be used so.

    Attributes:
        path: as the caller gave it.
    """

    path: str = ""


class FileNotFound(FileError, NotFound, FileNotFoundError):
    """There is no such file, or a directory on the way to it is missing."""


class FileExists(FileError, FileExistsError):
    """There is something by this name already."""


class NotADirectory(FileError, NotADirectoryError):
    """A directory is needed where something else is."""


class IsADirectory(FileError, IsADirectoryError):
    """Something else is needed where a directory is."""


class SpecialFile(FileError):
    """A FIFO, socket or device: it has no content of its own to read or replace."""


class FileTooLarge(FileError):
    """There are more bytes than the caller allows."""


class LaunchError(_OSErrorMixin):
    """A container did not start.

    Attributes:
        op_index: number of the failed step in ``plan.explain()``, None when before the first.
        op: the step's name.
        errno: what the kernel said.
        plan: the launch plan, for ``print(error.plan.explain())``.
    """

    op_index: int | None = None
    op: str | None = None
    plan: Any = None


class CommandNotFound(LaunchError, FileNotFoundError):
    """The command is not in the container, or its interpreter is not."""


class NotExecutable(LaunchError):
    """The command exists but can not be executed (mode, directory, format)."""


class NotReady(ContainerKitError, RuntimeError):
    """A container ended before it was ready.

    Attributes:
        exit: how the container ended, an `Exit`; None when it never ran.
        log: the last lines of its log.
    """

    exit: Any = None
    log: tuple[str, ...] = ()


class EngineClosed(ContainerKitError, RuntimeError):
    """The engine was closed; nothing was done."""


class NotPublished(ContainerKitError, LookupError):
    """A container's port can not be reached from here."""


class SandboxExpired(ContainerKitError, RuntimeError):
    """The sandbox's lifetime is over."""


class BuildError(ContainerKitError, RuntimeError):
    """A build step failed; ``step`` is its text, ``log`` its output."""

    step: str = ""
    log: str = ""


class ProcessFailed(ContainerKitError, RuntimeError):
    """A command ended with something else than code 0, and ``check`` was asked for.

    It has the attributes of `subprocess.CalledProcessError`, too.

    Attributes:
        result: the `Result`.
    """

    result: Any = None

    @property
    def returncode(self) -> int:
        """The exit code, 128 + n for signal n."""
        code: int = self.result.returncode
        return code

    @property
    def cmd(self) -> tuple[str, ...]:
        """What was run, in words."""
        words: tuple[str, ...] = self.result.argv
        return words

    @property
    def stdout(self) -> Any:
        """What it wrote, bytes or str."""
        return self.result.stdout

    output = stdout

    @property
    def stderr(self) -> Any:
        """As ``stdout``."""
        return self.result.stderr


class Timeout(ContainerKitError, TimeoutError):
    """Time ran out; ``result`` holds the partial Result where the command was killed.

    Attributes:
        result: a partial `Result`, or None.
        log: the last lines of the log of a container that was not ready in time.
    """

    result: Any = None
    log: tuple[str, ...] = ()


# ---- what the host refuses ---------------------------------------------------------------------

HINTS: Final = {
    errno.ENOSPC: "free space on the file system of the engine's root",
    errno.EDQUOT: "the disk quota is used up",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the host has no open files left",
    errno.ENOMEM: "the host, or this process's limit, has no memory left",
    errno.EFBIG: "raise the limit of the size of files (ulimit -f)",
    errno.EROFS: "the engine's root lies on a read-only file system",
}

LIMIT_HINT: Final = "if it is to be trusted with more: EngineConfig(image_limits=ImageLimits(…))"
"""For an image that is more than it is allowed to be."""

_NO_THREAD = "can't start new thread"  # Python's words when pthread_create(3) was refused
_MORE_THREADS = "raise the limit of processes, threads included (ulimit -u)"

_ANSWERS = (
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    BlockingIOError,
    ChildProcessError,
    ConnectionError,
    ProcessLookupError,
    TimeoutError,
)
"""What says how things are, for the caller to go on with, and not that the host refuses."""


class refusals(contextlib.ContextDecorator):  # noqa: N801 -- used as a function
    """Raise what the host refuses within as a `HostError`; for a block, or to decorate a function.

    Args:
        attempt: what is tried, as it follows "cannot".

    Raises:
        PermissionDenied, HostError: the kernel refused a call, or a thread.
        OSError: of the kinds that answer a question, as the call raised it.
    """

    __slots__ = ("_attempt",)

    def __init__(self, attempt: str) -> None:
        self._attempt = attempt

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, trace: object) -> Literal[False]:
        if isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
            text = f"cannot {self._attempt}: {error}"
            raise HostError(text, errno=errno.EAGAIN, hint=_MORE_THREADS) from error
        if not isinstance(error, OSError) or isinstance(error, (ContainerKitError, *_ANSWERS)):
            return False
        refused = PermissionDenied if isinstance(error, PermissionError) else HostError
        name = "" if error.filename is None else os.fsdecode(error.filename)
        where = f": {name}" if name and name not in self._attempt else ""
        text = f"cannot {self._attempt}{where}: {error.strerror or error}"
        raise refused(text, errno=error.errno, hint=HINTS.get(error.errno or 0)) from error
