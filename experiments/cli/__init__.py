"""Code that all commands share: help, exit codes and signals."""
