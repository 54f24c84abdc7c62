"""When to ask again."""

from __future__ import annotations

import errno
import threading

import pytest

from containerkit.errors import ImageNotFound, RateLimited, RegistryError, TransportError
from containerkit.registry.retry import Policy, pause, retrying
from containerkit.registry.transport import ANSWER_TIMEOUT, CONNECT_TIMEOUT, PROBE_TIMEOUT

SLOW = RegistryError("x", retryable=True)
FAST = Policy(first_delay=0.0)


def test_delays_double_up_to_a_bound() -> None:
    policy = Policy(tries=9, first_delay=1, longest_delay=8)
    assert [policy.delay(SLOW, n, luck=1) for n in range(1, 7)] == [1, 2, 4, 8, 8, 8]
    assert policy.delay(SLOW, 1, luck=0) == 0.5


def test_tries_are_bounded() -> None:
    assert Policy(tries=3).delay(SLOW, 2, luck=0) is not None
    assert Policy(tries=3).delay(SLOW, 3, luck=0) is None


def test_what_can_not_get_better_is_not_tried_again() -> None:
    for error in (RegistryError("x"), ImageNotFound("x"), ValueError()):
        assert Policy().delay(error, 1, luck=0) is None


def test_nobody_listening_is_told_soon() -> None:
    refused = TransportError("x", errno=errno.ECONNREFUSED, retryable=True)
    waits = [Policy().delay(refused, n, luck=1) for n in range(1, 5)]
    assert waits[-1] is None
    assert 1 <= sum(wait or 0 for wait in waits) < 2  # a registry may be just starting


def test_a_name_that_is_unknown_is_told_at_once() -> None:
    unknown = TransportError("x", errno=errno.EHOSTUNREACH, retryable=True)
    assert Policy().delay(unknown, 1, luck=1) is not None
    assert Policy().delay(unknown, 2, luck=1) is None


def test_a_registry_that_never_answers_is_told_within_a_minute() -> None:
    silent = TransportError("x", errno=errno.ETIMEDOUT, retryable=True)
    policy = Policy()
    waits = [policy.delay(silent, n, luck=1) or 0 for n in range(1, policy.tries)]
    tries = sum(wait > 0 for wait in waits) + 1
    for once in (CONNECT_TIMEOUT + PROBE_TIMEOUT, ANSWER_TIMEOUT):  # of TLS, then of plain HTTP
        assert 30 < tries * once + sum(waits) < 60


def test_silence_of_a_registry_that_has_answered_is_waited_out() -> None:
    silent = TransportError("x", errno=errno.ETIMEDOUT, retryable=True)
    assert Policy().delay(silent, 4, luck=1, answered=True) is not None
    assert Policy().delay(silent, 5, luck=1, answered=True) is None


def test_a_registry_that_is_restarted_during_a_download_is_waited_for() -> None:
    refused = TransportError("x", errno=errno.ECONNREFUSED, retryable=True)
    policy = Policy()
    waits = [policy.delay(refused, n, luck=0, answered=True) for n in range(1, 8)]
    assert waits[-1] is None
    assert sum(wait or 0 for wait in waits) >= 5
    assert policy.delay(refused, 4, luck=0) is None  # the control: nobody ever answered


def test_retry_after_is_honoured_and_capped() -> None:
    def limited(seconds: float) -> RateLimited:
        return RateLimited("x", retryable=True, retry_after=seconds)

    assert Policy().delay(limited(10), 1, luck=0) == 10
    assert 10 < (Policy().delay(limited(10), 1, luck=0.5) or 0) < 11
    assert Policy().delay(limited(61), 1, luck=0) is None


def test_a_call_is_tried_until_it_works() -> None:
    results: list[Exception | int] = [SLOW, SLOW, 7]

    def call() -> int:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    assert retrying(call, FAST, None) == 7


def test_the_last_error_is_raised() -> None:
    def call() -> None:
        raise SLOW

    with pytest.raises(RegistryError) as caught:
        retrying(call, FAST, None)
    assert caught.value is SLOW


def test_a_cancelled_wait_ends_at_once() -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(TransportError) as caught:
        pause(3600, cancelled)
    assert caught.value.errno == errno.ECANCELED
    with pytest.raises(TransportError):
        retrying(lambda: 1, FAST, cancelled)
