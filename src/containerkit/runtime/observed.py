"""What is seen of a container from outside: figures, processes, readiness, files, ports.

Owns the signatures and their text; each method is one call of the module that does it: `stats`,
`top`, `ready`, `files`, `changes`, `export`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

from containerkit.errors import NotPublished
from containerkit.runtime.inside import Inside

if TYPE_CHECKING:
    from re import Pattern

    from containerkit.launch.plan import Plan
    from containerkit.model.options import Command


class Observed(Inside):
    """The part of `Container` that is looked at."""

    __slots__ = ()

    def stats(self) -> Any:
        """Return what it uses at this moment."""
        raise NotImplementedError

    def watch_stats(self, interval: float = 1.0) -> Any:
        """Iterate over what it uses, one value an interval, until it ends."""
        raise NotImplementedError

    def top(self) -> Any:
        """Return its processes."""
        raise NotImplementedError

    def wait_ready(
        self,
        *,
        port: int | str | None = None,
        log: str | Pattern[str] | None = None,
        times: int = 1,
        http: str | None = None,
        command: Command | None = None,
        healthy: bool = False,
        timeout: float = 60,
        interval: float = 0.05,
    ) -> Any:
        """Wait until all that is given holds, and return itself."""
        raise NotImplementedError

    @property
    def files(self) -> Any:
        """Its files, resolved beneath its root."""
        raise NotImplementedError

    def diff(self) -> Any:
        """Return what it changed in its image's files."""
        raise NotImplementedError

    def export(self, file: str | BinaryIO) -> Any:
        """Write all its files as one tar."""
        raise NotImplementedError

    def address(self, port: int | str, *, network: str | None = None) -> tuple[str, int]:
        """Return where this process can connect to one of its ports: (host, port).

        Args:
            port: inside, as 6379 or "53/udp".
            network: whose address is wanted, of those it is in.

        Raises:
            NotPublished: it can not be reached from here.
            ConfigError: there is no such port.
        """
        from containerkit.model.ready import parse_port

        wanted = parse_port(port)
        if network in (None, "host") and self.config.options.get("network") == "host":
            return "127.0.0.1", wanted.number
        raise NotPublished(
            f"cannot reach port {wanted} of container {self.id[:12]}: it has no network",
            hint='network="host" shares this host\'s',
        )

    def plan(self) -> Plan:
        """Return the plan that starting it follows; ``print(container.plan().explain())``."""
        from containerkit.runtime.birth import Kept

        kept = Kept.of(self._read_row())
        return self._keeper.runner.compile(
            kept,
            kept.command,
            kept.options,
            streams=(),
            ephemeral=False,
            container_id=self.id,
        )[1]
