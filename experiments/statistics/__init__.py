"""Statistics: intervals, paired differences and sequential tests. Independent of cells and records."""
