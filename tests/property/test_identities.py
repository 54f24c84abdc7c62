"""Odd users and hostile files never give root."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from containerkit.errors import ConfigError
from containerkit.launch.identity import resolve_user

FILES = st.binary(max_size=200) | st.lists(
    st.tuples(
        st.sampled_from(["app", "1000", "root", "-1", "", "٠"]),
        st.sampled_from(["x", "", "0"]),
        st.sampled_from(["0", "00", "-0", "+0", "4294967296", "1000", "", "0x0", "٠"]),
        st.sampled_from(["0", "5", "-1", ""]),
    ),
    max_size=5,
).map(lambda lines: "".join(f"{':'.join(line)}::/:/bin/sh\n" for line in lines).encode())


@example("4294967296", b"")
@example("1000:", b"1000:x:0:0:::\n")
@example("٠", "٠:x:0:0::/:\n".encode())
@given(st.text(max_size=12) | st.from_regex(r"[-+ 0-9:]{1,12}", fullmatch=True), FILES)
def test_only_root_is_root(user: str, passwd: bytes) -> None:
    """User 0 is "0", nothing, or a name that the image's file maps to a plain 0."""
    try:
        found = resolve_user(user, passwd, passwd)
    except ConfigError:
        return
    name, _, group = user.partition(":")
    if name.isdigit():
        assert str(found.uid) == name
    elif found.uid == 0:
        entry = rf"(?m)^{re.escape(name)}:[^:\n]*:0+:"
        assert name == "" or re.search(entry, passwd.decode("utf-8", "surrogateescape"))
    if group.isdigit():
        assert str(found.gid) == group
    assert found.groups[0] == found.gid
    assert len(set(found.groups)) == len(found.groups)
    assert all(0 <= number < 1 << 31 for number in (found.uid, *found.groups))
