"""Prints the level that the sandbox reaches here, as JSON, under a filter of system calls as a container has it.

The filter forbids what the default profiles of Docker and Kubernetes forbid: new namespaces, mounts and another root.
Whoever starts this script has chosen the user and the capabilities.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.sandbox import pool

sys.path.insert(0, str(Path(pool.__file__).parent))  # where the clean interpreter finds them
import seccomp

_FORBIDDEN = "unshare 272 97, setns 308 268, mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51"


def forbid_namespaces() -> None:
    """Apply the filter to this process and its children."""
    column, _ = seccomp._architecture()
    code = [seccomp._load(0)]
    for number in seccomp._numbers(_FORBIDDEN, column):
        code += [seccomp._jump(0x15, number, 0, 1), seccomp._return(seccomp._DENY)]
    seccomp.Filter([*code, seccomp._return(seccomp._ALLOW)]).apply()


def main() -> None:
    forbid_namespaces()
    try:
        with pool.Pool(1) as made:
            print(json.dumps({"level": made.level, "note": made.note}))
    except UserError as error:
        print(json.dumps({"refused": str(error)}))


if __name__ == "__main__":
    main()
