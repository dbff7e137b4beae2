"""The configuration: its schema, its validation, and its composition by Hydra."""
