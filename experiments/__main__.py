"""`python -m experiments COMMAND …`."""

import sys

from runtime_matrix.experiments.cli import main

sys.exit(main())
