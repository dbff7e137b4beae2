"""Which third-party packages the tests of programming problems import."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.problems.loading import Problem


def check_imports(path: Path, problems: Sequence[Problem], packages: Sequence[str]) -> None:
    """Raise UserError for a test that needs a package that the sandbox has not: every program would fail."""
    for problem in problems:
        for name in third_party(problem.test) if problem.language is None else ():
            if name not in packages:
                known = ",".join(sorted({*packages, name}))
                raise UserError(
                    f"{path}: the test of {problem.id} imports {name}, but the sandbox has only Python's own modules"
                    f"{'' if not packages else ' and ' + ', '.join(packages)}; set sandbox.packages=[{known}]"
                )


def third_party(code: str) -> list[str]:
    """Return the top-level names of the packages that code imports, without Python's own and relative ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the data's code may have invalid escape sequences
        tree = ast.parse(code)
    modules: list[str] = []
    for node in ast.walk(tree):
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
    names = dict.fromkeys(module.partition(".")[0] for module in modules)
    return [name for name in names if name not in sys.stdlib_module_names]
