"""Import what the fork server needs before it forks a cell, besides the packages that `supervisor` lists."""

import runtime_matrix.runtimes.engines.eager  # noqa: F401  # imported so that children find it loaded
