"""lm-evaluation-harness with the model `runtime_matrix`: its tasks on every runtime, through our evaluation core.

  python -m runtime_matrix.lm_eval --model_args runtime=onnxruntime,model_path=DIR --tasks hellaswag --num_fewshot 5
  python -m runtime_matrix.lm_eval --model_args runtime=eager,dtype=bfloat16,runtime/weights=w8a8 --tasks …
  python -m runtime_matrix.lm_eval ls tasks

All other options are lm-eval's own. model_args:

  runtime          a preset of conf/runtime (default: eager)
  model_path       folder in the layout of Hugging Face (default: the bundled model)
  dtype, threads, weights, placement
  max_length       tokens of a row, at most the model's; longer contexts are truncated on the left
  max_gen_toks     length of texts where the task sets none (default: 256)
  add_bos_token, prefix_token_id, think_end_token, enable_thinking, chat_template_args: as for lm-eval's `hf`
  GROUP.KEY        any option of `python -m experiments.run`, such as scoring.token_budget

--batch_size has no effect: batches follow scoring.token_budget.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime_matrix.experiments.cli.command import speaking
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.runtimes.base import Unsupported

if TYPE_CHECKING:
    from runtime_matrix.experiments.api.harness import RuntimeMatrixLM

_COMMANDS = ("run", "ls", "validate")


def main() -> int:
    """Run lm-eval's command line; return 2 for a user's mistake, 3 if this machine cannot run the runtime."""
    return speaking(_main)


def _main() -> int:
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    try:
        from lm_eval._cli.harness import HarnessCLI
        from lm_eval.utils import setup_logging
    except ImportError as error:
        raise UserError(f"lm-eval is missing ({error}): pip install 'runtime-matrix[lm-eval]'") from error
    from runtime_matrix.experiments.api import harness

    if words[0] not in _COMMANDS:
        words = ["run", *words]
    if words[0] == "run" and not {"-M", "--model", "-h", "--help"} & set(words):
        words += ["--model", harness.NAME]
    setup_logging()
    before, sys.argv = sys.argv, ["lm-eval", *words]  # its parser reads nothing else
    try:
        command = HarnessCLI()
        arguments = command.parse_args()
        return _in_one_line(lambda: command.execute(arguments), arguments)
    finally:
        sys.argv = before


def _in_one_line(work: Callable[[], None], arguments: object) -> int:
    from runtime_matrix.experiments.harness.loading import explain

    try:
        work()
    except Unsupported as error:
        print(f"unsupported: {error}", file=sys.stderr)
        return 3
    except Exception as error:
        mistake = explain(error, ", ".join(getattr(arguments, "tasks", None) or ["--tasks"]))
        if mistake is None:
            raise
        raise mistake from error
    return 0


def __getattr__(name: str) -> type[RuntimeMatrixLM]:
    """Import the model when it is asked for: it brings torch and lm-eval."""
    if name != "RuntimeMatrixLM":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from runtime_matrix.experiments.api.harness import RuntimeMatrixLM

    return RuntimeMatrixLM


if __name__ == "__main__":
    sys.exit(main())
