"""What an image says of itself: only what is listed is read, and nothing of it reaches the host.

The controls are configs that differ from the hostile ones in a member that does count.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import containerkit as ck
from containerkit.errors import ConfigError, InvalidSpec
from containerkit.launch.compile import compile_plan
from containerkit.launch.ops import Code
from containerkit.launch.process import working_directory
from containerkit.model.digest import Digest
from containerkit.model.healthcheck import Healthcheck
from containerkit.model.image_config import ImageConfig
from tests.support import ocibuild
from tests.support.registry import RegistryServer
from tests.unit.launch import plans as launch

KNOWN = (
    *("Entrypoint", "Cmd", "Env", "WorkingDir", "User", "Shell", "StopSignal", "ExposedPorts"),
    *("Volumes", "Labels", "Healthcheck"),
)
TOP = ("architecture", "os", "variant", "created", "config", "rootfs", "history")


def document(config: Mapping[str, Any] | None = None, **more: Any) -> bytes:
    """Return a config around these members of its "config"."""
    members = {"Cmd": ["true"], "Env": ["PATH=/bin"], **(config or {})}
    digest = str(Digest.of(b""))
    base = {"os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest]}, "config": members}
    return json.dumps({**base, **more}).encode()


def steps(data: bytes) -> str:
    """Return the plan of a start of an image with this config, as text."""
    request = launch.request(None, image=ImageConfig.parse(data))
    return str(compile_plan(request, launch.V1).explain())


# ---- what is not listed --------------------------------------------------------------------------


FOREIGN: dict[str, Any] = {
    "HostConfig": {"Privileged": True, "Binds": ["/:/host"], "PidMode": "host"},
    "Privileged": True,
    "Binds": ["/:/host"],
    "Mounts": [{"Source": "/", "Target": "/host"}],
    "mounts": [{"source": "/", "destination": "/host", "type": "bind"}],
    "Devices": ["/dev/sda"],
    "CapAdd": ["ALL"],
    "capabilities": ["CAP_SYS_ADMIN"],
    "SecurityOpt": ["seccomp=unconfined"],
    "NetworkMode": "host",
    "NetworkDisabled": False,
    "Hostname": "host",
    "Domainname": "evil",
    "MacAddress": "00:00:00:00:00:00",
    "Runtime": "/bin/evil",
    "hooks": {"prestart": [{"path": "/bin/sh"}]},
    "annotations": {"run.oci.handler": "krun", "io.containerd.runc": "x"},
    "OnBuild": ["RUN rm -rf /"],
    "Memory": -1,
    "MemorySwap": -1,
    "CpuShares": 1 << 40,
    "AttachStdin": True,
    "Tty": True,
    "OpenStdin": True,
    "StdinOnce": True,
    "ArgsEscaped": True,
    "Image": "sha256:../../x",
    "user": "root",
    "env": ["SECRET"],
    "linux": {"namespaces": []},
    "process": {"capabilities": {}, "noNewPrivileges": False},
}


@pytest.mark.parametrize("where", ["config", "top", "labels"])
def test_what_is_not_listed_changes_nothing(where: str) -> None:
    plain = document()
    if where == "config":
        changed = document(FOREIGN)
    elif where == "top":
        foreign = {key: value for key, value in FOREIGN.items() if key.lower() not in TOP}
        changed = document(**foreign, container_config={"User": "root", "Env": ["SECRET"]})
    else:
        names = ("krun", "devcontainer.metadata", "io.podman.annotations.privileged", "RUN", "../x")
        changed = document({"Labels": {name: json.dumps(FOREIGN) for name in names}})
    assert steps(changed) == steps(plain)
    assert steps(document({"Env": ["PATH=/sbin"]})) != steps(plain)  # the control


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 62), 1 << 62) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        (st.sampled_from(sorted(FOREIGN)) | st.text(max_size=12)).filter(
            lambda name: name not in KNOWN
        ),
        JSON,
        max_size=4,
    )
)
@example({"entrypoint": ["/evil"]})
@example({"CMD": ["/evil"]})
def test_any_member_that_is_not_listed_changes_nothing(members: dict[str, Any]) -> None:
    assert ImageConfig.parse(document(members)) == ImageConfig.parse(document())


@given(st.sampled_from(KNOWN), JSON)
@example("Env", ["A"])
@example("Env", ["=A"])
@example("Volumes", {"/../..": {}})
@example("ExposedPorts", {"99999/tcp": {}})
@example("Labels", {"a": None})
def test_any_value_of_a_member_is_refused_or_of_its_type(name: str, value: Any) -> None:
    try:
        config = ImageConfig.parse(document({name: value}))
    except InvalidSpec:
        return
    for texts in (config.entrypoint, config.cmd, config.env, config.shell, config.volumes):
        assert all(type(text) is str and "\0" not in text for text in texts)
    assert all(entry.find("=") > 0 for entry in config.env)
    assert all(path[0] == "/" and ".." not in path.split("/") for path in config.volumes)
    assert all(port[0].isdigit() for port in config.exposed_ports)
    assert all(type(label) is str for label in config.labels.values())


# ---- what is listed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry", ["SECRET", "SECRET*", "", "=", "=x", "A=\0", 7, None, ["A=b"], {"A": "b"}]
)
def test_a_variable_has_a_name_and_a_value(entry: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without a value would be looked up somewhere: in our own environment."""
    monkeypatch.setenv("SECRET", "of the host")
    if entry is None or (isinstance(entry, str) and "\0" not in entry):
        assert ImageConfig.parse(document({"Env": [entry, "A=b"]})).env == ("A=b",)
    else:
        with pytest.raises(InvalidSpec):
            ImageConfig.parse(document({"Env": [entry, "A=b"]}))
    assert steps(document({"Env": ["SECRET"]})) == steps(document({"Env": []}))
    assert "of the host" not in steps(document({"Env": ["SECRET=$SECRET", "B=${SECRET}"]}))


