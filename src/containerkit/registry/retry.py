"""When to ask again, after how long, and when to give up.

Owns: the policy, as values and pure functions, and the one wait between two tries.
Must not: know what is tried.  Flow: `client` wraps single requests, `fetch` whole downloads.
"""

from __future__ import annotations

import errno
import random
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import attrs

from containerkit.errors import ContainerKitError, TransportError

T = TypeVar("T")

# Nobody listens there: a typing error far more often than a restart, so it is told soon.
_UNREACHABLE: Final = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOENT)


@attrs.frozen
class Policy:
    """How patient a client is.

    Args:
        tries: in all, for one request; for a download: in a row without progress.
        unreachable_tries: in all, when nothing listens or the name is unknown.
        restart_tries: in a row, when a download finds nobody listening where somebody answered
            before; the waits are 7.9 s at least, time for a registry to be restarted.
        first_delay: seconds before the second try; doubled each time.
        longest_delay: seconds, of our own accord.
        longest_retry_after: seconds, when the registry asks for it; more ends in its error.
        progress: bytes that make a try count as progress.
    """

    tries: int = 5
    unreachable_tries: int = 2
    restart_tries: int = 7
    first_delay: float = 0.25
    longest_delay: float = 8.0
    longest_retry_after: float = 60.0
    progress: int = 1 << 20

    def delay(
        self, error: BaseException, failures: int, *, luck: float, answered: bool = False
    ) -> float | None:
        """Return the seconds to wait before the next try, None to give up.

        Args:
            error: of the last try.
            failures: tries that failed so far, at least 1.
            luck: from 0 to 1; spreads the clients that failed together.
            answered: the registry did, earlier in the same download.
        """
        if not getattr(error, "retryable", False):
            return None
        unreachable = getattr(error, "errno", None) in _UNREACHABLE
        tries = self.restart_tries if answered else self.unreachable_tries
        if failures >= (tries if unreachable else self.tries):
            return None
        asked = getattr(error, "retry_after", None)
        if asked is not None:
            # Not before the time, and a little after it rather than all at once.
            return None if asked > self.longest_retry_after else float(asked) * (1 + luck / 10)
        backoff = min(self.longest_delay, self.first_delay * 2.0 ** (failures - 1))
        return backoff * (0.5 + luck / 2)


def retrying(call: Callable[[], T], policy: Policy, cancelled: threading.Event | None) -> T:
    """Return what *call* returns, tried as often as *policy* says.

    Raises:
        ContainerKitError: of the last try.
        TransportError: ECANCELED, when the event was set meanwhile.
    """
    failures = 0
    while True:
        check(cancelled)
        try:
            return call()
        except ContainerKitError as error:
            failures += 1
            wait = policy.delay(error, failures, luck=random.random())  # noqa: S311 (not a secret)
            if wait is None:
                raise
            pause(wait, cancelled)


def pause(seconds: float, cancelled: threading.Event | None) -> None:
    """Wait; raise TransportError (ECANCELED) as soon as the event is set."""
    if cancelled is None:
        time.sleep(seconds)
    else:
        cancelled.wait(seconds)
        check(cancelled)


def check(cancelled: threading.Event | None) -> None:
    """Raise TransportError (ECANCELED) if the event is set."""
    if cancelled is not None and cancelled.is_set():
        raise TransportError("cannot go on: the transfer was cancelled", errno=errno.ECANCELED)
