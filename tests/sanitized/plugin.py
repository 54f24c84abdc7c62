"""A pytest plugin: at the end the sanitizer looks for leaks, of this process alone.

Programs that the tests start are not asked: they are not ours.
"""

from __future__ import annotations

import ctypes
import gc
import os

os.environ["ASAN_OPTIONS"] = os.environ["ASAN_OPTIONS"].replace("detect_leaks=1", "detect_leaks=0")


def pytest_unconfigure() -> None:
    gc.collect()
    ctypes.CDLL(None).__lsan_do_recoverable_leak_check()
