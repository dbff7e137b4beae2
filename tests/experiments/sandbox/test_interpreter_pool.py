"""Programs in JavaScript, bash and Perl: verdicts by exit code, under the same layers as Python's."""

from __future__ import annotations

import os
import re
import resource
import shutil
from collections.abc import Iterator

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.sandbox import interpreters
from runtime_matrix.experiments.sandbox.interpreter_pool import InterpreterPool
from runtime_matrix.experiments.sandbox.interpreters import LANGUAGES
from runtime_matrix.experiments.sandbox.layers import Limits
from runtime_matrix.experiments.sandbox.pool import Pool
from runtime_matrix.experiments.sandbox.program import Program, Verdict
from tests.experiments.sandbox.hostile_interpreters import CHEATS, ESCAPES, EXHAUSTION, Hostile
from tests.experiments.sandbox.solved import SOLVED, Solved
from tests.experiments.sandbox.test_sandbox import Outside, outside

__all__ = ["outside"]  # a fixture
LIMITS = Limits(cpu_s=1, wall_s=5.0, memory_mib=256)
NOTHING = {"js": "1;", "sh": "true", "pl": "1;"}
MISSING = [name for name, language in LANGUAGES.items() if shutil.which(language.binary) is None]
QUICK = (  # attacks on limits that end within a second
    *("shared memory", "threads", "disk", "a large file", "recursion", "a bomb of forks that leaves"),
    *("processes that stay", "memory", "memory in many processes", "a command without end", "a regular expression"),
)


def program(code: str, test: str = "") -> Program:
    return Program(code, test, "", calls_check=False)


def judged(pool: Pool, code: str, test: str = "") -> Verdict:
    return pool.submit(program(code, test)).result(timeout=60)


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[str, Pool]]:
    """A pool for each language, or none where its interpreter is missing."""
    made: dict[str, Pool] = {name: InterpreterPool(name, 1, LIMITS) for name in LANGUAGES if name not in MISSING}
    yield made
    for pool in made.values():
        pool.close()


def pool_of(pools: dict[str, Pool], language: str) -> Pool:
    if language not in pools:
        pytest.skip(f"{LANGUAGES[language].binary} is not installed")
    return pools[language]


def test_there_are_ten_problems_of_each_language() -> None:
    assert {name: sum(solved.language == name for solved in SOLVED) for name in LANGUAGES} == dict.fromkeys(
        LANGUAGES, 10
    )


@pytest.mark.parametrize("solved", SOLVED, ids=lambda solved: f"{solved.language}-{solved.name}")
def test_right_solutions_pass_and_wrong_ones_fail(solved: Solved, pools: dict[str, Pool]) -> None:
    pool = pool_of(pools, solved.language)
    right = judged(pool, solved.prompt + solved.right, solved.tests)
    assert right.passed, right
    assert judged(pool, solved.prompt + solved.wrong, solved.tests).status == "failed"


def harm(hostile: Hostile, pools: dict[str, Pool], outside: Outside) -> list[str]:
    """Return what a hostile program achieved; empty if it was contained and an honest program passes after it."""
    pool = pool_of(pools, hostile.language)
    verdict = judged(pool, outside.fill(hostile.code))
    signs = {
        f"it ended as {verdict}": verdict.status not in hostile.ends,
        "it made or removed files": [path.name for path in outside.folder.iterdir()] != ["victim.txt"],
        "it changed a file": (outside.folder / "victim.txt").read_text() != "secret",
        "it reached the network": outside.connections != [],
        "the next program fails": not judged(pool, NOTHING[hostile.language]).passed,
    }
    return [sign for sign, is_there in signs.items() if is_there]


def name_of(hostile: Hostile) -> str:
    return f"{hostile.language}-{hostile.name}"


@pytest.mark.parametrize("hostile", [*ESCAPES, *CHEATS], ids=name_of)
def test_a_hostile_program_is_contained(hostile: Hostile, pools: dict[str, Pool], outside: Outside) -> None:
    assert harm(hostile, pools, outside) == []


