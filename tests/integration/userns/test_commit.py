"""`Container.commit` with ids of a container's own: the image has them as the container sees them."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest

import containerkit as ck

AUTO = ck.Security(userns="auto")
WORK = """
cd /tmp; echo x > roots; echo y > apps; chown 1000:1001 apps; chmod 4755 apps
chown 7:8 /home/app; rm /etc/group; echo z >> /etc/passwd; sync; exec sleep 100000
"""
STAT = ["stat", "-c", "%n %a %u %g", "/tmp/roots", "/tmp/apps", "/home/app", "/etc/passwd"]
SEEN = b"/tmp/roots 644 0 0\n/tmp/apps 4755 1000 1001\n/home/app 755 7 8\n/etc/passwd 644 0 0\n"


def owners(engine: ck.Engine, image: ck.Image) -> dict[str, tuple[int, int]]:
    path = engine.root / "blobs" / "sha256" / image.layers[-1].digest.partition(":")[2]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(path.read_bytes()))) as archive:
        return {member.name: (member.uid, member.gid) for member in archive}


@pytest.mark.needs("ids")
def test_owners_are_as_it_sees_them(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sh", "-c", WORK], security=AUTO) as box:
        box.wait_ready(command="grep z /etc/passwd", timeout=120)
        assert box.exec(STAT).check().stdout == SEEN
        image = box.commit()
    assert owners(engine, image) == {
        "etc": (0, 0),
        "etc/.wh.group": (0, 0),
        "etc/passwd": (0, 0),
        "home": (0, 0),
        "home/app": (7, 8),
        "tmp": (0, 0),
        "tmp/apps": (1000, 1001),
        "tmp/roots": (0, 0),
    }
    for security in (None, AUTO):  # with the host's, and with others
        assert engine.run(image, STAT, security=security).check().stdout == SEEN
    engine.images.prune()
