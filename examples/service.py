"""A throwaway service for a test or a script: started, ready, used, gone.

Run it with ``.venv/bin/python examples/service.py``, as root.  The service is Python's own web
server in a container of this host's programs; an image such as "redis:7" works the same way.
"""

from __future__ import annotations

import contextlib
import socket
import urllib.request
from collections.abc import Iterator

import containerkit as ck

PAGE = "<h1>Hello from a container</h1>\n"


@contextlib.contextmanager
def web_server(engine: ck.Engine) -> Iterator[str]:
    """Start a web server and yield its address; nothing of it is left afterwards."""
    port = free_port()
    with engine.containers.create(
        None,
        ["python3", "-u", "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        workdir="/srv/www",
        user="nobody",
        network="host",  # this machine's, so that it can be reached from here
        limits=ck.Limits(memory="128m", pids=32),
    ) as server:
        server.files.write_text("/srv/www/index.html", PAGE)
        server.start()
        server.wait_ready(http=f":{port}/", timeout=30)  # NotReady, with its log, if it ends
        host, number = server.address(port)
        yield f"http://{host}:{number}/"
        print(f"It used {server.stats().cpu.total:.2f} s of processor time, and said:")
        for entry in server.logs():
            ck.echo(entry)


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def main() -> None:
    """Ask the service for its page."""
    with ck.Engine.open() as engine, web_server(engine) as address:
        with urllib.request.urlopen(address) as answer:
            page = answer.read().decode()
        print(f"{address} says {page.strip()}")
        assert page == PAGE


if __name__ == "__main__":
    main()
