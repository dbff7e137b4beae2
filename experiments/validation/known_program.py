"""A program of known speed and memory, for the proof of gates: `python -I -S known_program.py work=N [name=value …]`.

Its options slow it by a known amount. It imports little, so that its own work is most of its time.
"""

from __future__ import annotations

import math
import os
import sys
import time

_MIB = 2**20
_OPTIONS = {
    "compute": 0.0,  # share of iterations that are added
    "sleep_s": 0.0,
    "memory_mib": 0.0,
    "spread": 0.0,  # standard deviation of the logarithm of the iterations
    "rare": 0.0,  # share of iterations that is added to three runs in ten
}


def main() -> None:
    """Compute, and print the seconds as JSON. `build=FILE` names a file with the factor of this build."""
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    options = {name: float(given.get(name, default)) for name, default in _OPTIONS.items()}
    factor = (1 + options["compute"]) * math.exp(options["spread"] * _normal())
    if _uniform() < 0.3:
        factor *= 1 + options["rare"]
    if "build" in given:
        with open(given["build"], encoding="utf-8") as file:
            factor *= float(file.read())
    held = b"x" * round(options["memory_mib"] * _MIB)
    start, total = time.perf_counter(), 0
    for number in range(round(int(given["work"]) * factor)):
        total += number * number
    time.sleep(options["sleep_s"])
    print(f'{{"seconds": {time.perf_counter() - start}, "held_bytes": {len(held)}}}')


def _uniform() -> float:
    """Return a random number from 0 to 1, without the module `random`, which takes long to import."""
    return (int.from_bytes(os.urandom(6), "big") + 1) / (2**48 + 1)


def _normal() -> float:
    return math.sqrt(-2 * math.log(_uniform())) * math.cos(2 * math.pi * _uniform())


if __name__ == "__main__":
    main()
