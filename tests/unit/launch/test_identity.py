"""Users: the grammar, and the image's own files."""

from __future__ import annotations

import pytest

from containerkit.errors import ConfigError, InvalidSpec
from containerkit.launch.identity import FILE_MAX, Identity, resolve_user
from tests.unit.launch.plans import GROUP, PASSWD


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", Identity(0, 0, (0,), "/root")),
        ("root", Identity(0, 0, (0,), "/root")),
        ("0", Identity(0, 0, (0,), "/root")),
        ("app", Identity(1000, 1000, (1000, 50, 29), "/srv/app")),
        ("1000", Identity(1000, 1000, (1000, 50, 29), "/srv/app")),
        ("app:staff", Identity(1000, 50, (50,), "/srv/app")),
        ("app:7", Identity(1000, 7, (7,), "/srv/app")),
        ("4321", Identity(4321, 0, (0,), "/")),
        ("4321:4321", Identity(4321, 4321, (4321,), "/")),
        ("daemon", Identity(1, 1, (1, 50), "/")),
        ("2147483647:2147483647", Identity(2147483647, 2147483647, (2147483647,), "/")),
    ],
)
def test_users(user: str, expected: Identity) -> None:
    assert resolve_user(user, PASSWD, GROUP) == expected


@pytest.mark.parametrize(
    "user",
    [
        "-1",
        "+0",
        "01",
        "00",
        "0x0",
        "1e3",
        "1_000",
        "1 ",
        " 1",
        "2147483648",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "٠",  # a digit of another script, which int() takes for 0
        "1000:",
        ":1000",
        ":",
        "1:2:3",
        "root:-1",
        "root:4294967296",
        "ro\0ot",
        "root\n",
        "a b",
    ],
)
def test_odd_numbers_and_names_are_errors(user: str) -> None:
    """Each was, in some engine, taken for root (CVE-2016-3697, CVE-2024-40635)."""
    with pytest.raises(ConfigError):
        resolve_user(user, PASSWD, GROUP)


def test_digits_are_never_looked_up_as_a_name() -> None:
    passwd = b"1234:x:0:0::/root:/bin/sh\n"
    group = b"1234:x:0:\n"
    assert resolve_user("1234:1234", passwd, group) == Identity(1234, 1234, (1234,), "/")


@pytest.mark.parametrize(
    "text", ["-1", "4294967296", "00000000000", "00", "01", "", "x", "0 ", "4294967295"]
)
def test_entries_with_bad_ids_are_no_entries(text: str) -> None:
    passwd = f"app:x:{text}:5::/:/bin/sh\n".encode()
    with pytest.raises(ConfigError, match="no user 'app'"):
        resolve_user("app", passwd, b"")


@pytest.mark.parametrize(
    ("line", "home"),
    [
        ("app:x:7:8", "/"),
        ("app:x:7:8:an app", "/"),
        ("app:x:7:8::/srv", "/srv"),
        (" \tapp:x:7:8::/srv:/bin/sh \r", "/srv"),
    ],
)
def test_a_line_may_be_short_and_have_space_around_it(line: str, home: str) -> None:
    found = resolve_user("app", f"{line}\n".encode(), b"  extra:x:9:app\nthree:x:10\n")
    assert found == Identity(7, 8, (8, 9), home)
    assert resolve_user("app:three", f"{line}\n".encode(), b"three:x:10\n").gid == 10


@pytest.mark.parametrize("line", ["app", "app:x", "app:x:7", "app:x:7:8::/srv:/bin/sh:", ":x:7:8"])
def test_a_line_without_both_numbers_is_no_entry(line: str) -> None:
    """Other engines take what is missing for 0, which is root."""
    with pytest.raises(ConfigError, match="no user 'app'"):
        resolve_user("app", f"{line}\n".encode(), b"")


def test_ids_that_no_option_may_name_are_not_reached_by_name() -> None:
    with pytest.raises(ConfigError, match="above"):
        resolve_user("app", b"app:x:4294967294:5::/:/bin/sh\n", b"")
    with pytest.raises(ConfigError, match="above"):
        resolve_user("1:big", b"", b"big:x:4294967294:\n")


def test_unknown_names_say_whom_the_image_knows() -> None:
    with pytest.raises(ConfigError, match=r"no user 'eve'.*hint: the image knows root, daemon"):
        resolve_user("eve", PASSWD, GROUP)
    with pytest.raises(ConfigError, match=r"no group 'eve'.*hint: the image knows root, staff"):
        resolve_user("app:eve", PASSWD, GROUP)
    with pytest.raises(ConfigError, match="use numbers"):
        resolve_user("eve", None, None)


def test_without_files_numbers_work() -> None:
    assert resolve_user("5:6", None, None) == Identity(5, 6, (6,), "/")
    assert resolve_user("", None, None) == Identity(0, 0, (0,), "/")


def test_only_a_newline_ends_a_line() -> None:
    passwd = "app:x:7:7:\u2028root2:x:0:0:/:/bin/sh\x0cevil:x:0:0::/:/bin/sh\n".encode()
    with pytest.raises(ConfigError):
        resolve_user("evil", passwd, b"")


def test_files_are_bounded() -> None:
    with pytest.raises(InvalidSpec, match="/etc/passwd"):
        resolve_user("", b"\n" * (FILE_MAX + 1), b"")
    with pytest.raises(InvalidSpec, match="/etc/group"):
        resolve_user("", b"", b"\n" * (FILE_MAX + 1))


def test_a_home_is_absolute() -> None:
    assert resolve_user("app", b"app:x:7:7::home:/bin/sh\n", b"").home == "/"


def test_a_home_is_a_path_that_the_kernel_takes() -> None:
    for length, home in ((4095, "/" + "h" * 4094), (4096, "/")):
        passwd = f"app:x:7:7::/{'h' * (length - 1)}:/bin/sh\n".encode()
        assert resolve_user("app", passwd, b"").home == home


def test_names_that_an_image_has_often_are_said_once() -> None:
    with pytest.raises(ConfigError, match=r"the image knows x, y$"):
        resolve_user("app", b"x:x:1:1::/:\n" * 9 + b"y:x:2:2::/:\n", b"")
