"""One layer from a blob's bytes to a directory tree, in three stages that run at once.

Owns: the pipeline, its limits, its tidy end.  Must not: download, check the blob's own digest, or
publish (the caller does); remove the destination (nobody but the caller knows what it is).
Flow: `images.pull` hands in chunks as they arrive; `layers.compression` inflates them in the calling
thread; one thread hashes the tar bytes for the diff id, one feeds them to the C applier.
"""

from __future__ import annotations

import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import attrs

from containerkit._native.applier import Applier
from containerkit.errors import LIMIT_HINT, ArchiveError, DigestMismatch, HostError, refusals
from containerkit.layers.compression import decompressor
from containerkit.model.digest import Digest
from containerkit.model.image_limits import ImageLimits
from containerkit.state.userns import has_one_id, ids_of

if TYPE_CHECKING:
    from containerkit.layers.inside import ApplierInside

QUEUE: Final = 8
"""Pieces that wait between two stages, each of at most `compression.CHUNK` bytes."""

WhiteoutFormat = Literal["overlay-trusted", "overlay-user"]


@attrs.frozen
class AppliedLayer:
    """A layer that was applied.

    Args:
        entries: in the archive, whiteouts included.
        size: bytes of its files together, holes included.
    """

    entries: int
    size: int


class Allowance:
    """What the layers of one image may still take, together; for several threads.

    Args:
        limits: of the image.
        entries: that layers which are here take of it.
        size: likewise.
    """

    def __init__(self, limits: ImageLimits, *, entries: int = 0, size: int = 0) -> None:
        self._limits = limits
        self._entries = entries
        self._size = size
        self._lock = threading.Lock()

    def take(self, entries: int, size: int) -> None:
        """Take so many more entries and bytes.

        Raises:
            ArchiveError: there are not as many.
        """
        with self._lock:
            self._entries += entries
            self._size += size
            limits = self._limits
            if self._entries <= limits.entries and self._size <= limits.size:
                return
        raise ArchiveError(
            "cannot unpack the image: its layers have more than"
            f" {limits.entries} entries or {limits.size} bytes together",
            hint=LIMIT_HINT,
            entry="",
        )

    def give_back(self, entries: int, size: int) -> None:
        """Give back what was taken for nothing."""
        with self._lock:
            self._entries -= entries
            self._size -= size


DEFAULT_LIMITS: Final = ImageLimits()


def apply_layer(
    chunks: Iterable[bytes],
    *,
    media_type: str,
    diff_id: Digest,
    destination: Path,
    limits: ImageLimits = DEFAULT_LIMITS,
    allowance: Allowance | None = None,
    whiteout_format: WhiteoutFormat = "overlay-trusted",
    namespace_of: Path | None = None,
    progress: Callable[[int], object] | None = None,
    cancelled: threading.Event | None = None,
) -> AppliedLayer:
    """Unpack a layer into an empty directory, whiteouts in the form that overlayfs reads.

    On any failure the destination holds part of the layer, and no thread is left running.

    Args:
        chunks: the blob, in pieces of any size; about 256 KiB is best.  It is iterated in the
            calling thread; an exception of its own ends the pipeline and comes out unchanged.
        media_type: of the blob, a layer's; how it is compressed its first bytes say.
        diff_id: digest that the tar bytes must have.
        destination: an existing empty directory; nothing outside of it is touched.
        limits: what the layer may hold.
        allowance: of the image, which this layer takes a part of; what failed gives it back.
        whiteout_format: "overlay-trusted" as root, "overlay-user" in a user namespace; the latter
            leaves devices out where the kernel does not let them be made.
        namespace_of: the root directory of an ordinary user, who unpacks with the ids of its user
            namespace; where these are its own alone, every file is its own and has no capabilities.
        progress: called in the calling thread with the length of each piece taken from chunks.
        cancelled: once set, the next piece ends it all with CancelledError.

    Returns:
        What was applied.

    Raises:
        UnsupportedMediaType: the media type is not a layer's.
        ArchiveError: the stream is malformed, ends too early, or exceeds a limit.
        UnsafePath: an entry or link leads out of the layer.
        DigestMismatch: the tar bytes are not those of diff_id.
        HostError: the file system refuses.
        concurrent.futures.CancelledError: cancelled was set.

    Blocking: on chunks and on the disk; Ctrl-C ends it.

    Spec: image-spec layer.md, Applying Changesets.
    """
    decompress = decompressor(media_type, window=limits.window)
    hasher = diff_id.hasher()
    with (
        _open_applier(destination, diff_id, limits, whiteout_format, namespace_of) as applier,
        _Taking(applier, allowance or Allowance(limits)) as taking,
    ):
        stages: list[_Stage] = []
        try:
            stages.append(_Stage("hash", hasher.update))
            stages.append(_Stage("apply", taking.feed, taking.finish))
            stored = _Stored(chunks, progress, cancelled)
            for piece in _bounded(decompress(stored), stored, limits, diff_id):
                if not all(stage.put(piece) for stage in stages):
                    break  # a stage has failed: its exception comes out below
        except BaseException:
            for stage in stages:
                stage.abort()
            _settle(stages)
            raise
        for stage in stages:
            stage.end()
        _settle(stages)
        for stage in stages:
            if stage.error is not None:
                raise stage.error
        _check(diff_id, hasher.hexdigest())
        _let_in(destination)
        return AppliedLayer(*taking.taken)


def _check(diff_id: Digest, found: str) -> None:
    actual = f"{diff_id.algorithm}:{found}"
    if actual != str(diff_id):
        raise DigestMismatch(
            f"cannot unpack layer {diff_id}: its tar stream hashes to {actual}",
            hint="the image's config does not fit its layers",
            expected=str(diff_id),
            actual=actual,
        )


