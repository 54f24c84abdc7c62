"""Classic BPF for seccomp: a binary search over system-call numbers, then conditions.

Owns the instructions (struct sock_filter, linux/filter.h) and how a map of numbers to verdicts
becomes a program.  Must not know names or policies; `seccomp` does.

A program is: the architecture's check, then a balanced tree of "number >= boundary?", whose leaves
are runs of numbers with one verdict.  Every jump goes forward over the subtree that it leaves out, so
that its distance is that subtree's length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import pack
from typing import Final, NamedTuple

from containerkit.errors import ConfigError

PROGRAM_MAX: Final = 4096  # BPF_MAXINSNS

# linux/bpf_common.h: class | size or source | mode or operation
_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP: Final = 0x05  # BPF_JMP | BPF_JA
_JEQ: Final = 0x15
_JGT: Final = 0x25
_JGE: Final = 0x35
_RETURN: Final = 0x06

# struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6]; little-endian
_NUMBER: Final = 0
_ARCH: Final = 4
_ARGUMENTS: Final = 16

_LOW: Final = 0xFFFFFFFF
_FAR: Final = 255


class Instruction(NamedTuple):
    """struct sock_filter."""

    code: int
    jt: int
    jf: int
    k: int


Code = list[Instruction]


class Test(NamedTuple):
    """A condition on one argument, ready for the machine.

    Attributes:
        argument: its index.
        op: "eq", "ne", "lt", "le", "gt", "ge" or "masked_eq".
        value, mask: of 64 bits, or of 32.
        wide: all 64 bits of the argument count.
    """

    argument: int
    op: str
    value: int
    mask: int
    wide: bool


class Clause(NamedTuple):
    """A verdict that holds when all tests do."""

    tests: tuple[Test, ...]
    verdict: int


Chain = tuple[Clause, ...]
"""Clauses in order; the last has no tests."""


def assemble(code: Sequence[Instruction]) -> bytes:
    """Return a program's bytes.

    Raises:
        ConfigError: the kernel takes no program of that length.
    """
    if len(code) > PROGRAM_MAX:
        raise ConfigError(
            f"seccomp: the policy needs {len(code)} instructions, more than {PROGRAM_MAX}",
            hint="use fewer conditions on arguments",
        )
    return b"".join(pack("<HBBI", *instruction) for instruction in code)


def program(
    audit: int, foreign: int, chains: Mapping[int, Chain], end: int, others: Chain, newer: Chain
) -> Code:
    """Compile a map of numbers to chains.

    Args:
        audit: the one architecture; calls of any other get the verdict *foreign*.
        chains: by number; all below *end*.
        others: for numbers below *end* that are not in *chains*.
        newer: for numbers from *end* on, which include those of the x32 ABI.
    """
    runs: list[tuple[int, Chain]] = []
    for number in range(end):
        chain = chains.get(number, others)
        if not runs or runs[-1][1] != chain:
            runs.append((number, chain))
    if runs[-1][1] != newer:
        runs.append((end, newer))
    check = [
        Instruction(_LOAD, 0, 0, _ARCH),
        Instruction(_JEQ, 1, 0, audit),
        Instruction(_RETURN, 0, 0, foreign),
        Instruction(_LOAD, 0, 0, _NUMBER),
    ]
    return check + _tree(runs)


def _tree(runs: Sequence[tuple[int, Chain]]) -> Code:
    if len(runs) == 1:
        return _chain(runs[0][1])
    middle = len(runs) // 2
    left, right = _tree(runs[:middle]), _tree(runs[middle:])
    boundary = runs[middle][0]
    if len(left) <= _FAR:
        return [Instruction(_JGE, len(left), 0, boundary), *left, *right]
    far = [Instruction(_JGE, 0, 1, boundary), Instruction(_JUMP, 0, 0, len(left))]
    return [*far, *left, *right]


def _chain(chain: Chain) -> Code:
    """Clauses one behind the other: a test that fails leaves the clause."""
    code: Code = []
    for tests, verdict in chain:
        rest: Code = [Instruction(_RETURN, 0, 0, verdict)]
        for test in reversed(tests):
            rest = _test(test, len(rest)) + rest
        code += rest
    return code


def _test(test: Test, skip: int) -> Code:
    """Go on behind these instructions when the test holds, else *skip* more of them."""
    low = _ARGUMENTS + 8 * test.argument
    if not test.wide:
        return _narrow(test.op, low, test.value & _LOW, test.mask & _LOW, skip)
    high, value, mask = low + 4, test.value >> 32, test.mask >> 32
    below = _narrow(test.op, low, test.value & _LOW, test.mask & _LOW, skip)
    if test.op in {"eq", "masked_eq"}:
        return _narrow(test.op, high, value, mask, skip + len(below)) + below
    load = Instruction(_LOAD, 0, 0, high)
    size = len(below)
    if test.op == "ne":  # another high half is enough
        return [load, Instruction(_JEQ, 0, size, value), *below]
    # The high halves decide unless they are equal.
    if test.op in {"gt", "ge"}:
        decided = [Instruction(_JGT, size + 1, 0, value), Instruction(_JEQ, 0, size + skip, value)]
    else:
        decided = [Instruction(_JGT, size + 1 + skip, 0, value), Instruction(_JEQ, 0, size, value)]
    return [load, *decided, *below]


def _narrow(op: str, offset: int, value: int, mask: int, skip: int) -> Code:
    load = Instruction(_LOAD, 0, 0, offset)
    if op == "masked_eq":
        return [load, Instruction(_AND, 0, 0, mask), Instruction(_JEQ, 0, skip, value)]
    code = {"eq": _JEQ, "ne": _JEQ, "gt": _JGT, "le": _JGT, "ge": _JGE, "lt": _JGE}[op]
    if op in {"eq", "gt", "ge"}:
        return [load, Instruction(code, 0, skip, value)]
    return [load, Instruction(code, skip, 0, value)]
