"""How slow and how wordy an answer may be: a floor on its rate, a bound on what is no content.

Owns: `Meter`, which counts one answer as it comes from the socket; the response that is read through
it.  Must not: send, or retry.  Flow: `connections` makes one response a
request; `transport` says before each read how much may come.

There is no cap on the time of a download: a large image on a slow line takes long, and is welcome.
What is not is a registry that keeps us waiting with a byte now and then.  So only the time spent on
waiting for it counts, from its first byte on; the disk's time is not its fault.
"""

from __future__ import annotations

import http.client
import io
import time
from collections.abc import Callable
from typing import Any, Final

from containerkit.model.engine_config import Pace
from containerkit.registry.failures import TooMuch, TooSlow

MAX_OTHER: Final = 1 << 20
"""Bytes of one answer that are no content: headers, also of interim answers (1xx), which may come
without end; lines around chunks, trailers.  An eighth of the content may come on top."""


class Meter:
    """Counts what comes of one answer, and how long we waited for it.

    Args:
        pace: that the answer has to keep.
    """

    __slots__ = ("_all", "_begun", "_came", "_content", "_pace", "_waited", "_wanted")

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._all = 0
        self._content = 0
        self._wanted = 0
        self._begun = False
        self._came = 0
        self._waited = 0.0

    def read(self, most: int, read: Callable[[], bytes]) -> bytes:
        """Return what *read* does: content, of which it wants so many bytes at most."""
        self._wanted = most
        content = read()
        self._content += len(content)
        return content

    def wait(self, seconds: float) -> None:
        """Count time spent on waiting, other than in a read."""
        if self._begun:
            self._waited += seconds

    def take(self, came: int, seconds: float) -> None:
        """Count what came from the socket.

        Raises:
            TooSlow: over a whole window less came than the pace asks for.
            TooMuch: it is too much beside the content.
        """
        self.wait(seconds)
        self._begun = True
        self._came += came
        self._all += came
        if self._all > self._content + self._content // 8 + self._wanted + MAX_OTHER:
            raise TooMuch("it sends too much that is no content")
        if self._waited < self._pace.window:
            return
        if self._came < self._pace.rate * self._waited:
            raise TooSlow(
                f"in {self._waited:.0f} s {self._came} bytes came,"
                f" less than {self._pace.rate} a second"
            )
        self._came, self._waited = 0, 0.0


class _Metered(io.RawIOBase):
    """A socket's bytes, through a meter."""

    def __init__(self, raw: io.RawIOBase, meter: Meter) -> None:
        self._raw = raw
        self._meter = meter

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        began = time.monotonic()
        came: int | None = self._raw.readinto(buffer)
        if came:  # the end is no matter of rates
            self._meter.take(came, time.monotonic() - began)
        return came

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Source:
    """What `http.client` takes for a socket: it only ever makes a file of it."""

    def __init__(self, sock: Any, meter: Meter) -> None:
        self._sock = sock
        self._meter = meter

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Metered(self._sock.makefile("rb", buffering=0), self._meter))


class MeteredResponse(http.client.HTTPResponse):
    """A response that is read through a meter.

    Args:
        meter: of this response alone.
        sock: that it comes from.
    """

    def __init__(self, meter: Meter, sock: Any, *args: Any, **options: Any) -> None:
        source: Any = _Source(sock, meter)
        super().__init__(source, *args, **options)
