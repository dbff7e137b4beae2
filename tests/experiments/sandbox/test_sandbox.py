"""The hostile corpus: nothing escapes, nothing passes that should fail, and honest programs still get their verdict."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from msgspec.structs import replace as with_changes

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.reports.text import foot
from runtime_matrix.experiments.sandbox import values
from runtime_matrix.experiments.sandbox.checks import plan_checks, verdict_is_inside
from runtime_matrix.experiments.sandbox.layers import Limits
from runtime_matrix.experiments.sandbox.pool import LAYERS, REQUIRED, Pool, note_of
from runtime_matrix.experiments.sandbox.program import Program
from runtime_matrix.experiments.sandbox.verdicts import VerdictCache
from tests.experiments.recorded import make_record, result
from tests.experiments.sandbox.hostile import COMMANDS, EXHAUSTION, FILES, HONEST, HOSTILE, TEST, Attack

ROOT = Path(__file__).parents[3]
LIMITS = Limits(cpu_s=1, wall_s=4.0, memory_mib=256)


def program(code: str, test: str = TEST) -> Program:
    return Program(code, test, "f", calls_check=False)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1, LIMITS) as made:
        yield made


@dataclass
class Outside:
    folder: Path
    port: int
    pid: int
    connections: list[object]

    def fill(self, code: str) -> str:
        answers = ROOT / "experiments" / "bundled" / "data" / "code.jsonl"
        places = {"site": sysconfig.get_path("purelib"), "answers": answers}
        known = {"folder": self.folder, "port": self.port, "pid": self.pid, **places}
        for name, value in known.items():
            code = code.replace(f"{{{name}}}", str(value))
        return code


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """What must stay untouched: a file, a listening port, a process."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "victim.txt").write_text("secret")
    victim = subprocess.Popen(["sleep", "3600"])
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[object] = []

    def accept() -> None:
        while True:
            try:
                connections.append(listener.accept())
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield Outside(folder, listener.getsockname()[1], victim.pid, connections)
    assert victim.poll() is None, "the other process was killed"
    victim.kill()
    victim.wait()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.mark.parametrize("attack", HOSTILE, ids=lambda attack: attack.name)
def test_a_hostile_program_is_contained(attack: Attack, pool: Pool, outside: Outside) -> None:
    if attack.needs == "private_root" and attack.needs not in pool.level:
        pytest.skip("this host gives no root of its own, as the sandbox's note says")
    verdict = pool.submit(program(outside.fill(attack.code))).result(timeout=60)
    assert verdict.status in attack.ends, verdict
    assert sorted(path.name for path in outside.folder.iterdir()) == ["victim.txt"]
    assert (outside.folder / "victim.txt").read_text() == "secret"
    assert outside.connections == []
    assert pool.submit(program(HONEST)).result(timeout=60).passed


@pytest.mark.slow
def test_the_attacks_succeed_without_a_sandbox(outside: Outside, tmp_path: Path) -> None:
    """Otherwise a corpus that attempts nothing would be contained as well. Harmless attempts only."""
    (tmp_path / "victim.txt").write_text("secret")
    harmless = [*FILES[:8], *FILES[10:12], *COMMANDS[:3]]
    with Pool(1, LIMITS, allow_unsafe=True, without=("seccomp", "landlock", "namespaces", "unprivileged")) as pool:
        for attack in harmless:
            here = Outside(tmp_path, outside.port, outside.pid, [])
            (tmp_path / "victim.txt").write_text("secret")
            verdict = pool.submit(
                program(f"import os\nos.chdir({str(tmp_path)!r})\n" + here.fill(attack.code))
            ).result()
            assert verdict.passed, attack.name
            for left in tmp_path.iterdir():
                left.unlink()


QUICK = [attack for attack in HOSTILE if attack not in EXHAUSTION]


@pytest.mark.slow
@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer != "rlimits"])
def test_without_one_layer_the_others_contain_the_attacks(layer: str, outside: Outside) -> None:
    with Pool(1, LIMITS, allow_unsafe=True, without=(layer,)) as pool:
        for attack in QUICK:
            verdict = pool.submit(program(outside.fill(attack.code))).result(timeout=60)
            # What a filter of calls denies, nothing else has to: then only what lies outside must be whole.
            if layer != "seccomp" and (attack.needs != "private_root" or "private_root" in pool.level):
                assert verdict.status in attack.ends, (attack.name, verdict)
            assert pool.submit(program(HONEST)).result(timeout=60).passed, attack.name
        assert layer not in pool.level
    assert (outside.folder / "victim.txt").read_text() == "secret"
    assert outside.connections == []


CATCHING = """
def check(f):
    for number in (7, 12):
        try:
            found = f(number)
        except:
            continue
        assert found == number ** 3
"""


