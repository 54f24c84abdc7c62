"""Images of many layers and images that mean harm, on both ways to mount an overlay."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import LaunchError
from tests.support import ocibuild
from tests.support.registry import RegistryServer


@pytest.fixture(params=["appended", "classic"])
def either(request: pytest.FixtureRequest, shared_root: Path) -> Iterator[ck.Engine]:
    """An engine that mounts as this kernel can, and one that mounts as before Linux 6.5."""
    config = ck.EngineConfig(classic_overlay=request.param == "classic")
    with ck.Engine.open(shared_root, config=config) as engine:
        yield engine


def hostile(registry: RegistryServer, name: str, files: dict[str, ocibuild.Content]) -> str:
    return registry.push(f"test/{name}:latest", ocibuild.busybox(files))


# ---- layers


def test_64_layers(either: ck.Engine, registry: RegistryServer) -> None:
    """The top one wins, and each whiteout hides what lies below it."""
    base = ocibuild.busybox()
    layers: list[ocibuild.Layer | dict[str, ocibuild.Content]] = [
        {f"many/{number:02}": f"{number}\n", "top": f"{number}\n"} for number in range(62)
    ]
    layers.append({"many/.wh.07": b"", "many/.wh.61": b""})
    made = ocibuild.image([_layer(base), *layers], config={"Cmd": ["sh"]})
    name = registry.push("test/deep:latest", made)
    script = "cat /top; ls /many | wc -l; cat /many/60; ls /many/07 /many/61 2>/dev/null; true"
    result = either.run(name, ["sh", "-c", script], text=True)
    assert result.stdout.split() == ["61", "60", "60"]


def test_a_layer_that_hides_all_below_it(engine: ck.Engine, registry: RegistryServer) -> None:
    """It says so of its root, where overlayfs does not look.  Spec: layer.md, Opaque Whiteout."""
    layers: list[ocibuild.Layer | dict[str, ocibuild.Content]] = [
        {"below": ""},
        {".wh..wh..opq": "", "beside": ""},
        _layer(ocibuild.busybox()),
    ]
    made = ocibuild.image(layers, config={"Cmd": ["sh"]})
    name = registry.push("test/opaque:latest", made)
    result = engine.run(name, ["sh", "-c", "ls -d /be*"], text=True, check=True)
    assert result.stdout.split() == ["/beside"]


def _layer(image: ocibuild.Image) -> ocibuild.Layer:
    descriptor = image.document["layers"][0]
    config = next(blob for digest, blob in image.blobs.items() if b"diff_ids" in blob)
    import json

    diff_id = json.loads(config)["rootfs"]["diff_ids"][0]
    return ocibuild.Layer(image.blobs[descriptor["digest"]], diff_id)


def test_writes_and_removals(either: ck.Engine, busybox: str) -> None:
    script = "echo x >/etc/new; rm /etc/group; rm -r /home; mkdir /home; ls /etc /home"
    result = either.run(busybox, ["sh", "-c", script], text=True, check=True)
    assert result.stdout.split() == [
        "/etc:", "hostname", "hosts", "mtab", "new", "passwd", "/home:",
    ]  # fmt: skip
    assert either.run(busybox, ["test", "-e", "/etc/group"]).exit.ok


def test_the_host_image(either: ck.Engine) -> None:
    result = either.run(None, ["python3", "-c", "print(6 * 7)"], text=True, check=True)
    assert result.stdout == "42\n"


def test_started_containers_write_to_disk(either: ck.Engine, busybox: str) -> None:
    with either.start(
        busybox, ["sh", "-c", "mkdir -p /a/b/c; echo 1 >/a/b/c/1; chmod 0 /a"]
    ) as one:
        assert one.wait(timeout=120).ok
        upper = either.root / "containers" / one.id / "upper"
        closed = next(upper.glob("*/a"))
        closed.chmod(0o700)
        assert (closed / "b/c/1").read_text() == "1\n"
        closed.chmod(0)
    assert not (either.root / "containers" / one.id).exists()


# ---- links onto what is the kernel's or ours

SYSTEM = ["/proc", "/proc/self", "/sys", "/sys/fs", "/dev", "/dev/pts", "/dev/mqueue"]


@pytest.mark.parametrize("target", SYSTEM)
def test_a_mount_through_a_link_onto_the_system(
    engine: ck.Engine, registry: RegistryServer, tmp_path: Path, target: str
) -> None:
    """Nothing of the caller's is put where our own writes or the kernel's word would be."""
    name = f"link{target.replace('/', '-')}"
    image = hostile(registry, name, {"data": ocibuild.symlink(target)})
    for place in ("/data", "/data/attr"):
        with pytest.raises(LaunchError) as caught:
            engine.run(image, ["true"], mounts=[ck.Mount.bind(tmp_path, place)])
        assert caught.value.op == "move_mount"
    with pytest.raises(LaunchError) as caught:
        engine.run(image, ["true"], mounts=[ck.Mount.tmpfs("/data")])
    assert caught.value.op == "mount_fs"


def test_a_mount_through_a_link_within_the_root(
    engine: ck.Engine, registry: RegistryServer, tmp_path: Path
) -> None:
    image = hostile(
        registry,
        "link-inside",
        {"data": ocibuild.symlink("../../srv/real"), "srv/real": None},
    )
    (tmp_path / "file").write_text("seen")
    mounts = [ck.Mount.bind(tmp_path, "/data/deeper/still"), ck.Mount.tmpfs("/data/other")]
    script = "cat /srv/real/deeper/still/file; grep -c /srv/real/ /proc/mounts"
    result = engine.run(image, ["sh", "-c", script], text=True, mounts=mounts)
    assert result.stdout == "seen2\n"


@pytest.mark.parametrize("place", ["proc", "sys", "dev"])
def test_links_in_the_place_of_the_systems_own(
    engine: ck.Engine, registry: RegistryServer, place: str
) -> None:
    files: dict[str, ocibuild.Content] = {
        f".wh.{place}": b"",
    }
    gone = registry.push(f"test/no-{place}:latest", ocibuild.busybox(files))
    assert engine.run(gone, ["test", "-e", f"/{place}/."]).exit.ok
    files = {place: ocibuild.symlink("/tmp")}
    image = hostile(registry, f"linked-{place}", files)
    with pytest.raises(LaunchError, match="ELOOP"):
        engine.run(image, ["true"])


@pytest.mark.parametrize("number", range(3, 20))
def test_a_working_directory_that_is_a_descriptor(
    engine: ck.Engine, busybox: str, number: int
) -> None:
    """CVE-2024-21626: no directory of the host is reached through a descriptor of ours."""
    for path in (f"/proc/self/fd/{number}", f"/proc/1/fd/{number}", "/proc/self/cwd"):
        with pytest.raises(LaunchError):
            engine.run(busybox, ["pwd"], workdir=path)


@pytest.mark.needs("ids")
def test_a_working_directory_that_is_not_the_users(
    engine: ck.Engine, registry: RegistryServer
) -> None:
    """``WORKDIR /root`` with ``USER app``: entered, as by Docker; the user itself cannot."""
    files: dict[str, ocibuild.Content] = {"root": ocibuild.directory(0o700)}
    config = {"WorkingDir": "/root", "User": "app"}
    image = registry.push("test/closed:latest", ocibuild.busybox(files, config=config))
    script = "id -u; readlink /proc/self/cwd || pwd; cd / && cd /root || echo refused"
    expected = "1000\n/root\nrefused\n"
    for security in (
        ck.Security(),
        ck.Security.default(capabilities=()),
        ck.Security(userns="auto"),
    ):
        assert engine.run(image, script, text=True, security=security).stdout == expected
        with engine.start(image, ["sleep", "1000"], security=security) as box:
            assert box.exec(script, text=True).stdout == expected
            own = box.exec(script, text=True, user="nobody", workdir="/root").stdout
            assert own == expected.replace("1000", "65534")


def test_mtab(engine: ck.Engine, registry: RegistryServer, tmp_path: Path) -> None:
    """It is there for getmntent(3), is no change of the container's, and writes to nothing of the host.

    An image's own is left alone.
    """
    look = ["readlink", "/etc/mtab"]
    plain = registry.push("test/no-mtab:latest", ocibuild.busybox())
    with engine.start(plain, ["sleep", "1000"]) as box:
        assert box.exec(look, text=True).stdout == "/proc/mounts\n"
        assert box.exec("mount | head -n 1 | wc -l", text=True).stdout == "1\n"
        assert [str(change) for change in box.diff()] == []
    own = registry.push(
        "test/mtab:latest", ocibuild.busybox({"etc/mtab": ocibuild.symlink("mine")})
    )
    assert engine.run(own, look, text=True).stdout == "mine\n"
    files: dict[str, ocibuild.Content] = {"etc": ocibuild.symlink("/given")}
    odd = registry.push("test/etc-elsewhere:latest", ocibuild.busybox(files))
    mounts = [ck.Mount.bind(tmp_path, "/given")]
    engine.run(odd, ["true"], mounts=mounts, check=True)
    assert not os.path.lexists(tmp_path / "mtab")


def test_volumes_of_an_image(engine: ck.Engine, registry: RegistryServer) -> None:
    """They are there, also where the image has no such directory."""
    config: dict[str, object] = {"Volumes": {"/data/deep": {}, "/etc": {}, "/proc/x": {}}}
    image = registry.push("test/volumes:latest", ocibuild.busybox(config=config))
    run = engine.run(
        image, "stat -c %a:%u:%F /data/deep; touch /data/deep/x", text=True, check=True
    )
    assert run.stdout == "755:0:directory\n"


@pytest.mark.needs("ids")
def test_a_working_directory_through_a_link(engine: ck.Engine, registry: RegistryServer) -> None:
    files: dict[str, ocibuild.Content] = {
        "there": ocibuild.symlink("../../../home/app"),
        "out": ocibuild.symlink("/proc/self/cwd"),
        "closed": ocibuild.directory(0o700),
        "file": b"",
    }
    image = hostile(registry, "workdirs", files)
    assert engine.run(image, ["pwd"], workdir="/there", text=True).stdout == "/home/app\n"
    with pytest.raises(LaunchError):
        engine.run(image, ["pwd"], workdir="/out")
    assert engine.run(image, ["pwd"], workdir="/closed", user="1000", text=True).exit.ok
    with pytest.raises(LaunchError, match="ENOTDIR"):
        engine.run(image, ["pwd"], workdir="/file/x")


def test_files_of_etc_that_are_links(engine: ck.Engine, registry: RegistryServer) -> None:
    """What we write for the container never goes through its links to anywhere else."""
    files: dict[str, ocibuild.Content] = {
        "etc/hosts": ocibuild.symlink("/home/victim"),
        "home/victim": "mine\n",
        "run": ocibuild.symlink("/home/app"),
    }
    image = hostile(registry, "etc-links", files)
    script = "cat /home/victim /run/secrets/k"
    result = engine.run(image, ["sh", "-c", script], text=True, secrets={"k": "s"})
    assert "127.0.0.1" in result.stdout
    assert result.stdout.endswith("s")
    assert engine.run(image, ["cat", "/home/app/secrets/k"]).returncode == 1


# ---- programs


def test_a_program_whose_interpreter_is_missing(
    engine: ck.Engine, registry: RegistryServer
) -> None:
    files: dict[str, ocibuild.Content] = {
        "bin/script": ocibuild.program("#!/bin/sh\r\necho\n"),
        "bin/loop": ocibuild.symlink("loop"),
        "bin/words": ocibuild.program("just words\n"),
    }
    image = hostile(registry, "interpreters", files)
    with pytest.raises(ck.CommandNotFound, match="'/bin/script': it is there, but"):
        engine.run(image, ["script"])
    with pytest.raises(LaunchError, match="loop"):
        engine.run(image, ["/bin/loop"])
    with pytest.raises(ck.NotExecutable, match="words"):
        engine.run(image, ["words"])


@pytest.mark.needs("ids")
def test_a_user_may_open_its_streams(engine: ck.Engine, busybox: str) -> None:
    """/dev/stdout leads to a pipe that the caller made."""
    script = "echo out >/dev/stdout; echo err >/dev/stderr; cat /dev/stdin"
    result = engine.run(busybox, ["sh", "-c", script], user="app", input=b"in")
    assert (result.stdout, result.stderr) == (b"out\nin", b"err\n")
