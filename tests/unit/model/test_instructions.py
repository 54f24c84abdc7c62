"""Instructions that change an image's config: what each does, and what is refused."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerkit.errors import ConfigError
from containerkit.model.image_config import ImageConfig, ImageHealthcheck
from containerkit.model.instructions import FORMS, apply_changes

BEFORE = ImageConfig(
    entrypoint=("run",),
    cmd=("all",),
    env=("PATH=/bin", "HOME=/home/app"),
    workdir="/srv",
    labels={"kept": "yes"},
    exposed_ports=("80/tcp",),
    volumes=("/data",),
)
NONE = (None, None, None, None, None)

DONE: dict[str, tuple[str | list[str], dict[str, Any]]] = {
    "nothing": ([], {}),
    "comments": ("# a comment\n\n   \n", {}),
    "cmd in words": ('CMD ["a", "b c"]', {"cmd": ("a", "b c")}),
    "cmd for the shell": ("cmd echo  $HOME", {"cmd": ("/bin/sh", "-c", "echo  $HOME")}),
    "cmd that is no JSON": ("CMD [a]", {"cmd": ("/bin/sh", "-c", "[a]")}),
    "no cmd": ("CMD []", {"cmd": ()}),
    "entrypoint": ('ENTRYPOINT ["go"]', {"entrypoint": ("go",), "cmd": ()}),
    "cmd, then entrypoint": (
        ['CMD ["x"]', 'ENTRYPOINT ["go"]'],
        {"entrypoint": ("go",), "cmd": ("x",)},
    ),
    "env": (
        "ENV A=1 B='a $HOME' C=\"a ${HOME}\" PATH=$PATH:/x D=a\\ b",
        {
            "env": ("PATH=/bin:/x", "HOME=/home/app", "A=1", "B=a $HOME", "C=a /home/app")
            + ("D=a b",)
        },
    ),
    "env of old": ("ENV A b  c", {"env": (*BEFORE.env, "A=b  c")}),
    "env with others": (
        ["ENV A=${NO:-else}${HOME:+there}${NO:+no}", "ENV B=$A$"],
        {"env": (*BEFORE.env, "A=elsethere", "B=elsethere$")},
    ),
    "env of what was before": (
        ["ENV A=1", "ENV A=2 B=$A"],
        {"env": (*BEFORE.env, "A=2", "B=1")},
    ),
    "expose": (
        "EXPOSE 80 53/UDP 8000-8002/tcp",
        {"exposed_ports": ("80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp")},
    ),
    "label": (
        'LABEL a=1 "b c"="d e"',
        {"labels": {"kept": "yes", "a": "1", "b c": "d e"}},
    ),
    "user": ("USER app:extra", {"user": "app:extra"}),
    "workdir": ("WORKDIR /a/../b/", {"workdir": "/b"}),
    "workdir below": (["WORKDIR x", "WORKDIR ../../.."], {"workdir": "/"}),
    "volumes": (
        'VOLUME /data /a b\nVOLUME ["/c d"]',
        {"volumes": ("/data", "/a", "/b", "/c d")},
    ),
    "stop signal": ("STOPSIGNAL SIGINT", {"stop_signal": "SIGINT"}),
    "stop signal by number": ("STOPSIGNAL 15", {"stop_signal": "15"}),
    "health": (
        'HEALTHCHECK --interval=1m30s --timeout=1.5s --retries=2 CMD ["a", "b"]',
        {
            "healthcheck": ImageHealthcheck(
                ("CMD", "a", "b"), 90 * 10**9, 1_500_000_000, None, None, 2
            )
        },
    ),
    "health by the shell": (
        "HEALTHCHECK CMD curl -f localhost || exit 1",
        {
            "healthcheck": ImageHealthcheck(
                ("CMD-SHELL", "curl -f localhost || exit 1"), *NONE
            )
        },
    ),
    "no health": ("HEALTHCHECK NONE", {"healthcheck": ImageHealthcheck(("NONE",), *NONE)}),
    "over two lines": ("ENV A=1 \\\n  B=2", {"env": (*BEFORE.env, "A=1", "B=2")}),
}  # fmt: skip


@pytest.mark.parametrize("case", DONE)
def test_what_each_does(case: str) -> None:
    changes, wanted = DONE[case]
    assert apply_changes(BEFORE, changes) == attrs.evolve(BEFORE, **wanted)


def test_the_shell_is_the_images() -> None:
    config = attrs.evolve(BEFORE, shell=("/bin/bash", "-ec"))
    assert apply_changes(config, "CMD x y").cmd == ("/bin/bash", "-ec", "x y")


REFUSED = {
    "RUN true": "change 1: 'RUN' is no instruction",
    "ONBUILD RUN true": "'ONBUILD' is no instruction",
    'SHELL ["sh"]': "'SHELL' is no instruction",
    "FROM scratch": "'FROM' is no instruction",
    "USER 0\nCMD": "change 2, CMD: it says nothing",
    "ENV A": "change 1, ENV: it gives a name no value",
    "ENV A=1 B": "a word of it is not name=value",
    "ENV =1": "a name in it is empty",
    "ENV A='b": "ENV: a ' has no end",
    "ENV A=${B": "is not followed by a name",
    "ENV A=${B#x}": "forms with braces",
    "LABEL a": "it gives a name no value",
    "EXPOSE 0": "'0' is no port",
    "EXPOSE 90-80": "is no port",
    "EXPOSE 80/icmp": "is no port",
    "EXPOSE 1-65535": "more than 8192 ports",
    "USER a b": "is no user",
    "USER a:b:c": "is no user",
    "VOLUME /a/../b": "is no path of a volume",
    "VOLUME /": "is no path of a volume",
    "STOPSIGNAL 99": "is no signal",
    "HEALTHCHECK CMD": "neither CMD and a command nor NONE alone",
    "HEALTHCHECK NONE x": "neither CMD and a command nor NONE alone",
    "HEALTHCHECK --interval=5 CMD x": "'5' is no time",
    "HEALTHCHECK --interval=1us CMD x": "below a millisecond",
    "HEALTHCHECK --often CMD x": "is no option of it",
    "HEALTHCHECK --retries=-1 CMD x": "is no option of it",
    "HEALTHCHECK CMD []": "names no program",
    "CMD a\0b": "NUL",
    'CMD ["\\u0000"]': "NUL",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        apply_changes(BEFORE, text)
    assert REFUSED[text] in str(refused.value)


@pytest.mark.parametrize("given", [b"CMD x", {"CMD": "x"}, 7, [7]])
def test_what_is_no_text(given: Any) -> None:
    with pytest.raises(ConfigError, match="changes"):
        apply_changes(BEFORE, given)


def test_what_is_allowed_is_said_and_values_are_not() -> None:
    with pytest.raises(ConfigError) as refused:
        apply_changes(BEFORE, "ENV TOKEN='very secret")
    assert refused.value.hint == FORMS["ENV"]
    assert "secret" not in str(refused.value)
    with pytest.raises(ConfigError, match="there are CMD, ENTRYPOINT, ENV"):
        apply_changes(BEFORE, "ADD x y")


@given(st.sampled_from(sorted(FORMS)), st.text(max_size=60))
def test_any_text_is_a_config_or_an_error(name: str, text: str) -> None:
    try:
        changed = apply_changes(BEFORE, f"{name} {text}")
    except ConfigError:
        return
    assert isinstance(changed, ImageConfig)
