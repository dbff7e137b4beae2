"""Expected outputs: what reference solutions return in the sandbox, cached by content."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.evaluation.kept_texts import KeptTexts
from runtime_matrix.experiments.sandbox import values
from runtime_matrix.experiments.sandbox.cases import Cases, Suite
from runtime_matrix.experiments.sandbox.outputs import Output, Outputs
from runtime_matrix.experiments.sandbox.pool import Pool

_VERSION = 1  # raise it when the outputs of references change
_WALL_S = 600.0  # some outputs have megabytes, which take long to read on a busy machine
_Kept = tuple[str, bool]  # text and `is_digest` of an output
_Runs = tuple[Future[Outputs], Future[Outputs] | None]  # of the reference, and of what raises for invalid inputs


class ReferenceOutputs:
    """One SQLite file, safe for several processes. With `path` None nothing is stored."""

    def __init__(self, path: Path | None, pool: Pool):
        self._pool = pool
        self._limits = replace(pool.limits, wall_s=max(pool.limits.wall_s, _WALL_S))
        self._kept = KeptTexts(path, "expected")

    @property
    def note(self) -> str | None:
        """What was wrong with the file; None if nothing was."""
        return self._kept.note

    def close(self) -> None:
        """Close the file; later calls read and store nothing."""
        self._kept.close()

    def cases(self, suites: Sequence[Suite]) -> list[Cases]:
        """Return the cases of each suite; UserError if a reference does not answer an input."""
        keys = [f"{_VERSION}/{suite.digest}" for suite in suites]
        kept = self._kept.get(keys)
        runs = {key: self._start(suite) for key, suite in zip(keys, suites, strict=True) if key not in kept}
        for key, suite in zip(keys, suites, strict=True):
            if key in runs:
                kept[key] = json.dumps(_expected(suite, *runs[key]))
                self._kept.put([(key, kept[key])])
        return [_cases(suite, json.loads(kept[key])) for key, suite in zip(keys, suites, strict=True)]

    def _start(self, suite: Suite) -> _Runs:
        base, plus = ([values.loads(arguments) for arguments in part] for part in (suite.base, suite.plus))
        run = self._pool.outputs(suite.reference, suite.entry_point, [*base, *plus], self._limits)
        if suite.validity is None:
            return run, None
        return run, self._pool.outputs(suite.validity, suite.entry_point, plus, self._limits)


def _expected(suite: Suite, run: Future[Outputs], check: Future[Outputs] | None) -> list[_Kept | None]:
    """Return the outputs to store, None for added inputs that break the contract. UserError for a missing output."""
    outputs, is_valid = run.result(), _validity(suite, check.result()) if check is not None else None
    count = len(suite.base) + len(suite.plus)
    kept: list[_Kept | None] = []
    for number in range(count):
        if is_valid is not None and not is_valid[number]:
            kept.append(None)
            continue
        output = outputs.outputs[number] if number < len(outputs.outputs) else None
        trouble = _trouble(suite, output, outputs)
        if output is None or trouble:
            raise UserError(
                f"{suite.name} cannot be scored: its reference solution gives no output for input {number} of {count} "
                f"({trouble}); give a file whose reference solutions are right"
            )
        kept.append((output.text, output.is_digest))
    return kept


def _validity(suite: Suite, checked: Outputs) -> list[bool]:
    if not checked.is_complete:
        raise UserError(f"{suite.name} cannot be scored: its contract ends as {checked.status} ({checked.reason})")
    return [True] * len(suite.base) + [not output.is_error for output in checked.outputs]


def _trouble(suite: Suite, output: Output | None, outputs: Outputs) -> str:
    """Return why the output of a reference cannot be compared with others; empty if it can."""
    if output is None:
        return f"{outputs.status}: {outputs.reason}"
    if output.is_error:
        return output.text
    if not output.is_digest and suite.oracle != "not_none" and not values.is_plain(output.value):
        return "not plain data"
    return ""


def _cases(suite: Suite, kept: Sequence[_Kept | None]) -> Cases:
    inputs = [*suite.base, *suite.plus]
    valid = [number for number, output in enumerate(kept) if output is not None]
    return Cases(
        inputs=tuple(inputs[number] for number in valid),
        expected=tuple(Output(text, is_digest=is_digest) for text, is_digest in filter(None, kept)),
        base=sum(number < len(suite.base) for number in valid),
        atol=suite.atol,
        oracle=suite.oracle,
        skipped=len(kept) - len(valid),
    )