@pytest.mark.parametrize("body", ["import os; os._exit(0)", "while True: pass"])
def test_a_test_that_catches_everything_does_not_pass_an_ended_program(pool: Pool, body: str) -> None:
    ended = Program(f"def f(x):\n    {body}\n", CATCHING, "f", calls_check=True)
    assert pool.submit(ended).result(timeout=60).status in ("crash", "timeout")
    assert pool.submit(Program(HONEST, CATCHING, "f", calls_check=True)).result(timeout=60).passed


def test_an_answer_cannot_exhaust_the_memory(pool: Pool) -> None:
    test = "def check(f):\n    assert len(set(f(7))) == 3\n"
    huge = Program("def f(x):\n    return range(10 ** 8)\n", test, "f", calls_check=True)
    verdict = pool.submit(huge).result(timeout=60)
    assert (verdict.status, verdict.reason) == ("failed", "MemoryError: ")
    assert pool.submit(program(HONEST)).result(timeout=60).passed


def test_names_of_attacks_are_unique() -> None:
    assert len({attack.name for attack in HOSTILE}) == len(HOSTILE) >= 40


def test_every_layer_is_active_here(pool: Pool) -> None:
    """Shows what this machine gives; below `REQUIRED` the pool would not have started."""
    assert set(REQUIRED) <= set(pool.level)


@pytest.fixture
def unpacked(wheel: Path) -> Iterator[Path]:
    """Return the folder of an installed wheel, which any user may read."""
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(wheel).extractall(folder)
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("is_wheel", "user"), [(False, 65534), (True, 0)])
def test_attacks_are_contained_in_other_folders_and_as_other_users(
    outside: Outside, unpacked: Path, is_wheel: bool, user: int
) -> None:
    """From a checkout and an installed wheel, as root and as nobody; as root from the checkout it is above."""
    python = shutil.which("python3", path="/usr/bin") if user else sys.executable
    if python is None:
        pytest.skip("no Python that other users can run")
    place = unpacked if is_wheel else ROOT
    script = (
        "import json, sys\nfrom runtime_matrix.experiments.sandbox.pool import *\n"
        "from runtime_matrix.experiments.sandbox.layers import Limits\n"
        "with Pool(1, Limits(cpu_s=1, wall_s=4.0, memory_mib=256)) as pool:\n"
        "    jobs = [Program(code, test, 'f', False) for code, test in json.load(sys.stdin)]\n"
        "    found = [pool.submit(job).result().status for job in jobs]\n"
        "    import runtime_matrix\n"
        "    print(json.dumps([pool.level, found, runtime_matrix.__file__]))\n"
    )
    codes = [code for attack in HOSTILE for code in (outside.fill(attack.code), HONEST)]
    done = subprocess.run(
        [python, "-c", script],
        input=json.dumps([(code, TEST) for code in codes]),
        capture_output=True,
        text=True,
        cwd=place,
        user=user,
        group=user,
        extra_groups=[],
        env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": "/tmp", "PYTHONPATH": str(place)},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    level, found, file = json.loads(done.stdout)
    assert Path(file).is_relative_to(place)
    assert set(REQUIRED) <= set(level)
    for attack, status, honest in zip(HOSTILE, found[::2], found[1::2], strict=True):
        assert status in attack.ends, (attack.name, status)
        assert honest == "passed", attack.name
    assert (outside.folder / "victim.txt").read_text() == "secret"
    assert outside.connections == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_programs_are_never_root(pool: Pool) -> None:
    """Also where Python's library lies in a folder of root's own: then it is copied."""
    assert "unprivileged" in pool.level
    code = "import os\ndef f(x):\n    return x ** 3 if os.getuid() != 0 and os.geteuid() != 0 else None\n"
    assert pool.submit(program(code)).result(timeout=60).passed


def test_a_host_without_the_required_layers_is_refused_unless_unsafe_is_allowed() -> None:
    with pytest.raises(UserError, match=r"lacks seccomp.*sandbox.allow_unsafe=true"):
        Pool(1, without=("seccomp",))
    with Pool(1, allow_unsafe=True, without=("seccomp", "landlock", "namespaces")) as pool:
        assert "seccomp" not in pool.level
        assert pool.submit(program(HONEST)).result(timeout=60).passed


def test_the_note_says_which_layers_are_active_and_what_programs_can_do_without_the_others(pool: Pool) -> None:
    assert pool.note is None or set(pool.level) < set(LAYERS)
    assert note_of([layer for layer in LAYERS if layer not in ("landlock", "private_root")]) == (
        "the sandbox has rlimits, unprivileged, namespaces, pids, scratch, seccomp and lacks private_root, landlock: "
        "programs can see which files and processes exist, read your files"
    )
    note = note_of([layer for layer in LAYERS if layer != "landlock"])
    assert str(note).endswith("lacks landlock: the other layers forbid the same")
    record = make_record("eager")
    figures = {"sandbox_note": note}
    record.benchmarks.append(with_changes(record.benchmarks[0], benchmark="code", figures=figures))
    assert f"eager: {note}" in foot(rows([result(record)]))


def test_without_a_scratch_file_system_nothing_is_written(outside: Outside) -> None:
    with Pool(1, LIMITS, without=("namespaces", "landlock")) as pool:
        for attack in HOSTILE[:5]:
            verdict = pool.submit(program(outside.fill(attack.code))).result(timeout=60)
            assert verdict.status in attack.ends, (attack.name, verdict)
    assert (outside.folder / "victim.txt").read_text() == "secret"


def test_programs_may_write_in_their_scratch_folder(pool: Pool) -> None:
    if "scratch" not in pool.level:
        pytest.skip("this host gives no file system of its own")
    code = "open('a.txt', 'w').write('7')\ndef f(x):\n    return x ** 3 if open('a.txt').read() == '7' else 0\n"
    assert pool.submit(program(code)).result(timeout=60).passed


def test_a_grader_that_dies_is_replaced() -> None:
    with Pool(1, LIMITS) as pool:
        hanging = program(HONEST, "import time\nwhile True:\n    time.sleep(1)\n")
        assert pool.submit(program(HONEST, "import os\nassert os._exit(3)\n")).result(timeout=60).status != "passed"
        assert pool.submit(program(HONEST)).result(timeout=60).passed
        assert pool.submit(hanging).result(timeout=60).status == "timeout"
        assert pool.submit(program(HONEST)).result(timeout=60).passed


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -7, 1 << 9000, 1.5, float("inf"), "a\ud800\n", [1, [2]], (1, ()), {1: (2,), "a": [3]}, {1, 2},
     frozenset({3}), b"\x00\xff", 2 + 3j, range(1, 9, 2), int],
)  # fmt: skip
def test_plain_values_are_restored(value: object) -> None:
    found = values.loads(values.dumps(value))
    assert found == value
    assert type(found) is type(value)


