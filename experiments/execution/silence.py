"""Imported first by the fork server: what packages print while they are imported belongs into nobody's terminal.

A cell's own output goes to its log, from its first line on.
"""

import os

_nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(_nowhere, 1)
os.dup2(_nowhere, 2)
os.close(_nowhere)
