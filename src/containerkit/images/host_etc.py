"""The /etc of a host image: generated files, and copies of the little of the host's that is needed.

Programs below /usr look into /etc: through links (alternatives), for certificates, for the dynamic
linker's cache.  What is copied is decided by rules that all must hold, so that no secret comes
along however a host is set up: it is on the list below or a link near the top of /usr leads to it;
no pattern of ``DENIED`` matches it; everybody on the host may read it; it holds no private key.

Owns: those lists, the generated files.  Must not: read anything of the host outside of /etc and
the names of links in /usr.
Flow: `images.host_build` hands over a directory to fill.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase, translate
from typing import Protocol

COPIED = (
    "alternatives",
    "ca-certificates/extracted",
    "crypto-policies",
    "debian_version",
    "ethertypes",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "java-*",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ld-musl-*.path",
    "locale.alias",
    "localtime",
    "lsb-release",
    "magic",
    "magic.mime",
    "mime.types",
    "networks",
    "os-release",
    "pki/ca-trust/extracted",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "protocols",
    "python*",
    "rpc",
    "services",
    "shells",
    "ssl/ca-bundle.pem",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
    "xattr.conf",
)
"""What programs read there without a link leading to it; patterns, relative to /etc."""

DENIED = (
    # Accounts: the image has its own.
    "passwd*", "shadow*", "gshadow*", "group*", "subuid*", "subgid*", "sudoers*", "doas.conf",
    "opasswd", "login.defs", "security/*", "pam.d/*", "pam.conf", "ldap/*", "krb5*", "sssd/*",
    # What names this machine or its place in a network; the engine gives a container its own.
    "machine-id", "hostname", "hosts", "hosts.*", "resolv.conf", "fstab", "crypttab", "exports",
    "mailname", "aliases", "network/*", "netplan/*", "NetworkManager/*", "wpa_supplicant/*",
    "wireguard/*", "openvpn/*", "ppp/*", "ipsec*", "iscsi/*", "multipath*", "cloud/*",
    # Variables and client settings that people put passwords and tokens in.
    "environment", "environment.d/*", "profile*", "bash*", "zsh*", "csh*", "default/*", "netrc", "wgetrc", "pip.conf",
    "npmrc", "gitconfig", "maven/*", "gradle/*", "apt/*", "yum*", "dnf/*", "zypp/*", "boto*",
    # Services.
    "ssh/*", "docker/*", "containerd/*", "containers/*", "kubernetes/*", "rancher/*", "cni/*",
    "systemd/*", "cron*", "init.d/*", "rc*.d/*", "samba/*", "mysql/*", "postgresql*", "redis/*",
    "mongod*", "nginx/*", "apache2/*", "httpd/*", "lighttpd/*", "letsencrypt/*", "exim*",
    "postfix/*", "dovecot/*", "vault*", "consul*", "nomad*", "grafana/*",
    # Keys, wherever they lie.
    "ssl/private/*", "pki/private/*", "pki/tls/private/*", "*private*", "*.key", "*.keytab",
    "*.p12", "*.pfx", "*secret*", "*password*", "*passwd*", "*credential*", "*id_rsa*",
    "*id_ecdsa*", "*id_ed25519*",
)  # fmt: skip
"""Never copied; patterns, relative to /etc.  "*" matches "/" too; what lies below a denied name
is denied, so "x/*" is only a way to say that x is a directory."""

GENERATED = {
    "passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
        "bin:x:2:2:bin:/bin:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    ),
    "group": (
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nmail:x:8:\n"
        "shadow:x:42:\nutmp:x:43:\nstaff:x:50:\nusers:x:100:\nnogroup:x:65534:\n"
    ),
    # Only sources that are files or the network: others load libraries and ask daemons of the host.
    "nsswitch.conf": (
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n"
        "protocols: files\nservices: files\nethers: files\nrpc: files\n"
    ),
    # The engine mounts a container's own on these.
    "hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
    "hostname": "",
    "resolv.conf": "",
}
"""Files of the image's own."""

SCANNED = ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/libexec", "usr/share")
"""Where links into /etc are looked for: in these, and in the directories right below them."""

FILE_MAX = 8 << 20
ENTRIES_MAX = 20_000
_DEPTH_MAX = 12


