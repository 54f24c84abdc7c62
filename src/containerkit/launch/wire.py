"""The wire form of launch plans: header | ops | arena, and what makes one valid.

Owns packing and the checks that ``src/_native/ck_plan.c`` makes too: C does not trust Python, and
a plan that Python accepts but C refuses (or the reverse) is a bug that the differential test finds.
Must not know what a step is for.  Neighbours: `ops` (vocabulary), `plan` (the value).

An arena argument is an offset, 0 for absent (the arena begins with four NULs and ends with one): a
NUL-terminated text; bytes, as u32 length | bytes; or a list, as u32 count | count NUL-terminated
texts.  Bytes and lists start 4-aligned.  Texts are file-system encoded: any path survives.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from struct import Struct, unpack_from
from typing import Final

from containerkit.errors import InvalidSpec
from containerkit.launch.check import check, refuse
from containerkit.launch.ops import (
    OPS,
    PLAN_EPHEMERAL,
    PLAN_EXEC,
    PLAN_KEPT,
    PLAN_MAGIC,
    PLAN_MAX,
    PLAN_OPS_MAX,
    PLAN_VERSION,
    SLOTS,
    Argument,
    Op,
)

# How each printed kind of argument travels.
OP_KINDS: Final = {
    **dict.fromkeys(("text", "upper", "map"), "text"),
    **dict.fromkeys(("list", "triples", "layers", "options", "candidates", "argv", "envp"), "list"),
    **dict.fromkeys(("bytes", "plan", "ids", "filter", "program"), "bytes"),
}

HEADER: Final = Struct("<IHHHHHHIIQ")
OP: Final = Struct("<HHhhhHIIIQQ")
_COUNT: Final = Struct("<I")
_LIST_MAX: Final = PLAN_MAX // 2

_ENCODING: Final = ("utf-8", "surrogateescape")


class Arena:
    """An append-only arena that stores each text once.

    Args:
        base: an arena to begin with; its texts and lists are found again, and it is not changed.
    """

    __slots__ = ("data", "lists", "texts")

    def __init__(self, base: Arena | None = None) -> None:
        self.data: bytearray = bytearray(base.data) if base else bytearray(4)
        self.texts: dict[str, int] = dict(base.texts) if base else {}
        self.lists: dict[tuple[str, ...], int] = dict(base.lists) if base else {}

    def add(self, argument: Argument) -> int:
        """Store an argument, and return its offset."""
        if argument is None:
            return 0
        if type(argument) is str:
            return self.texts.get(argument) or self._add_text(argument)
        if type(argument) is tuple:
            return self.lists.get(argument) or self._add_list(argument)
        if type(argument) is bytes:
            return self._append(_COUNT.pack(len(argument)) + argument)
        raise TypeError(f"not an argument of an op: {argument!r}")

    def _add_text(self, text: str) -> int:
        if not text:
            raise InvalidSpec("cannot encode a launch plan: an argument is an empty text")
        offset = self.texts[text] = len(self.data)
        self.data += _encoded(text, nuls=0) + b"\0"
        return offset

    def _add_list(self, items: tuple[str, ...]) -> int:
        data = _encoded("".join([item + "\0" for item in items]), nuls=len(items))
        offset = self.lists[items] = self._append(_COUNT.pack(len(items)) + data)
        return offset

    def _append(self, data: bytes) -> int:
        self.data += bytes(-len(self.data) % 4)
        offset = len(self.data)
        self.data += data
        return offset


def _encoded(text: str, *, nuls: int) -> bytes:
    try:
        data = text.encode(*_ENCODING)
    except UnicodeEncodeError as cause:
        raise InvalidSpec(f"cannot encode a launch plan: {cause.reason}") from None
    if data.count(0) != nuls:
        raise InvalidSpec("cannot encode a launch plan: an argument holds a NUL character")
    return data


def pack_op(op: Op, arena: Arena) -> bytes:
    """Pack one op, adding its arguments to the arena."""
    first, second, third = op.arena
    add = arena.add
    try:
        return OP.pack(
            op.code,
            op.flags,
            *op.fd,
            0,
            0 if first is None else add(first),
            0 if second is None else add(second),
            0 if third is None else add(third),
            *op.value,
        )
    except struct.error as cause:
        raise InvalidSpec(f"cannot encode the step {op!r}: {cause}") from cause


# The arguments of constant ops, made once at import and the beginning of every plan's arena.
_BASE: Final = Arena()


def constant(op: Op) -> Op:
    """Mark an op that many plans share: it is packed once, here.  For module level only."""
    op.packed = pack_op(op, _BASE)
    return op


def packed(op: Op) -> Op:
    """Pack an op that has no arguments, to be used in many plans."""
    op.packed = pack_op(op, Arena())
    return op


def encode(sections: Sequence[Iterable[Op]], *, inputs: int, namespaces: int, flags: int) -> bytes:
    """Encode two sections of ops as a plan.

    Args:
        sections: prepare, child.
        inputs: how many descriptors the caller sends; they fill the first slots.
        namespaces: CLONE_NEW* of the child.
        flags: PLAN_* bits.

    Raises:
        InvalidSpec: a number does not fit, a text holds NUL, or the plan exceeds PLAN_MAX.
    """
    arena = Arena(_BASE)
    packed: list[bytes] = [b""]
    counts = []
    for ops in sections:
        before = len(packed)
        packed += [op.packed or pack_op(op, arena) for op in ops]
        counts.append(len(packed) - before)
    if max(counts) > PLAN_OPS_MAX:
        raise InvalidSpec(f"cannot encode a launch plan: more than {PLAN_OPS_MAX} steps")
    arena.data += b"\0"
    try:
        packed[0] = HEADER.pack(
            PLAN_MAGIC,
            PLAN_VERSION,
            flags,
            *counts,
            inputs,
            0,
            len(arena.data),
            0,
            namespaces,
        )
    except struct.error as cause:
        raise InvalidSpec(f"cannot encode a launch plan: {cause}") from cause
    packed.append(bytes(arena.data))
    data = b"".join(packed)
    if len(data) > PLAN_MAX:
        raise InvalidSpec(
            f"cannot encode a launch plan: {len(data)} bytes, more than {PLAN_MAX}",
            hint="shorten the command or the environment",
        )
    return data


class Decoded:
    """What `decode` found: two sections, and the numbers of the header."""

    __slots__ = ("flags", "inputs", "namespaces", "sections")

    def __init__(
        self, sections: tuple[tuple[Op, ...], ...], inputs: int, namespaces: int, flags: int
    ) -> None:
        self.sections = sections
        self.inputs = inputs
        self.namespaces = namespaces
        self.flags = flags


def decode(data: bytes) -> Decoded:
    """Decode and check a plan.

    Raises:
        InvalidSpec: the bytes are not a valid plan.
    """
    if not HEADER.size <= len(data) <= PLAN_MAX:
        raise refuse(f"{len(data)} bytes")
    magic, version, flags, prepare, child, inputs, zero, arena_size, zeros, namespaces = (
        HEADER.unpack_from(data)
    )
    counts = (prepare, child)
    if magic != PLAN_MAGIC or version != PLAN_VERSION:
        raise refuse(f"magic {magic:#x}, version {version}")
    if flags not in (PLAN_EPHEMERAL, PLAN_KEPT, PLAN_EXEC):
        raise refuse(f"flags {flags:#x}")
    if zero or zeros:
        raise refuse("reserved fields of the header are not zero")
    if inputs > SLOTS or max(counts) > PLAN_OPS_MAX:
        raise refuse(f"{inputs} inputs, {counts} steps")
    if len(data) != HEADER.size + sum(counts) * OP.size + arena_size:
        raise refuse(f"{len(data)} bytes do not hold {counts} steps and {arena_size} bytes")
    arena = data[len(data) - arena_size :]
    if len(arena) < 4 or any(arena[:4]) or arena[-1]:
        raise refuse("the arena does not begin and end with NUL")
    sections = []
    at = HEADER.size
    for section, count in enumerate(counts):
        sections.append(
            tuple(
                unpack_op(data, at + OP.size * index, arena, section, index)
                for index in range(count)
            )
        )
        at += OP.size * count
    execute = flags == PLAN_EXEC
    check(sections, inputs=inputs, namespaces=namespaces, execute=execute)
    return Decoded(tuple(sections), inputs, namespaces, flags)


def unpack_op(data: bytes, at: int, arena: bytes, section: int, index: int) -> Op:
    """Unpack and check one op; ``section`` and ``index`` are for the message."""
    code, flags, fd0, fd1, fd2, zero, *rest = OP.unpack_from(data, at)
    info = OPS.get(code)
    if info is None or info.section != section:
        raise refuse(f"no such step here: {code}", section, index)
    if zero:
        raise refuse("reserved field is not zero", section, index)
    arguments: list[Argument] = []
    for kind, offset in zip(info.arena, rest[:3], strict=True):
        try:
            arguments.append(_read(arena, offset, kind))
        except (ValueError, struct.error) as cause:
            raise refuse(f"{info.name} has a bad argument: {cause}", section, index) from None
    first, second, third = arguments
    return Op(
        code,
        flags=flags,
        fd=(fd0, fd1, fd2),
        arena=(first, second, third),
        value=(rest[3], rest[4]),
    )


def _read(arena: bytes, offset: int, kind: str) -> Argument:
    if not kind or offset == 0:
        if offset or (kind and not kind.endswith("?")):
            raise ValueError(f"offset {offset}")
        return None
    wire = OP_KINDS[kind.removesuffix("?")]
    if wire == "text":
        end = arena.index(0, offset)
        if end == offset:
            raise ValueError("empty text")
        return arena[offset:end].decode(*_ENCODING)
    if offset % 4:
        raise ValueError(f"offset {offset} is not aligned")
    (count,) = unpack_from("<I", arena, offset)
    offset += 4
    if wire == "bytes":
        if count > len(arena) - offset:
            raise ValueError(f"{count} bytes")
        return arena[offset : offset + count]
    if count > len(arena) - offset:
        raise ValueError(f"a list of {count}")
    items = []
    for _ in range(count):
        end = arena.index(0, offset)
        items.append(arena[offset:end].decode(*_ENCODING))
        offset = end + 1
    return tuple(items)
