"""The program `runtime-matrix COMMAND …`, also as `python -m experiments COMMAND …`: the same commands.

Only here are commands imported when they are called: `--help` and completion start without torch.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator

from runtime_matrix.experiments.cli.command import speaking, version_text
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.program import as_typed, command_line

COMMANDS = {
    "run": "measure a cell or a sweep",
    "compare": "two runtimes: faster, smaller, the same answers?",
    "gate": "judge runtimes by limits, for CI",
    "calibrate": "what this machine can tell apart",
    "proof": "how often the gates are wrong, with slowdowns of known size",
    "cache": "what is kept of graphs, engines and quantized weights",
    "report": "the matrix of recorded cells: a page, tables, data",
    "advise": "the best measured cell for a goal, and what to try next",
}
_COMPOSING = ("run", "compare", "gate", "calibrate", "proof")  # they take Hydra's overrides
_COMPLETION = """\
# bash: eval "$(runtime-matrix --completion)"; zsh: autoload -U +X bashcompinit && bashcompinit first
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -C 'runtime-matrix --complete' runtime-matrix"""


def main() -> int:
    """Hand the rest of the command line to the command."""
    return speaking(_main)


def _main() -> int:
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    texts: dict[str, Callable[[], str]] = {"-h": _help, "--help": _help, "--version": version_text}
    texts["--completion"] = lambda: _COMPLETION
    if word in texts:
        print(texts[word]())
        return 0
    if word == "--complete":
        print("\n".join(_candidates(os.environ.get("COMP_LINE", ""))))
        return 0
    if word not in COMMANDS:
        raise UserError(f"{word} is not a command{did_you_mean(word, COMMANDS)}")
    del sys.argv[1]
    command: Callable[[], int] = importlib.import_module(f"runtime_matrix.experiments.{word}").main
    return command()


def _help() -> str:
    start = command_line("COMMAND")
    commands = "\n".join(f"  {name:10} {what}" for name, what in COMMANDS.items())
    return as_typed(
        f"usage: {start} …\n\n{commands}\n\n{start} --help says more; --version; --completion prints what a shell "
        "reads to complete commands, options and their values.\nThe first ten minutes: python -m experiments.run"
    )


def _candidates(line: str) -> Iterator[str]:
    """Yield the words that may stand at the end of an unfinished line, as `complete -C` of bash wants them."""
    words = line.split(" ")[1:]
    if len(words) <= 1:
        yield from (f"{name} " for name in COMMANDS if name.startswith("".join(words)))
    elif words[0] in _COMPOSING:
        yield from (word for word in _overrides(" ".join(words[1:])) if word.startswith(words[-1]))


def _overrides(line: str) -> list[str]:
    """Return what Hydra's own completion of bash says of a line of overrides."""
    from runtime_matrix.experiments import run

    os.environ["COMP_LINE"], sys.argv = f"{run.__name__} {line}", ["run", "--shell-completion", "query=bash"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        run.main()
    return printed.getvalue().split()


if __name__ == "__main__":
    sys.exit(main())