def test_an_object_that_is_not_data_equals_nothing() -> None:
    found = values.loads(values.dumps(object()))
    assert found != found
    for text in ('{"z": 1}', '{"y": "open"}', '{"y": "__import__"}', "{}", '{"t": 1}'):
        with pytest.raises((ValueError, TypeError)):
            values.loads(text)


def test_a_test_is_split_into_checks() -> None:
    test = "import math\nr = make(1)\nassert f(2) == 8\nassert math.isclose(f(1), 1.0)\nassert f(r) == 5\n"
    test += "assert g(f(1)) > 2\n"
    checks = plan_checks(test, "f", False)
    assert [check.kind for check in checks] == ["inside", "inside", "call", "call", "value", "inside"]
    assert (checks[4].code, checks[4].expected) == ("f(r)", "5")
    assert verdict_is_inside(checks)
    assert not verdict_is_inside(checks[:5])


@pytest.mark.parametrize("ignoring", ["", "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"])
def test_an_endless_loop_is_a_timeout_and_not_a_crash(ignoring: str) -> None:
    with Pool(1, Limits(cpu_s=1, wall_s=40.0, memory_mib=256)) as pool:  # the processor's limit comes first
        verdict = pool.submit(program(f"{ignoring}while True: pass")).result(timeout=60)
    assert (verdict.status, verdict.reason) == ("timeout", "longer than 1 s of CPU time")


def test_verdicts_are_cached_by_content(tmp_path: Path, pool: Pool) -> None:
    cache = VerdictCache(tmp_path / "verdicts.sqlite", LIMITS)
    verdict = pool.submit(program(HONEST)).result(timeout=60)
    cache.keep([(program(HONEST), verdict)])
    assert cache.get(program(HONEST)) == verdict
    assert cache.get(program(HONEST + "\n")) is None
    assert cache.get(program(HONEST, TEST + "\n")) is None
    assert VerdictCache(tmp_path / "verdicts.sqlite", Limits()).get(program(HONEST)) is None
    late = pool.submit(program("while True: pass")).result(timeout=60)
    cache.keep([(program("while True: pass"), late)])
    assert cache.get(program("while True: pass")) is None, "a timeout may be the machine's fault"
    near = replace(verdict, cpu_s=0.9 * LIMITS.cpu_s)
    cache.keep([(program(HONEST + "\n# near"), near)])
    assert cache.get(program(HONEST + "\n# near")) is None, "a slower machine may say otherwise"
    assert VerdictCache(None, LIMITS).get(program(HONEST)) is None
    cache.close()


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_programs_run_in_bubblewrap() -> None:
    if os.geteuid() == 0:  # its user namespace has root alone
        with pytest.raises(UserError, match=r"this host lacks unprivileged.*: start it as a user other than root"):
            Pool(1, LIMITS, bubblewrap=True)
        return
    with Pool(1, LIMITS, bubblewrap=True) as pool:
        assert pool.submit(program(HONEST)).result(timeout=60).passed


def test_missing_bubblewrap_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="install bubblewrap"):
        Pool(1, bubblewrap=True)
