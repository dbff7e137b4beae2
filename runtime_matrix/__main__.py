"""`python -m runtime_matrix COMMAND …`."""

import sys

from runtime_matrix.experiments.__main__ import main

sys.exit(main())
