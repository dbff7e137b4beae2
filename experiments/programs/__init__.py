"""Whole programs, measured from outside: fresh processes that take turns. They need not be ours."""