@pytest.mark.parametrize("hostile", [one for one in EXHAUSTION if one.name in QUICK], ids=name_of)
def test_the_limits_hold(hostile: Hostile, pools: dict[str, Pool], outside: Outside) -> None:
    assert harm(hostile, pools, outside) == []


@pytest.mark.slow
@pytest.mark.parametrize("hostile", [one for one in EXHAUSTION if one.name not in QUICK], ids=name_of)
def test_the_limits_of_time_hold(hostile: Hostile, pools: dict[str, Pool], outside: Outside) -> None:
    assert harm(hostile, pools, outside) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_endless_loop_is_a_timeout_and_never_a_crash(language: str, pools: dict[str, Pool]) -> None:
    loop = {"js": "while (true);", "sh": "while :; do :; done", "pl": "while (1) {}"}[language]
    pool = pool_of(pools, language)
    verdict = pool.submit(program(loop), Limits(cpu_s=1, wall_s=30.0, memory_mib=256)).result(timeout=60)
    assert (verdict.status, verdict.reason) == ("timeout", "longer than 1 s of CPU time")


def test_no_process_is_left(pools: dict[str, Pool]) -> None:
    pool = pool_of(pools, "sh")
    assert judged(pool, "sleep 99 &\nsleep 98 &").passed
    assert judged(pool, "sleep 99 | sleep 98 | sleep 97 &\nexit 1").status == "failed"
    commands = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                commands.append(file.read())
        except OSError:
            continue
    assert b"sleep\x0099\x00" not in commands


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_layer_is_active_here(language: str, pools: dict[str, Pool]) -> None:
    pool = pool_of(pools, language)
    assert set(InterpreterPool._required) <= set(pool.level)
    assert pool.versions[0].startswith(LANGUAGES[language].title)


@pytest.mark.parametrize("layer", ["pids", "private_root", "seccomp", "namespaces", "scratch", "unprivileged"])
def test_each_layer_is_required(layer: str) -> None:
    with pytest.raises(
        UserError, match=rf"this host lacks [\w, ]*{layer}[\w, ]*: (use another host|start it as a user other)"
    ):
        InterpreterPool("sh", 1, LIMITS, without=(layer,))


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_without_landlock_the_other_layers_contain_the_attacks(language: str, outside: Outside) -> None:
    if language in MISSING:
        pytest.skip(f"{LANGUAGES[language].binary} is not installed")
    with InterpreterPool(language, 1, LIMITS, without=("landlock",)) as pool:
        assert "reading your files (no landlock)" in str(pool.note)
        for hostile in ESCAPES:
            if hostile.language == language:
                assert harm(hostile, {language: pool}, outside) == []


def test_a_missing_interpreter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(UserError, match=r"JavaScript programs need node, .*: install nodejs"):
        InterpreterPool("js", 1, LIMITS)


def test_a_missing_ldd_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None if name == "ldd" else f"/usr/bin/{name}")
    with pytest.raises(UserError, match=r"bash programs need ldd, .*: install libc-bin"):
        InterpreterPool("sh", 1, LIMITS)


def test_an_interpreter_that_does_not_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "runtime_matrix.experiments.sandbox.interpreter_pool.memory_limits",
        lambda language, memory_mib: [(resource.RLIMIT_AS, 1 << 20)],
    )
    with pytest.raises(UserError, match=r"/bash does not run in the sandbox \(crash"):
        InterpreterPool("sh", 1, LIMITS)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("java", r"the language java is compiled, and the sandbox has no compilers; it runs js \(JavaScript\), pl"),
        ("rb", "the language rb has no interpreter in the sandbox"),
    ],
)
def test_languages_that_never_run_say_why(name: str, says: str) -> None:
    reason = interpreters.unsupported(name)
    assert re.match(says, str(reason))
    assert [interpreters.unsupported(known) for known in LANGUAGES] == [None] * len(LANGUAGES)


def test_functions_are_called_in_python_only(pools: dict[str, Pool]) -> None:
    with pytest.raises(UserError, match="in Python only, not in bash"):
        pool_of(pools, "sh").outputs("", "f", [])
