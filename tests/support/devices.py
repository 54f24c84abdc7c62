"""The kernel's part in control of devices: what it does with rules, and with a program."""

from __future__ import annotations

from collections.abc import Iterable
from struct import iter_unpack

from containerkit.launch.devices import Rule

KINDS = {1: "b", 2: "c"}
ACCESS = {1: "m", 2: "r", 4: "w"}
_WORD = (1 << 32) - 1


def allows(rules: Iterable[Rule], kind: str, major: int, minor: int, access: str) -> bool:
    """Whether one of the rules allows all of an access, as runtime-spec has it."""
    return any(
        rule.kind in {"a", kind}
        and rule.major in {None, major}
        and rule.minor in {None, minor}
        and set(access) <= set(rule.access)
        for rule in rules
    )


def run(program: bytes, context: tuple[int, int, int]) -> int:
    """Interpret a program of ``struct bpf_insn`` as far as ours go, strictly; return its result.

    Args:
        program: every jump is forwards and inside.
        context: the three words of ``struct bpf_cgroup_dev_ctx``.
    """
    steps = list(iter_unpack("<BBhi", program))
    registers: dict[int, int | None] = {1: None}  # a pointer to the context
    at = 0
    while True:
        code, both, offset, value = steps[at]
        to, of = both & 15, both >> 4
        at += 1
        if code == 0x61:
            assert registers[of] is None, "not the context"
            registers[to] = context[offset // 4]
        elif code == 0xBF:
            assert registers[of] is not None
            registers[to] = registers[of]
        elif code == 0xB7:
            registers[to] = value
        elif code == 0x95:
            result = registers[0]
            assert result is not None
            return result
        else:
            one = registers[to]
            assert one is not None
            if code == 0x57:
                registers[to] = one & value
            elif code == 0x77:
                registers[to] = one >> value
            elif code in {0x55, 0x5D}:
                assert offset >= 0
                if one != (value if code == 0x55 else registers[of]):
                    at += offset
            else:
                raise AssertionError(f"unknown instruction {code:#x}")


def asked(program: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """Whether a program allows an access."""
    kinds = {name: number for number, name in KINDS.items()}
    bits = sum(bit for bit, name in ACCESS.items() if name in access)
    result = run(program, (bits << 16 | kinds[kind], major & _WORD, minor & _WORD))
    assert result in {0, 1}
    return bool(result)
