"""Make a build of the known program: draw its factor of speed, as compilers and linkers do by their layout.

`python -I -S known_build.py FILE DEVIATION` writes exp of a normal number of this deviation.
"""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path


def main() -> None:
    """Write the factor of one build."""
    file, deviation = Path(sys.argv[1]), float(sys.argv[2])
    file.write_text(str(math.exp(random.SystemRandom().gauss(0, deviation))), encoding="utf-8")


if __name__ == "__main__":
    main()