class Tree(Protocol):
    """Where the files go; `host_build.Skeleton` is one."""

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Make a directory and those above it, unless it is there."""

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Make a file, unless something is there."""

    def link(self, path: str, text: str) -> None:
        """Make a symbolic link, unless something is there."""


# One expression for all: there are a hundred patterns and hundreds of names.
_DENIED = re.compile("|".join(translate(pattern.removesuffix("/*")) for pattern in DENIED))


def denied(name: str) -> bool:
    """Return whether ``name``, relative to /etc, or a directory above it is on the deny list."""
    parts = name.split("/")
    return any(_DENIED.fullmatch("/".join(parts[: n + 1])) for n in range(len(parts)))


def fill(tree: Tree, host: str = "/") -> None:
    """Write the image's /etc into ``tree``.

    Args:
        tree: paths given to it start with "/etc".
        host: the root directory of the host; another one only in tests.
    """
    for name, text in GENERATED.items():
        tree.file(f"/etc/{name}", text.encode())
    tree.link("/etc/mtab", "../proc/self/mounts")
    copier = _Copier(tree, os.path.join(host, "etc"))
    for name in _expanded(os.path.join(host, "etc")):
        copier.copy(name)
    for name in links_into_etc(host):
        copier.copy(name)


def _expanded(etc: str) -> Iterator[str]:
    """Yield the names of ``COPIED``; a pattern is in the first component only."""
    try:
        present = sorted(os.listdir(etc))
    except OSError:
        return
    for pattern in COPIED:
        if "*" in pattern:
            yield from (name for name in present if fnmatchcase(name, pattern))
        else:
            yield pattern


def links_into_etc(host: str = "/") -> list[str]:
    """Return the names, relative to /etc, that links near the top of /usr lead to."""
    found: set[str] = set()
    for top in SCANNED:
        directory = os.path.join(host, top)
        if not os.path.islink(directory):
            below = _scan(directory, host, found)
            for path in below:
                _scan(path, host, found)
    return sorted(found)


def _scan(directory: str, host: str, found: set[str]) -> list[str]:
    """Add what the links in one directory lead to; return the directories in it."""
    below: list[str] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_symlink():
                    text = os.readlink(entry.path)
                    if "etc/" in text:
                        inside = "/" + os.path.relpath(directory, host)
                        target = os.path.normpath(os.path.join(inside, text))
                        if target.startswith("/etc/"):
                            found.add(target.removeprefix("/etc/"))
                elif entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
    except OSError:
        pass  # unreadable to us: then nothing in it can be needed
    return below


class _Copier:
    """Copies names of one /etc by the rules at the top; what breaks one is left out."""

    def __init__(self, tree: Tree, etc: str) -> None:
        self._tree = tree
        self._etc = etc
        self._left = ENTRIES_MAX
        self._seen: set[str] = set()

    def copy(self, name: str, depth: int = 0) -> None:
        """Copy ``name``, relative to /etc: a file, a link and what it leads to, or a tree."""
        if name in self._seen or depth > _DEPTH_MAX or self._left <= 0 or denied(name):
            return
        self._seen.add(name)
        self._left -= 1
        path = os.path.join(self._etc, name)
        try:
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                self._link(name, os.readlink(path), depth)
            elif stat.S_ISDIR(mode) and mode & 0o005 == 0o005:
                self._tree.directory(f"/etc/{name}")
                for child in sorted(os.listdir(path)):
                    self.copy(f"{name}/{child}", depth + 1)
            elif stat.S_ISREG(mode):
                self._file(name, path)
        except OSError:
            return  # vanished or closed to us: not something that programs in /usr can count on

    def _link(self, name: str, text: str, depth: int) -> None:
        self._tree.link(f"/etc/{name}", text)
        target = os.path.normpath(os.path.join("/etc", os.path.dirname(name), text))
        if target.startswith("/etc/"):
            self.copy(target.removeprefix("/etc/"), depth + 1)

    def _file(self, name: str, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o004:
                return
            data = file.read(FILE_MAX + 1)
        if len(data) <= FILE_MAX and b"PRIVATE KEY" not in data:
            self._tree.file(f"/etc/{name}", data, 0o755 if status.st_mode & 0o001 else 0o644)
