"""What a container of an image is, compared with what Docker and podman made of the same image."""

from __future__ import annotations

import pytest

import containerkit as ck
from containerkit.errors import CommandNotFound, ContainerKitError, NotExecutable
from tests.peers import answer, cases, differences
from tests.peers.answer import Answer
from tests.support.registry import RegistryServer

CASES = cases.table()
RECORDED: dict[str, dict[str, Answer]] = answer.read()["cases"]


def ours(engine: ck.Engine, registry: RegistryServer, case: cases.Case) -> Answer:
    """Run a case here."""
    number = list(CASES).index(case.name)
    reference = registry.push(f"peers/case{number}:latest", cases.image(case))
    options: ck.ContainerOptions = {"hostname": cases.HOSTNAME, "tty": case.tty, "env": case.env}
    if case.entrypoint is not None:
        options["entrypoint"] = case.entrypoint or []
    if case.user is not None:
        options["user"] = case.user
    if case.workdir is not None:
        options["workdir"] = case.workdir
    if case.memory is not None:
        options["limits"] = ck.Limits(memory=case.memory)
    try:
        result = engine.run(reference, case.command, text=True, timeout=60, **options)
    except CommandNotFound:
        return answer.refused(127)
    except NotExecutable:
        return answer.refused(126)
    except ContainerKitError:
        return answer.refused()
    return answer.ran(result.returncode, result.stdout, ordered=case.ordered)


def test_the_record_is_of_this_table() -> None:
    """No case is without an answer, and no answer without a case."""
    assert sorted(RECORDED) == sorted(CASES)
    assert all(set(answers) == {"docker", "podman"} for answers in RECORDED.values())


@pytest.mark.parametrize("name", sorted(CASES))
def test_as_docker(engine: ck.Engine, registry: RegistryServer, name: str) -> None:
    found = ours(engine, registry, CASES[name])
    peers = RECORDED[name]
    meant = differences.of(name)
    if meant is None and found != peers["docker"] and differences.is_to_be_mended(name):
        pytest.xfail("to be mended")
    if meant is None:
        assert found == peers["docker"]
        return
    assert found != peers["docker"], f"no difference any more: {meant.reason}"
    assert found == differences.expected(meant, peers)
