"""Who the container's process is: the grammar of users, and the image's own passwd and group.

Owns the bounded parser of both files and the rule that digits are always numbers.  Must not call
the host's name service: the files come from the image and are hostile.  Odd input is an error, and
never user 0 (CVE-2016-3697, CVE-2024-40635: numbers that wrapped, numeric names that were looked
up).  Neighbours: `compile` asks, the engine reads the files.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from containerkit.errors import ConfigError, InvalidSpec, MissingFeature

if TYPE_CHECKING:
    from containerkit.launch.request import Ids

FILE_MAX: Final = 1 << 20
"""Bytes of a passwd or group file; a longer one is refused, not cut."""

GROUPS_MAX: Final = 1 << 16
"""NGROUPS_MAX (linux/limits.h)."""

ID_MAX: Final = (1 << 31) - 1
_FILE_ID_MAX: Final = (1 << 32) - 2

# Of a path; the kernel would refuse a longer one, or an environment with much more, at exec.
_HOME_MAX: Final = 4095

_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.@\\-]{0,255}\$?")
_HINT: Final = 'as "name", "uid", "name:group" or "uid:gid"'


class Identity(NamedTuple):
    """The ids of a process.

    Attributes:
        uid, gid: numbers.
        groups: the exact list for setgroups(2): the primary group first, then those that the group
            file names the user in.  The primary one is in it, or a negative ACL would not see it.
        home: of the user, "/" when the passwd file has none.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


