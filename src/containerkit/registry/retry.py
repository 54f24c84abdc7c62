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

# The host is not there: a typing error far more often than a restart, so it is told soon.
_UNREACHABLE: Final = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOENT)


@attrs.frozen
class Policy:
    """How patient a client is.

    Args:
        tries: in all, for one request; for a download: in a row without progress.
        unreachable_tries: in all, when there is no way to the host or its name is unknown.
        refused_tries: in all, when nobody listens; the waits are 1.75 s at most, time for a
            registry that is just being started, and soon enough for one that is down.
        restart_tries: in a row, when nobody listens, or there is no way, where somebody answered
            before; the waits are 7.9 s at least, time for a registry to be restarted.
        silent_tries: in all, when it accepts connections and never answers, or does not even that.
        first_delay: seconds before the second try; doubled each time.
        longest_delay: seconds, of our own accord.
        longest_retry_after: seconds, when the registry asks for it; more ends in its error.
        progress: bytes that make a try count as progress.
    """

    tries: int = 5
    unreachable_tries: int = 2
    refused_tries: int = 4
    restart_tries: int = 7
    silent_tries: int = 2
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
            answered: the registry did, a little while ago.
        """
        if not getattr(error, "retryable", False):
            return None
        if failures >= self._tries(getattr(error, "errno", None), answered=answered):
            return None
        asked = getattr(error, "retry_after", None)
        if asked is not None:
            # Not before the time, and a little after it rather than all at once.
            return None if asked > self.longest_retry_after else float(asked) * (1 + luck / 10)
        backoff = min(self.longest_delay, self.first_delay * 2.0 ** (failures - 1))
        return backoff * (0.5 + luck / 2)

    def _tries(self, number: int | None, *, answered: bool) -> int:
        if number == errno.ECONNREFUSED:
            return self.restart_tries if answered else self.refused_tries
        if number in _UNREACHABLE:
            return self.restart_tries if answered else self.unreachable_tries
        if number == errno.ETIMEDOUT and not answered:
            return self.silent_tries
        return self.tries


def retrying(
    call: Callable[[], T],
    policy: Policy,
    cancelled: threading.Event | None,
    *,
    answered: Callable[[], bool] = lambda: False,
) -> T:
    """Return what *call* returns, tried as often as *policy* says.

    Args:
        call: what is tried.
        policy: how often.
        cancelled: ends a wait.
        answered: asked after a failure: whether the registry answered a little while ago.

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
            luck = random.random()  # noqa: S311 (not a secret)
            wait = policy.delay(error, failures, luck=luck, answered=answered())
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
