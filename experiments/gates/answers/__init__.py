"""A gate over the answer files of any evaluation program."""
