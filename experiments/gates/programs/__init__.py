"""A gate over any two programs: their time and memory, or a number that they print."""