@pytest.mark.parametrize(
    "user",
    ["4294967296", "2147483648", "-1", "01", "0x0", "1e3", "1000:-1", "+0"]
    + [
        "root\n",
        " root",
        "root ",
        "0 ",
        "0\t",
        "\uff10",
        "../root",
        "root:root:root",
        "99999999999",
    ],
)
def test_a_user_that_is_none_is_not_root(user: str) -> None:
    with pytest.raises((ConfigError, InvalidSpec)):
        steps(document({"User": user}))


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("4321:", (4321, 0)),
        (":7", (0, 7)),
        (":0", (0, 0)),
        (":", (0, 0)),
        ("1000:7", (1000, 7)),
    ],
)
def test_an_image_may_leave_out_a_side_of_its_user(user: str, ids: tuple[int, int]) -> None:
    plan = compile_plan(
        launch.request(None, image=ImageConfig.parse(document({"User": user}))), launch.V1
    )
    assert [op.value for op in plan.child if op.code == Code.IDS] == [ids]


def test_a_number_is_never_a_name() -> None:
    """A line of the image's own passwd that calls root by a number."""
    image = ImageConfig.parse(document({"User": "1234"}))
    passwd = b"root:x:0:0::/:/bin/sh\n1234:x:0:0::/:/bin/sh\n"
    plan = compile_plan(launch.request(None, image=image, passwd=passwd), launch.V1)
    named = ImageConfig.parse(document({"User": "root"}))
    control = compile_plan(launch.request(None, image=named, passwd=passwd), launch.V1)
    ids = [op.value for op in plan.child if op.code == Code.IDS]
    assert ids == [(1234, 0)]
    assert [op.value for op in control.child if op.code == Code.IDS] == [(0, 0)]


@pytest.mark.parametrize("path", ["/../../etc", "..", "a/../../b", "/a/..", "../../proc/self/fd/3"])
def test_a_working_directory_does_not_climb(path: str) -> None:
    found = working_directory(ImageConfig.parse(document({"WorkingDir": path})), None)
    assert found in {"/etc", "/", "/b", "/proc/self/fd/3"}
    assert steps(document({"WorkingDir": "/a..b/..c"}))  # the control


@pytest.mark.parametrize("path", ["/../../etc", "..", "/a/../../b", "a/..", "/.."])
def test_a_volume_does_not_climb(path: str) -> None:
    (volume,) = ImageConfig.parse(document({"Volumes": {f"{path}/x": {}}})).volumes
    assert volume in {"/etc/x", "/x", "/b/x"}


def test_volumes_are_absolute_and_not_the_root() -> None:
    volumes: dict[str, Any] = {
        "/data": {},
        "var/lib": {},
        "/": {},
        "//a//": {},
        "/a..b": {},
        ".": {},
    }
    config = ImageConfig.parse(document({"Volumes": volumes}))
    assert set(config.volumes) == {"/data", "/var/lib", "/a", "/a..b"}


def test_ports_that_are_none_are_left_out() -> None:
    good = ["80", "53/udp", "8000-8010/tcp", "1/sctp", "65535"]
    bad = [
        "0",
        "65536",
        "80/icmp",
        "10-5",
        "-1",
        "80/tcp/udp",
        "",
        "\uff18\uff10",
        "80;rm",
        "$PORT",
    ]
    config = ImageConfig.parse(document({"ExposedPorts": {name: {} for name in good + bad}}))
    assert sorted(config.exposed_ports) == sorted(good)


@pytest.mark.parametrize(
    "config",
    [
        {"Cmd": ["x"] * 8193},
        {"Entrypoint": ["x" * (128 << 10)]},
        {"Env": ["A=" + "x" * (128 << 10)]},
        {"Env": ["A=b"] * 8193},
        {"Labels": {str(number): "" for number in range(8193)}},
        {"User": "x" * 257},
        {"WorkingDir": "/" + "x" * 4095},
        {"StopSignal": "x" * 33},
        {"Shell": ["x"] * 65},
    ],
)
def test_lists_and_texts_are_bounded(config: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec, match="more than"):
        ImageConfig.parse(document(config))


