"""The program `runtime-matrix COMMAND …`; `python -m experiments COMMAND …` runs the same commands.

Commands are imported only when they are called, so that `--help` and completion start without importing torch.
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
    "serve": "serve a runtime behind the OpenAI API",
    "search": "search for the best configuration for a goal under constraints",
    "compare": "compare the speed, memory and outputs of two runtimes",
    "gate": "check runtimes against limits, for CI",
    "calibrate": "measure the noise of this machine: the smallest difference that it can detect",
    "proof": "measure the error rates of the gates with slowdowns of known size",
    "cache": "list and prune the stored graphs, engines and quantized weights",
    "report": "show the matrix of recorded cells as a page, a table or data",
    "explain": "name the cause of what is slower, larger or less accurate than the reference",
    "reproduce": "measure a record again, and test whether it is reproduced",
    "detect": "tell supported from unsupported answers by stored scores of attentions",
    "claims": "set what others claim beside what was measured",
    "advise": "name the best measured cell for a goal, and what to try next",
}
_COMPOSING = ("run", "search", "compare", "serve", "gate", "calibrate", "proof")  # commands that take Hydra's overrides
_COMPLETION = """\
# bash: eval "$(runtime-matrix --completion)"; zsh: autoload -U +X bashcompinit && bashcompinit first
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -C 'runtime-matrix --complete' runtime-matrix"""


def main() -> int:
    """Run the command that the first word names and return its exit code; 2 for a user's mistake."""
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
    commands = "\n".join(f"  {name:10} {summary}" for name, summary in COMMANDS.items())
    return as_typed(
        f"usage: {start} …\n\n{commands}\n\n{start} --help describes a command; --version prints the version;\n"
        "--completion prints the shell code that completes commands, options and values.\n"
        "To start: python -m experiments.run"
    )


def _candidates(line: str) -> Iterator[str]:
    """Yield the completions of an unfinished line, in the format that bash's `complete -C` reads."""
    words = line.split(" ")[1:]
    if len(words) <= 1:
        yield from (f"{name} " for name in COMMANDS if name.startswith("".join(words)))
    elif words[0] in _COMPOSING:
        yield from (word for word in _overrides(" ".join(words[1:])) if word.startswith(words[-1]))


def _overrides(line: str) -> list[str]:
    """Return the completions of a line of overrides from Hydra's own bash completion."""
    from runtime_matrix.experiments import run

    os.environ["COMP_LINE"], sys.argv = f"{run.__name__} {line}", ["run", "--shell-completion", "query=bash"]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        run.main()
    return output.getvalue().split()


if __name__ == "__main__":
    sys.exit(main())
