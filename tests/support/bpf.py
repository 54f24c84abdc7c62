"""A machine for classic BPF, as the kernel runs it for seccomp: what a filter says of a call."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def run(program: bytes, arch: int, number: int, arguments: Sequence[int] = ()) -> int:
    """Return the verdict of a program on one call (seccomp(2), struct seccomp_data)."""
    values = [*arguments, *(0 for _ in range(6 - len(arguments)))]
    mask = (1 << 64) - 1
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(value & mask for value in values))
    code = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    for _ in range(len(code) + 1):
        op, jt, jf, k = code[at]
        at += 1
        if op == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif op == 0x06:
            return int(k)
        elif op == 0x05:
            at += k
        elif op == 0x54:
            accumulator &= k
        else:
            taken = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}[op]
            at += jt if taken else jf
    raise AssertionError("the program does not end")
