"""Further inputs of a function, made from known ones by type-aware mutation (Liu et al. 2023, arXiv 2305.01210,
section 3.2)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

_TRIES = 40  # per input that is wanted: some mutations give what is known
_MOST_ITEMS = 64  # of a collection, and characters of a text: a list that is repeated must not grow without end
_BORROWED = 0.2  # share of mutations of a number or text that take a value found elsewhere in the inputs


def mutated(inputs: Sequence[tuple[object, ...]], count: int, seed: int) -> list[tuple[object, ...]]:
    """Return up to `count` new inputs; each argument has the type that it has in the input that it comes from.

    Fewer come back where mutation finds no more. Equal arguments give equal inputs, on any machine.
    """
    rng, pool, new = random.Random(f"{seed}/inputs"), list(inputs), list[tuple[object, ...]]()
    known = {_key(arguments) for arguments in pool}
    mutation = _Mutation(rng, pool)
    for _ in range(_TRIES * count):
        if len(new) == count or not pool:
            break
        given = rng.choice(pool)
        at = rng.randrange(len(given)) if given else 0
        changed = tuple(mutation.of(value) if index == at else value for index, value in enumerate(given))
        if (key := _key(changed)) not in known:
            known.add(key)
            pool.append(changed)
            new.append(changed)
    return new


class _Mutation:
    """Changes of one value, by its type; a value of another type stays as it is."""

    def __init__(self, rng: random.Random, inputs: Sequence[tuple[object, ...]]):
        self._rng = rng
        self._found: dict[type, list[object]] = {}
        for value in inputs:
            self._collect(value)
        self._by_type: dict[type, Callable[..., object]] = {
            bool: lambda value: not value,
            int: lambda value: value + rng.choice((-1, 1)),
            float: lambda value: value + rng.choice((-1.0, 1.0)),
            str: self._text,
            list: self._items,
            tuple: lambda value: tuple(self._items(list(value))),
            set: lambda value: set(self._items(sorted(value, key=_key))),
            frozenset: lambda value: frozenset(self._items(sorted(value, key=_key))),
            dict: self._entries,
        }

    def of(self, value: object) -> object:
        """Return a changed value of the same type."""
        found = self._found.get(type(value))
        if found and self._rng.random() < _BORROWED:
            return self._rng.choice(found)
        change = self._by_type.get(type(value))
        return change(value) if change else value

    def _collect(self, value: object) -> None:
        """Keep the numbers and texts within a value, in an order that does not depend on hashes."""
        if isinstance(value, dict):
            value = [*value, *value.values()]
        if isinstance(value, set | frozenset):
            value = sorted(value, key=_key)
        if isinstance(value, list | tuple):
            for item in value:
                self._collect(item)
        elif type(value) in (int, float, str):
            self._found.setdefault(type(value), []).append(value)

    def _text(self, text: str) -> str:
        """Cut a part out, repeat it, or replace it."""
        first, last = sorted((self._rng.randint(0, len(text)), self._rng.randint(0, len(text))))
        part = text[first:last] or text[first : first + 1]
        rest = text[first + len(part) :]
        ways = [text[:first] + rest, text[:first] + part + part + rest]
        if part:
            ways.append(text[:first] + self._letter(part[0]) + part[1:] + rest)
        return self._rng.choice(ways)[:_MOST_ITEMS]

    def _letter(self, letter: str) -> str:
        """Return another letter of its kind: a digit for a digit, a capital for a capital; a space for another."""
        kinds = ("0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        return self._rng.choice(next((kind for kind in kinds if letter in kind), " "))

    def _items(self, items: list[object]) -> list[object]:
        """Drop an item, double it, or put a changed one beside it or in its place."""
        if not items:
            return items
        at = self._rng.randrange(len(items))
        changed = self.of(items[at])
        ways = [
            items[:at] + items[at + 1 :],
            [*items[: at + 1], *items[at:]],
            [*items[:at], changed, *items[at:]],
            [*items[:at], changed, *items[at + 1 :]],
        ]
        return self._rng.choice(ways)[:_MOST_ITEMS]

    def _entries(self, entries: dict[object, object]) -> dict[object, object]:
        """Drop an entry, change its value, or add a changed one."""
        if not entries:
            return entries
        key = self._rng.choice(list(entries))
        value = self.of(entries[key])
        ways = [{other: entries[other] for other in entries if other != key}, {**entries, key: value}]
        if len(entries) < _MOST_ITEMS:
            ways.append({**entries, self.of(key): value})
        return self._rng.choice(ways)


def _key(value: object) -> str:
    """Return a text that differs where values differ, in their types too: 1, 1.0 and True are three inputs."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}{sorted(map(_key, value))}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}{[_key(item) for item in value]}"
    if isinstance(value, dict):
        return f"dict{[(_key(key), _key(item)) for key, item in value.items()]}"
    return repr(value)
