from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from runtime_matrix.experiments.sandbox import values
from runtime_matrix.experiments.sandbox.layers import Limits
from runtime_matrix.experiments.sandbox.outputs import Output, Outputs
from runtime_matrix.experiments.sandbox.pool import Pool

LIMITS = Limits(cpu_s=1, wall_s=30.0, memory_mib=256)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1, LIMITS) as made:
        yield made


def outputs(pool: Pool, code: str, inputs: Sequence[Sequence[object]]) -> Outputs:
    return pool.outputs(code, "f", inputs).result(timeout=60)


def texts(result: Outputs) -> list[str]:
    return [output.text for output in result.outputs]


def test_outputs_come_in_the_order_of_the_inputs(pool: Pool) -> None:
    result = outputs(pool, "def f(x, y=1):\n    return (x, y)\n", [(1,), ("a", {2: [3]}), ({1, 2}, None)])
    assert [output.value for output in result.outputs] == [(1, 1), ("a", {2: [3]}), ({1, 2}, None)]
    assert (result.status, result.reason, result.is_complete) == ("finished", "", True)
    assert result.cpu_s is not None
    assert 0 < result.cpu_s < result.wall_s < LIMITS.wall_s


def test_an_exception_ends_its_call_only(pool: Pool) -> None:
    code = "class Own(Exception): pass\ndef f(x):\n    if x > 2: raise Own()\n    return 6 // x\n"
    result = outputs(pool, code, [(0,), (2,), (3,), ("a",), (), (1,)])
    assert texts(result) == ["ZeroDivisionError", "3", "Exception", "TypeError", "TypeError", "6"]
    assert [output.is_error for output in result.outputs] == [True, False, True, True, True, False]
    assert result.is_complete
    with pytest.raises(ValueError, match="the call raised ZeroDivisionError"):
        _ = result.outputs[0].value


def test_a_call_cannot_change_the_next_input(pool: Pool) -> None:
    shared = [1, 2]
    result = outputs(pool, "def f(x):\n    x.append(3)\n    return x\n", [(shared,), (shared,)])
    assert [output.value for output in result.outputs] == [[1, 2, 3]] * 2
    assert shared == [1, 2]


def test_calls_of_one_program_share_its_state(pool: Pool) -> None:
    result = outputs(pool, "seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)\n", [(0,), (0,), (0,)])
    assert texts(result) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("one", "other"),
    [("{9, 1, 17}", "{17, 9, 1}"), ("{1: {2, 10}, 'a': 0}", "{'a': 0, 1: {10, 2}}"), ("float('nan')", "-float('nan')")],
)
def test_equal_values_have_equal_texts(pool: Pool, one: str, other: str) -> None:
    first, second = (outputs(pool, f"def f():\n    return {code}\n", [()]).outputs for code in (one, other))
    assert first == second
    assert len({*first, *second}) == 1


def test_values_of_other_types_have_other_texts() -> None:
    kinds = [1, 1.0, True, "1", [1], (1,), {1}, {1: 1}, None]
    assert len({values.canonical(value) for value in kinds}) == len(kinds)


def test_an_object_that_is_not_data_stays_opaque(pool: Pool) -> None:
    (output,) = outputs(pool, "def f():\n    return object()\n", [()]).outputs
    assert isinstance(output.value, values.Opaque)


# Writes to the connection with the grader, whichever file it is.
FORGE = """import os
def forge(line):
    for file in range(3, 32):
        try:
            os.write(file, line)
        except OSError:
            pass
"""


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("os._exit(0)", "crash", "the program ended without an answer"),
        ("while True: pass", "timeout", "longer than 1 s of CPU time"),
        ("return 'a' * (20 << 20)", "failed", "the answer is too long"),
        ("forge(b'no JSON\\n')", "failed", "the program's answer is malformed"),
        ("forge(b'[]\\n')", "failed", "the program's answer is malformed"),
        ('forge(b\'{"ok": {"t": 1}}\\n\')', "failed", "the program's answer is malformed"),
        ("forge(b'{\"ok\": ' + b'[' * 10 ** 5 + b'\\n')", "failed", "the program's answer is malformed"),
    ],
)
def test_the_inputs_before_a_bad_end_are_answered(pool: Pool, body: str, status: str, reason: str) -> None:
    code = f"{FORGE}def f(x):\n    if x < 2: return x\n    {body}\n"
    result = outputs(pool, code, [(0,), (1,), (2,), (3,)])
    assert (result.status, result.reason, texts(result)) == (status, reason, ["0", "1"])
    assert not result.is_complete
    assert texts(outputs(pool, "def f(x):\n    return x\n", [(7,)])) == ["7"]


def test_a_program_that_waits_is_a_timeout() -> None:
    with Pool(1, replace(LIMITS, wall_s=1.0)) as pool:
        result = outputs(pool, "import time\ndef f(x):\n    time.sleep(60 * x)\n", [(0,), (1,)])
    assert (result.status, result.reason, texts(result)) == ("timeout", "longer than the wall limit", ["null"])


def test_the_outputs_of_all_inputs_have_a_limit(pool: Pool) -> None:
    result = outputs(pool, "def f():\n    return 'a' * (1 << 15)\n", [()] * 600)
    assert (result.status, result.reason, len(result.outputs)) == ("failed", "the outputs are too long", 511)


def test_long_outputs_are_digests_that_can_be_compared(pool: Pool) -> None:
    code = "def f(x):\n    return [x] * 50_000\n"
    one, same, other = outputs(pool, code, [(1,), (1.0,), (2,)]).outputs
    assert one.is_digest
    assert one.key == same.key != other.key
    with pytest.raises(ValueError, match="too long to keep"):
        _ = one.value


def test_keys_are_equal_where_python_says_so() -> None:
    equal: list[list[object]] = [
        [1, 1.0, True, 1 + 0j],
        [{1: 0}, {1.0: False}],
        [{1, 2}, frozenset({2.0, True})],
        [[0.0], [-0.0]],
        [[()]],
    ]
    for kind in equal:
        assert len({values.key(value) for value in kind}) == 1, kind
    assert len({values.key(kind[0]) for kind in equal}) == len(equal)
    assert values.key([1]) != values.key((1,))
    assert values.key(0.5) != values.key(0)
    assert Output("ValueError", is_error=True).key != Output('"ValueError"').key


@pytest.mark.parametrize("code", ["def f(:\n", "raise KeyError('no')\n", "import numpy\n"])
def test_a_program_that_does_not_load_has_no_output(pool: Pool, code: str) -> None:
    result = outputs(pool, code, [(1,)])
    assert (result.status, result.outputs) == ("failed", ())
    assert result.reason.partition(":")[0] in ("SyntaxError", "KeyError", "ModuleNotFoundError")


def test_a_missing_function_is_an_error_of_each_call(pool: Pool) -> None:
    assert outputs(pool, "g = 1\n", [(1,), (2,)]).outputs == (Output("KeyError", is_error=True),) * 2
