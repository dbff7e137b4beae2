"""lm-evaluation-harness over the evaluation core: its tasks on every runtime. Needs the extra `lm-eval`."""