class _User(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class _Group(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


_SPACE: Final = " \t\r\v\f"


def _lines(data: bytes, what: str) -> list[list[str]]:
    if len(data) > FILE_MAX:
        raise InvalidSpec(f"cannot read the image's {what}: {len(data)} bytes, over {FILE_MAX}")
    text = data.decode("utf-8", "surrogateescape")
    # Only a newline ends a line: splitlines() would make lines of form feeds and U+2028.
    lines = [line.strip(_SPACE) for line in text.split("\n")]
    return [line.split(":") for line in lines if line and line[0] not in "#+-"]


def _file_id(text: str) -> int | None:
    """Return the number in an id field, None for anything that is not plainly one."""
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or text != str(int(text)):
        return None
    number = int(text)
    return number if number <= _FILE_ID_MAX else None


# Most starts use the same image: its files are parsed once.
@lru_cache(maxsize=8)
def _users(data: bytes) -> tuple[_User, ...]:
    found = []
    for fields in _lines(data, "/etc/passwd"):
        if not 4 <= len(fields) <= 7 or not fields[0]:
            continue
        uid, gid = _file_id(fields[2]), _file_id(fields[3])
        if uid is not None and gid is not None:
            home = fields[5] if len(fields) > 5 else ""
            is_path = home.startswith("/") and "\0" not in home and len(home) <= _HOME_MAX
            found.append(_User(fields[0], uid, gid, home if is_path else "/"))
    return tuple(found)


@lru_cache(maxsize=8)
def _groups(data: bytes) -> tuple[_Group, ...]:
    found = []
    for fields in _lines(data, "/etc/group"):
        if len(fields) not in (3, 4) or not fields[0]:
            continue
        gid = _file_id(fields[2])
        if gid is not None:
            listed = fields[3] if len(fields) > 3 else ""
            members = tuple(name for name in listed.split(",") if name)
            found.append(_Group(fields[0], gid, members))
    return tuple(found)


def _number(text: str, whole: str) -> int | None:
    """Return the number a part of a user is, None when it is a name.

    Raises:
        ConfigError: neither, or out of range.
    """
    if _NUMBER.fullmatch(text):
        number = int(text)
        if number > ID_MAX:
            raise ConfigError(f"user {whole!r}: {text} is above {ID_MAX}", hint=_HINT)
        return number
    if not _NAME.fullmatch(text):
        raise ConfigError(f"user {whole!r}: {text!r} is neither a name nor an id", hint=_HINT)
    return None


def _known(names: list[str]) -> str | None:
    shown = list(dict.fromkeys(name for name in names if _NAME.fullmatch(name)))[:8]
    return f"the image knows {', '.join(shown)}" if shown else "use numbers: the image names none"


def _find_user(text: str, whole: str, users: tuple[_User, ...]) -> _User:
    number = _number(text, whole)
    if number is not None:
        for user in users:
            if user.uid == number:
                return user
        return _User("", number, 0, "/")  # as Docker: a number without an entry has group 0
    for user in users:
        if user.name == text:
            if user.uid > ID_MAX or user.gid > ID_MAX:
                raise ConfigError(f"user {whole!r}: the image gives it an id above {ID_MAX}")
            return user
    raise ConfigError(
        f"user {whole!r}: no user {text!r} in the image's /etc/passwd",
        hint=_known([user.name for user in users]),
    )


def _find_group(text: str, whole: str, groups: tuple[_Group, ...]) -> int:
    number = _number(text, whole)
    if number is not None:
        return number
    for group in groups:
        if group.name == text:
            if group.gid > ID_MAX:
                raise ConfigError(f"user {whole!r}: the image gives {text} an id above {ID_MAX}")
            return group.gid
    raise ConfigError(
        f"user {whole!r}: no group {text!r} in the image's /etc/group",
        hint=_known([group.name for group in groups]),
    )


def resolve_user(user: str, passwd: bytes | None, group: bytes | None) -> Identity:
    """Resolve a user against the image's files.

    Args:
        user: "" for root; a name or number, and after a colon a group's name or number.  With a
            group, the user's other groups are left out.
        passwd: content of the image's /etc/passwd, None when it has none.
        group: content of its /etc/group.

    Raises:
        ConfigError: not the grammar, a number above 2**31 - 1, an unknown name.
        InvalidSpec: a file of more than `FILE_MAX` bytes, or more groups than a process may have.
    """
    name, colon, group_name = user.partition(":")
    users = _users(passwd or b"")
    found = _find_user(name, user, users) if user else _find_user("0", user, users)
    groups = _groups(group or b"")
    if colon:
        gid = _find_group(group_name, user, groups)
        return Identity(found.uid, gid, (gid,), found.home)
    if found.gid > ID_MAX:
        raise ConfigError(f"user {user!r}: the image gives it a group above {ID_MAX}")
    gids = [found.gid]
    if found.name:
        gids += [g.gid for g in groups if found.name in g.members and g.gid <= ID_MAX]
    distinct = tuple(dict.fromkeys(gids))
    if len(distinct) > GROUPS_MAX:
        raise InvalidSpec(f"user {user!r}: the image has it in {len(distinct)} groups")
    return Identity(found.uid, found.gid, distinct, found.home)


def known_ids(passwd: bytes | None, group: bytes | None) -> set[int]:
    """Return all numbers of users and groups in an image's files.

    Raises:
        InvalidSpec: a file of more than `FILE_MAX` bytes.
    """
    users = _users(passwd or b"")
    groups = {one.gid for one in _groups(group or b"")}
    return {one.uid for one in users} | {one.gid for one in users} | groups


def among(identity: Identity, ids: Ids | None, notes: list[str]) -> Identity:
    """Return what can be had of an identity in a user namespace.

    Args:
        identity: who it is to be.
        ids: that there are; None: all.
        notes: gets a sentence for what is not there.

    Returns:
        Its groups are those that there are; none when they can not be set at all.

    Raises:
        MissingFeature: the user or its group is not there.
    """
    if ids is None:
        return identity
    missing = ids.missing(identity.uid, identity.gid)
    if missing:
        raise MissingFeature(
            f"cannot run as {missing}: there is none such in this user namespace",
            hint="user 0 there is the one that runs this program; more ids are granted, for a new"
            " root directory, by /etc/subuid and /etc/subgid, with newuidmap (package uidmap)",
            feature="subordinate ids",
        )
    if ids.single:
        notes.append(
            "with the supplementary groups of the caller, which a user namespace of one id can not"
            " change (setgroups(2))"
        )
        return identity._replace(groups=())
    groups = ids.groups(identity.groups)
    if groups != identity.groups:
        left = " ".join(str(gid) for gid in identity.groups if gid not in groups)
        notes.append(f"without the groups {left}: there are none such in this user namespace")
    return identity._replace(groups=groups)
