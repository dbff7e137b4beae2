"""What can be configured: the schema, its checks, and how Hydra composes it."""
