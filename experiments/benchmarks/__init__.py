"""The benchmarks, as thin pytest files: here tasks, core and measurement are joined."""
