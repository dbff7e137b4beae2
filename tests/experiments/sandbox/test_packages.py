"""Packages that programs may import, and nothing else of the environment."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.sandbox.layers import Limits
from runtime_matrix.experiments.sandbox.packages import copy_to, find
from runtime_matrix.experiments.sandbox.pool import LAYERS, Pool
from runtime_matrix.experiments.sandbox.program import Program
from runtime_matrix.experiments.sandbox.verdicts import VerdictCache
from tests.experiments.sandbox.hostile import EXHAUSTION, HONEST, HOSTILE, TEST, Attack
from tests.experiments.sandbox.test_sandbox import Outside, outside

__all__ = ["outside"]  # a fixture
MIB = 512
LIMITS = Limits(cpu_s=2, wall_s=20.0, memory_mib=MIB)
VERSION = importlib.metadata.version("numpy")


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1, LIMITS, packages=["numpy"]) as made:
        yield made


def judged(pool: Pool, code: str, test: str, calls_check: bool = False) -> tuple[str, str]:
    verdict = pool.submit(Program(code, test, "f", calls_check)).result(timeout=60)
    return verdict.status, verdict.reason


ARRAYS = """
import numpy as np

def check(f):
    assert f([1, 2]).dtype == np.int64 and (f([1, 2]) == np.array([2, 4])).all()
    assert f(np.array([[0.5]]))[0, 0] == 1
    np.testing.assert_allclose(f([0.1]), [0.2], rtol=1e-12)
"""


def test_programs_and_tests_use_the_package_and_exchange_arrays(pool: Pool) -> None:
    right = "import numpy as np\ndef f(x):\n    return np.array(x) * 2\n"
    assert judged(pool, right, ARRAYS, True) == ("passed", "")
    assert judged(pool, right.replace("* 2", "* 3"), ARRAYS, True)[0] == "failed"
    scalar = "import numpy as np\ndef f(x):\n    return [np.sum(x), np.float32(0.5), np.bool_(x)]\n"
    assert judged(pool, scalar, "assert f([1, 2]) == [3, 0.5, True]\n")[0] == "failed", "bool of two items"
    assert judged(pool, scalar, "assert f([2]) == [2, 0.5, True]\n")[0] == "passed"
    assert (
        judged(pool, "import numpy as np\ndef f(x):\n    return np.longdouble(1)\n", "assert f(1) == 1")[0] == "failed"
    )


def test_no_program_pays_for_the_import(pool: Pool) -> None:
    code = "import sys\nloaded = 'numpy' in sys.modules\ndef f(x):\n    return loaded\n"
    assert judged(pool, code, "assert f(1) == True\n") == ("passed", "")


def test_the_limits_hold_with_the_package(pool: Pool) -> None:
    half = f"import numpy as np\nx = np.empty({MIB} << 16)\ndef f(x):\n    return 1\n"  # eight bytes each
    assert judged(pool, half, "assert f(1) == 1\n") == ("passed", "")
    status, reason = judged(pool, half.replace("<< 16", "<< 17"), "assert f(1) == 1\n")
    assert (status, reason[:18]) == ("failed", "Exception: Unable ")
    assert judged(pool, "import numpy as np\nwhile True:\n    np.ones(9).sum()\n", TEST)[0] == "timeout"


@pytest.mark.parametrize("name", ["torch", "hydra", "yaml", "runtime_matrix", "experiments", "packaging", "pip"])
def test_nothing_else_can_be_imported(pool: Pool, name: str) -> None:
    status, reason = judged(pool, f"import {name}\n", TEST)
    assert (status, reason) == ("failed", f"ModuleNotFoundError: No module named '{name}'")


@pytest.mark.parametrize(
    "code",
    [
        "import numpy as np\nopen(np.__file__, 'a')",
        "import numpy as np, os\nos.listdir(np.__file__ + '/../../../..')",
        "import numpy as np\nnp.fromfile('{answers}', dtype='u1')",
        "import numpy as np\nnp.memmap('{folder}/victim.txt', dtype='u1', mode='r')",
        "import numpy as np\nnp.save('{folder}/new.npy', np.ones(1))",
        "import numpy.f2py\nassert numpy.f2py.compile('end', modulename='m') == 0",
        "import numpy.ctypeslib, ctypes\nassert ctypes.CDLL(None).system(b'true') == 0",
        "import importlib.metadata as m\nassert len([d.name for d in m.distributions()]) > 1",
    ],
)
def test_the_package_reads_and_writes_nothing_outside(pool: Pool, outside: Outside, code: str) -> None:
    status, _ = judged(pool, outside.fill(code), "")
    assert status in ("failed", "crash")
    assert [path.name for path in outside.folder.iterdir()] == ["victim.txt"]


@pytest.mark.parametrize("attack", [attack for attack in HOSTILE if attack not in EXHAUSTION], ids=lambda a: a.name)
def test_attacks_are_contained_with_a_package(attack: Attack, pool: Pool, outside: Outside) -> None:
    verdict = pool.submit(Program(outside.fill(attack.code), TEST, "f", False)).result(timeout=60)
    assert verdict.status in attack.ends, verdict
    assert (outside.folder / "victim.txt").read_text() == "secret"
    assert judged(pool, HONEST, TEST)[0] == "passed"


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["namespaces", "private_root", "landlock", "unprivileged"])
def test_without_one_layer_nothing_else_can_be_imported(layer: str) -> None:
    with Pool(1, LIMITS, allow_unsafe=True, without=(layer,), packages=["numpy"]) as pool:
        assert layer in LAYERS
        assert layer not in pool.level
        for name in ("torch", "yaml", "runtime_matrix"):
            assert judged(pool, f"import {name}\n", TEST)[0] == "failed"
        assert judged(pool, f"import numpy\n{HONEST}", TEST)[0] == "passed"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["../numpy"], "is no import name; give names such as numpy"),
        (["numpy.linalg"], "is no import name"),
        (["nowhere"], "'nowhere' is not installed"),
        (["json"], "one of Python's own modules"),
        (["scipy"], r"packages=\[scipy\]: scipy needs numpy, which is not named; add it"),
        (["runtime_matrix"], "is not installed in this environment as a package of its own"),
    ],
)
def test_packages_that_cannot_be_shown_are_refused(names: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        find(names)


def test_only_the_files_of_the_package_are_copied(tmp_path: Path) -> None:
    copy_to(find(["numpy"]), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"numpy"} <= names <= {"numpy", "numpy.libs", f"numpy-{VERSION}.dist-info"}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")} == {0o755, 0o644}


def test_other_versions_are_other_verdicts(pool: Pool, tmp_path: Path) -> None:
    assert pool.versions == [f"numpy {VERSION}"]
    program = Program(HONEST, TEST, "f", False)
    verdict = pool.submit(program).result(timeout=60)
    cache = VerdictCache(tmp_path / "verdicts.sqlite", LIMITS, versions=pool.versions)
    cache.keep([(program, verdict)])
    assert cache.get(program) == verdict
    for versions in ([], ["numpy 1.0"]):
        assert VerdictCache(tmp_path / "verdicts.sqlite", LIMITS, versions=versions).get(program) is None