def test_a_check_of_any_length_has_times_that_fit() -> None:
    longest = (1 << 63) - 1
    check = {"Test": ["CMD", "x"], "Interval": longest, "Timeout": longest, "StartPeriod": longest}
    config = ImageConfig.parse(document({"Healthcheck": {**check, "Retries": 1_000_000}}))
    found = Healthcheck.of_image(config.healthcheck)
    assert found is not None
    assert found.interval * 1000 < 1 << 32
    assert found.retries < 1 << 16


def test_a_check_without_a_pause_is_made_once_a_second() -> None:
    """Each probe is a process of the launcher's, and each change of mind a line of the root's events."""
    check = {"Test": ["CMD", "x"], "Interval": 1, "StartInterval": 1, "StartPeriod": 1 << 62}
    found = Healthcheck.of_image(ImageConfig.parse(document({"Healthcheck": check})).healthcheck)
    assert found is not None
    assert found.interval == found.start_interval == 1
    assert Healthcheck("x", interval=0.001).interval == 0.001  # the caller's own: the control


# ---- with real containers ------------------------------------------------------------------------


def hostile(
    registry: RegistryServer,
    name: str,
    files: dict[str, ocibuild.Content],
    **config: Any,
) -> str:
    return registry.push(f"configs/{name}:1", ocibuild.busybox(files, config=config))


def test_a_stop_signal_that_is_none_stops_it(engine: ck.Engine, registry: RegistryServer) -> None:
    image = hostile(registry, "signal", {}, StopSignal="KILL; reboot", Cmd=["sleep", "1000"])
    with engine.start(image) as box:
        box.stop()
        assert box.status == "stopped"


@pytest.fixture(
    params=[
        "fifo",
        "link",
        "directory",
        pytest.param("device", marks=pytest.mark.needs("device nodes")),
    ]
)
def no_accounts(request: pytest.FixtureRequest, registry: RegistryServer) -> str:
    """An image whose accounts are no files."""
    entries = {
        "fifo": ocibuild.Entry(b"6"),
        "link": ocibuild.symlink("/dev/zero"),
        "directory": ocibuild.directory(),
        "device": ocibuild.Entry(b"3", device=(1, 5), mode=0o666),
    }
    files: dict[str, ocibuild.Content] = {
        "etc/passwd": entries[request.param],
        "etc/group": entries[request.param],
    }
    return hostile(registry, request.param, files)


def test_accounts_that_are_no_files(engine: ck.Engine, no_accounts: str) -> None:
    """Nobody waits for a pipe, reads this host's passwd, or opens a device of it."""
    with pytest.raises(ConfigError, match="no user 'app'"):
        engine.run(no_accounts, ["true"], user="app")


@pytest.mark.needs("ids")
def test_numbers_without_accounts(engine: ck.Engine, no_accounts: str) -> None:
    command = ["grep", "Uid", "/proc/self/status"]  # `id` would look into the file, and wait
    ids = engine.run(no_accounts, command, text=True, user=1000).stdout
    assert ids.split()[1] == "1000"


@pytest.mark.needs("device nodes")
def test_a_device_of_a_layer_is_of_no_use(engine: ck.Engine, registry: RegistryServer) -> None:
    """It is there, as in any image of a whole system, and can not be opened; /dev/null can."""
    null = ocibuild.Entry(b"3", device=(1, 3), mode=0o666)
    image = hostile(registry, "device-node", {"srv/null": null})
    script = "stat -c %F /srv/null; cat /dev/null && echo ours; cat /srv/null || echo refused"
    done = engine.run(image, ["sh", "-c", script], text=True)
    assert done.stdout.splitlines() == ["character special file", "ours", "refused"]
    assert "Permission denied" in done.stderr


@pytest.mark.needs("ids")
def test_nothing_of_an_image_is_executed_to_bring_it_here(
    engine: ck.Engine, registry: RegistryServer
) -> None:
    """Decompressors and name services that it brings stay files."""
    trojan = ocibuild.program("#!/bin/sh\ntouch /ran\n")
    names = ("xz", "unpigz", "gzip", "zstd", "tar", "newuidmap", "mount", "getent", "busybox.real")
    files: dict[str, ocibuild.Content] = {f"usr/bin/{name}": trojan for name in names}
    files["lib/libnss_files.so.2"] = trojan
    image = hostile(registry, "trojan", files)
    with engine.start(image, ["sleep", "1000"], user="app") as box:
        box.files.write_bytes("/tmp-file", b"x")
        assert box.files.read_bytes("/tmp-file") == b"x"
        assert not box.files.exists("/ran")
        box.exec(["touch", "/usr/bin/xz"], user=0).check()
    done = engine.run(image, ["sh", "-c", "/usr/bin/xz; ls /ran"], text=True)
    assert done.stdout == "/ran\n"  # the control


def test_the_store_is_closed_to_others(engine: ck.Engine, registry: RegistryServer) -> None:
    """What has a set-user-id bit in a layer is out of reach for the users of this host."""
    rootkit = ocibuild.Entry(data=b"#!", mode=0o6755)
    engine.images.pull(hostile(registry, "setuid", {"bin/rootkit": rootkit}))
    assert stat.S_IMODE(engine.root.stat().st_mode) == 0o700
    assert list((engine.root / "layers").glob("*/bin/rootkit"))  # the control
