"""What went wrong below HTTP, in our own terms.

Owns: the one translation of urllib3, ssl and socket exceptions to TransportError.
Must not: decide what to do about it (`retry` does).  Flow: `transport` raises what this returns.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import Any

from urllib3.exceptions import (
    ConnectTimeoutError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    SSLError,
)
from urllib3.exceptions import TimeoutError as TransferTimeout

from containerkit.errors import TransportError

_SLOW_HINT = "if it is the line that is slow: EngineConfig(download_rate=…, download_window=…)"


_REFUSED_HINT = "nobody listens there: is the registry up, and the port right?"
_SILENT_HINT = "the registry hangs, or what listens there is none"
_SILENT_TLS_HINT = f"{_SILENT_HINT}; one of plain HTTP may be silent to TLS: then insecure=True"
_ALERT_HINT = "it refuses the TLS of this client: its version, or that it has no certificate"
_PLAIN_HINT = "is it a plain HTTP registry? then insecure=True"
_NO_TLS = frozenset(("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"))
"""OpenSSL's reasons for what is no record of TLS; which one depends on its version."""


class TooPrivate(OSError):
    """The address is more private than the registry that chose it."""


class TooSlow(OSError):
    """An answer comes, but at less than the rate that is asked for."""


class TooMuch(OSError):
    """An answer has more headers, or more around its content, than any needs."""


def translated(error: Exception, request: str, *, answered: bool = True) -> TransportError:
    """Return the TransportError for whatever urllib3 or the socket raised.

    Args:
        error: as caught.
        request: method and redacted URL.
        answered: whether the answer had begun.
    """
    cause, hint, retryable = "the connection broke", None, True
    number = _errno(error)
    if isinstance(error, NameResolutionError):
        cause, number = "the host name is unknown", number or errno.EHOSTUNREACH
    elif isinstance(error, NewConnectionError):
        # Before the timeouts, which it derives from.
        cause = os.strerror(number) if number else "the connection was not accepted"
        hint = _REFUSED_HINT if number == errno.ECONNREFUSED else None
    elif slow := _find(error, TooSlow):
        cause, number, hint = f"it is too slow: {slow}", errno.ETIMEDOUT, _SLOW_HINT
    elif wordy := _find(error, TooMuch):
        cause, retryable, number = str(wordy), False, None
    elif isinstance(error, ConnectTimeoutError):
        cause, number = "connecting took too long", errno.ETIMEDOUT
    elif isinstance(error, TransferTimeout):
        cause, number = "no byte came for too long", errno.ETIMEDOUT
        if not answered:
            cause = "it accepts connections, but does not answer"
            hint = _SILENT_TLS_HINT if " https:" in request else _SILENT_HINT
    elif isinstance(error, ProxyError):
        cause = "the proxy did not connect"
    elif isinstance(error, LocationParseError):
        cause, retryable = "the address is malformed", False
    elif isinstance(error, ValueError | OverflowError):
        cause, retryable = "the address or the answer makes no sense", False
    elif refused := _find(error, TooPrivate):
        cause, retryable, number = str(refused), False, None
    elif isinstance(error, SSLError) or _find(error, ssl.SSLError):
        reason = _find(error, ssl.SSLError) or error
        cause, hint, retryable = _tls_cause(reason, answered=answered)
    elif number is not None:
        cause = os.strerror(number)
    return TransportError(
        f"cannot {request}: {cause}", hint=hint, request=request, errno=number, retryable=retryable
    )


def _tls_cause(error: Exception, *, answered: bool) -> tuple[str, str | None, bool]:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({error.verify_message})",
            "give the certificate authority with ca=, or insecure=True",
            False,
        )
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "the TLS connection broke", None if answered else _PLAIN_HINT, True
    reason = getattr(error, "reason", None) or "handshake failed"
    if reason in _NO_TLS:
        return f"what answers there speaks no TLS ({reason})", _PLAIN_HINT, False
    hint = _ALERT_HINT if "ALERT" in reason else _PLAIN_HINT
    return f"TLS: {reason}", hint, False


def speaks_tls(error: BaseException) -> bool:
    """Return whether a request failed at somebody who speaks TLS: by its certificate, or an alert."""
    found = _find(error, ssl.SSLError)
    if found is None or isinstance(found, ssl.SSLEOFError | ssl.SSLZeroReturnError | TimeoutError):
        return False
    return getattr(found, "reason", None) not in _NO_TLS


def _chain(error: BaseException) -> list[BaseException]:
    """Return *error*, its arguments and causes: urllib3 wraps in each of these ways."""
    seen: list[BaseException] = []
    todo: list[object] = [error]
    while todo and len(seen) < 16:
        one = todo.pop(0)
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            todo += [*one.args, one.__cause__, one.__context__, getattr(one, "reason", None)]
    return seen


def _find(error: BaseException, kind: type[Exception]) -> Any:
    return next((one for one in _chain(error) if isinstance(one, kind)), None)


def _errno(error: BaseException) -> int | None:
    for one in _chain(error):
        # ssl and getaddrinfo put numbers of their own into errno.
        if not isinstance(one, OSError) or isinstance(one, ssl.SSLError | socket.gaierror):
            continue
        if isinstance(one.errno, int) and one.errno > 0:
            return one.errno
    return None
