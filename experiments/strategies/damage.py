"""Seeded damage of solutions, as models and their chat formats do it: what `repair_syntax` is proven on."""

from __future__ import annotations

import io
import random
import re
import tokenize
from collections.abc import Callable

_PROSE = (
    "This function works because each step is applied in order.\n",
    "Note: it doesn't change its argument.\n",
    "I hope this helps! Let me know if you'd like an explanation.\n",
)


def damaged(solution: str, seed: int) -> tuple[str, str]:
    """Return the kind of damage and the damaged solution; the seed draws among the kinds that change it."""
    rng = random.Random(f"{seed}/damage")
    kinds = {kind: damage(solution, rng) for kind, damage in DAMAGES.items()}
    return rng.choice([(kind, text) for kind, text in kinds.items() if text is not None])


def _truncated(solution: str, rng: random.Random) -> str | None:
    """End the text at a token of its second half, as a limit of new tokens does."""
    ends = [match.end() for match in re.finditer(r"\w+|[^\w\s]", solution)]
    return solution[: rng.choice(ends[len(ends) // 2 : -1])] if len(ends) > 3 else None


def _fenced(solution: str, rng: random.Random) -> str | None:
    """Put it into Markdown, with prose around it."""
    return f"Here is the solution:\n\n```python\n{solution.rstrip()}\n```\n\n{rng.choice(_PROSE)}"


def _fence_closed(solution: str, rng: random.Random) -> str | None:
    """Close a fence behind it, and go on in prose."""
    return f"{solution.rstrip()}\n```\n\n{rng.choice(_PROSE)}"


def _first_line_moved(solution: str, rng: random.Random) -> str | None:
    """Take the first line's indentation away, or add to it."""
    lines = solution.splitlines(keepends=True)
    if len(lines) < 2 or not lines[0].startswith(" "):
        return None
    return "".join([rng.choice([lines[0].lstrip(), f"  {lines[0]}"]), *lines[1:]])


def _dedented(solution: str, rng: random.Random) -> str | None:
    """Take the body's indentation away, from all lines or from all but the first."""
    if not solution.startswith("    "):
        return None
    first, *rest = solution.splitlines(keepends=True)
    keeps_first = len(rest) > 0 and rng.random() < 0.5
    return "".join(
        [first if keeps_first else first.removeprefix("    "), *(line.removeprefix("    ") for line in rest)]
    )


def _without_colon(solution: str, rng: random.Random) -> str | None:
    """Leave out the colon of a compound statement."""
    colons = [
        match.start(1) for match in re.finditer(r"^\s*(?:if|elif|else|for|while|def)\b.*(:)[ \t]*$", solution, re.M)
    ]
    return _without(solution, colons, rng)


def _without_bracket(solution: str, rng: random.Random) -> str | None:
    """Leave out a closing bracket."""
    return _without(solution, _closing_brackets(solution), rng)


def _with_prose(solution: str, rng: random.Random) -> str | None:
    """Explain it behind it."""
    return f"{solution.rstrip()}\n\n{rng.choice(_PROSE)}"


def _without(text: str, places: list[int], rng: random.Random) -> str | None:
    if not places:
        return None
    at = rng.choice(places)
    return text[:at] + text[at + 1 :]


def _closing_brackets(solution: str) -> list[int]:
    """Return where closing brackets stand that are no part of a text or comment."""
    starts = [0]
    for line in solution.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(solution).readline))
    except (tokenize.TokenError, IndentationError):
        return []
    return [starts[token.start[0] - 1] + token.start[1] for token in tokens if token.string in (")", "]", "}")]


DAMAGES: dict[str, Callable[[str, random.Random], str | None]] = {
    "truncated": _truncated,
    "fenced": _fenced,
    "closed fence": _fence_closed,
    "first line moved": _first_line_moved,
    "dedented": _dedented,
    "missing colon": _without_colon,
    "missing bracket": _without_bracket,
    "trailing prose": _with_prose,
}  # by kind; None where a solution has nothing to damage
