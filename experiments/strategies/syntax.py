"""Makes a completion parse, by Python's own parser. It never runs a program and never sees a test."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[\w+-]*[ \t]*$", re.MULTILINE)
_MOST_FIXES = 12  # of one completion; what needs more is prose
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def is_valid(program: str) -> bool:
    """Return whether Python compiles the program."""
    return _error(program) is None


def repaired(code: str, head: str) -> str:
    """Return the completion so that head and completion are valid Python, or unchanged where they are, or cannot be.

    Tried in turn: taking out Markdown and the prose around it, indenting anew, closing brackets and quotes, and adding
    colons. Where this does not suffice, the rest behind the last statement that is valid is cut off.
    """
    if is_valid(head + code):
        return code
    candidates = [variant for text in _unfenced(code) for variant in _indented(text, head)]
    fixed = [_fixed(text, head) for text in candidates]
    for text in fixed:
        if is_valid(head + text) and _says_something(text):
            return text
    cut = [kept for text in (*candidates, *fixed) if (kept := _cut(text, head))]
    return max(cut, key=lambda text: len(text.split()), default=code)


def _unfenced(code: str) -> Iterator[str]:
    """Yield what stands within, or before, Markdown's fences; without fences the text itself."""
    fences = list(_FENCE.finditer(code))
    if not fences:
        yield code
        return
    before = code[: fences[0].start()]
    if len(fences) == 1 and _says_something(before) and not before.lstrip()[:1].isupper():
        yield before  # the opening fence was in the prompt
    for opening, closing in zip(fences, [*fences[1:], None], strict=True):
        within = code[opening.end() : closing.start() if closing else len(code)].strip("\n")
        if _says_something(within):
            yield f"{within}\n"
    yield before


def _indented(text: str, head: str) -> Iterator[str]:
    """Yield the text, and the text with its first line, or all lines, indented as the head goes on."""
    yield text
    text = text.expandtabs(4)
    base = _base(head)
    lines = text.splitlines()
    first = next((at for at, line in enumerate(lines) if line.strip()), None)
    if first is None:
        return
    rest = [line for line in lines[first + 1 :] if line.strip()]
    nearest = min((_depth(line) for line in rest), default=base)
    start = f"{'':{base}}{lines[first].strip()}"
    for shift in dict.fromkeys((0, base - nearest, base - _depth(lines[first]))):
        yield _text([*lines[:first], start, *(_shifted(line, shift) for line in lines[first + 1 :])])
    yield _text([*lines[:first], *(_shifted(line, base - _depth(lines[first])) for line in lines[first:])])


def _fixed(text: str, head: str) -> str:
    """Return the text with brackets and quotes closed and colons added, as far as the parser asks for them."""
    before = head.count("\n")
    for _ in range(_MOST_FIXES):
        error = _error(head + text)
        lines = text.splitlines()
        if error is None or error.lineno is None or not before < error.lineno <= before + len(lines):
            return text
        at = error.lineno - before - 1
        line = _fixed_line(lines[at], error.msg, (error.offset or 1) - 1)
        if line is None:
            return text
        text = _text([*lines[:at], line, *lines[at + 1 :]])
    return text


def _fixed_line(line: str, message: str, offset: int) -> str | None:
    """Return the line with what the message says is missing; None for another mistake."""
    if message == "expected ':'":
        return f"{line.rstrip()}:"
    if message.startswith(("unterminated string", "unterminated triple-quoted")):
        return line.rstrip() + line[offset]
    if message.startswith(("unmatched", "closing parenthesis")):
        return line[:offset] + line[offset + 1 :]
    closed = _closed(line)  # of an open bracket the parser says so, or no more than "invalid syntax"
    return closed if closed != line.rstrip() else None


def _closed(line: str) -> str:
    """Return the line with its open brackets closed; before a colon that ends it."""
    waiting: list[str] = []
    quote = ""
    for letter in line:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in _PAIRS:
            waiting.append(_PAIRS[letter])
        elif waiting and letter == waiting[-1]:
            waiting.pop()
    closing = "".join(reversed(waiting))
    line = line.rstrip()
    is_block = line.endswith(":") and re.match(r"\s*(?:if|elif|for|while|def|with)\b", line)
    return f"{line[:-1]}{closing}:" if is_block else line + closing


def _cut(text: str, head: str) -> str:
    """Return the longest beginning, in lines, that is valid; empty if none says something."""
    lines = text.splitlines()
    for end in range(len(lines), 0, -1):
        kept = _text(lines[:end])
        if _says_something(kept) and is_valid(head + kept):
            return kept
    return ""


def _says_something(text: str) -> bool:
    return any(line.strip() and not line.strip().startswith("#") for line in text.splitlines())


def _base(head: str) -> int:
    """Return the indentation at which a completion of the head begins."""
    lines = [line for line in head.splitlines() if line.strip()]
    if not lines:
        return 0
    return _depth(lines[-1]) + (4 if lines[-1].rstrip().endswith(":") else 0)


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _shifted(line: str, columns: int) -> str:
    return f"{'':{max(0, _depth(line) + columns)}}{line.lstrip()}" if line.strip() else line


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _error(program: str) -> SyntaxError | None:
    """Return why Python does not compile the program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # programs may have invalid escape sequences
        try:
            compile(program, "<program>", "exec", dont_inherit=True)  # it is not run
        except SyntaxError as error:
            return error
        except (ValueError, RecursionError, MemoryError, OverflowError) as error:  # zero bytes, or too deep
            return SyntaxError(str(error))
    return None
