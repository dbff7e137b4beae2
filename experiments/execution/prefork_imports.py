"""What the fork server imports before it forks a cell, beyond the libraries that `supervise` names."""

import runtime_matrix.runtimes.engines.eager  # noqa: F401  # imported for its side effect: it is there when a child wants it
