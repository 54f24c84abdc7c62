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


def wrong(name: str, found: Answer) -> str | None:
    """Say what is wrong with an answer, None when it is Docker's, or the one that is meant."""
    peers, meant = RECORDED[name], differences.of(name)
    if found == peers["docker"]:
        known = meant or differences.is_to_be_mended(name)
        return f"{name}: as Docker now, so no difference is meant" if known else None
    if meant is None and differences.is_to_be_mended(name):
        return None
    expected = differences.expected(meant, peers) if meant else peers["docker"]
    why = f" ({meant.reason})" if meant else ""
    return None if found == expected else f"{name}{why}: {found}, not {expected}"


@pytest.mark.parametrize("kind", sorted({name.partition("/")[0] for name in CASES}))
def test_as_docker(engine: ck.Engine, registry: RegistryServer, kind: str) -> None:
    """One test a class: a case is one start, and says in the failure what it is."""
    of_kind = [case for name, case in CASES.items() if name.startswith(f"{kind}/")]
    assert of_kind
    said = [wrong(case.name, ours(engine, registry, case)) for case in of_kind]
    assert not list(filter(None, said))


def test_what_is_wrong_is_told() -> None:
    """A control: the comparison knows another answer, and a difference that is no more."""
    plain = next(n for n in CASES if not differences.of(n) and not differences.is_to_be_mended(n))
    assert wrong(plain, RECORDED[plain]["docker"]) is None
    assert "not" in str(wrong(plain, answer.ran(77, "another")))
    meant = next(name for name in CASES if differences.of(name))
    assert "no difference is meant" in str(wrong(meant, RECORDED[meant]["docker"]))
    assert "not" in str(wrong(meant, answer.ran(77, "another")))


def test_a_difference_is_of_a_case() -> None:
    for pattern in differences.DIFFERENCES:
        assert any(differences.of(name) is differences.DIFFERENCES[pattern] for name in CASES)