def _let_in(destination: Path) -> None:
    """Let an ordinary user open its own layer, to lock it, whatever mode the layer says it has."""
    if not os.access(destination, os.R_OK | os.X_OK):
        with refusals("open the layer"):
            os.chmod(destination, stat.S_IMODE(os.stat(destination).st_mode) | 0o500)


def _open_applier(
    destination: Path,
    diff_id: Digest,
    limits: ImageLimits,
    whiteouts: WhiteoutFormat,
    namespace_of: Path | None,
) -> Applier | ApplierInside:
    here = f"{destination}/."  # of a directory, or an error
    try:
        os.chown(here, os.geteuid(), os.getegid())
        os.chmod(here, 0o755)  # and no set-group-id bit, which would give its group to everything
        directory = os.open(here, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(
            f"cannot unpack layer {diff_id} into {destination}: {error.strerror}", errno=error.errno
        ) from error
    try:
        options: dict[str, Any] = {
            "user_xattrs": whiteouts == "overlay-user",
            "own_ids": has_one_id() or (namespace_of is not None and ids_of(namespace_of).single),
            "max_entries": limits.entries,
            "max_bytes": limits.size,
            "max_depth": limits.depth,
            "max_xattr_bytes": limits.xattrs,
            "max_meta_bytes": limits.header,
            "name": str(diff_id),
        }
        if namespace_of is None or options["own_ids"]:
            return Applier(directory, **options)
        from containerkit.layers.inside import ApplierInside

        return ApplierInside(namespace_of, directory, options)
    finally:
        os.close(directory)


class _Taking:
    """An applier that tells the image's allowance, after each piece, what that took of it.

    Unless it is finished, it gives all of that back.
    """

    def __init__(self, applier: Applier | ApplierInside, allowance: Allowance) -> None:
        self._applier = applier
        self._allowance = allowance
        self._finished = False
        self.taken = (0, 0)

    def feed(self, piece: bytes) -> None:
        self._applier.feed(piece)
        self._count(self._applier.counts)

    def finish(self) -> None:
        self._count(self._applier.finish())
        self._finished = True

    def _count(self, now: tuple[int, int]) -> None:
        (entries, size), self.taken = self.taken, now
        self._allowance.take(now[0] - entries, now[1] - size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None or not self._finished:
            self._allowance.give_back(*self.taken)


class _Stored:
    """The chunks of a blob, counted; ends early once it is cancelled."""

    def __init__(
        self,
        chunks: Iterable[bytes],
        progress: Callable[[int], object] | None,
        cancelled: threading.Event | None,
    ) -> None:
        self._chunks = chunks
        self._progress = progress
        self._cancelled = cancelled
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            if self._cancelled is not None and self._cancelled.is_set():
                from concurrent.futures import CancelledError

                raise CancelledError("unpacking was cancelled")
            self.size += len(chunk)
            yield chunk
            if self._progress is not None:
                self._progress(len(chunk))


def _bounded(
    pieces: Iterable[bytes], stored: _Stored, limits: ImageLimits, diff_id: Digest
) -> Iterator[bytes]:
    """Yield the pieces of a layer for as long as they are not too many for what is stored of it."""
    made = 0
    for piece in pieces:
        made += len(piece)
        if made > limits.ratio_free and made > limits.ratio * stored.size:
            raise ArchiveError(
                f"cannot unpack layer {diff_id}: {stored.size} stored bytes are {made} and more,"
                f" over {limits.ratio} times as many",
                hint=LIMIT_HINT,
                entry="",
            )
        yield piece


class _Stage:
    """A thread that consumes pieces through a bounded queue.

    Life: `put` until it says False (the stage has failed) or there is no more; then `end`, or
    `abort` to drop what waits; then `join`, after which `error` is final.  All calls of consume,
    and the one of finish after the last piece, are made by the stage's own thread.
    """

    def __init__(
        self,
        name: str,
        consume: Callable[[bytes], object],
        finish: Callable[[], object] = lambda: None,
    ) -> None:
        self._consume = consume
        self._finish = finish
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._aborted = False
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"layer-{name}", daemon=True)
        with refusals("unpack a layer"):
            self._thread.start()

    def put(self, piece: bytes) -> bool:
        """Queue a piece, waiting for room; False when the stage takes no more."""
        with self._changed:
            while len(self._waiting) >= QUEUE and not self._ended:
                self._changed.wait()
            if self._ended:
                return False
            self._waiting.append(piece)
            self._changed.notify_all()
            return True

    def end(self) -> None:
        """No more pieces will come; those that wait are still consumed."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Drop what waits, and end."""
        with self._changed:
            self._waiting.clear()
            self._ended = self._aborted = True
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until the thread is gone."""
        self._thread.join()

    def _run(self) -> None:
        try:
            while (piece := self._take()) is not None:
                self._consume(piece)
            if not self._aborted:
                self._finish()
        except BaseException as error:
            self.error = error
            self.abort()

    def _take(self) -> bytes | None:
        with self._changed:
            while not self._waiting and not self._ended:
                self._changed.wait()
            if not self._waiting:
                return None
            piece = self._waiting.popleft()
            self._changed.notify_all()
            return piece


def _settle(stages: list[_Stage]) -> None:
    """Join all stages, even when Ctrl-C comes meanwhile: the applier must not be freed under one."""
    interrupted: BaseException | None = None
    for stage in stages:
        while True:
            try:
                stage.join()
                break
            except KeyboardInterrupt as error:
                interrupted = error
                for other in stages:
                    other.abort()
    if interrupted is not None:
        raise interrupted
