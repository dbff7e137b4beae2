"""Counts of the work of generation, for the record."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class GenerationReport:
    """Counts of the work of generation."""

    forwards: int = 0
    steps: int = 0  # forwards after prefill
    readings: int = 0  # reads of tokens by the host; each waits for the device
    row_steps: int = 0  # sum over all steps of the active rows
    drafted: int = 0
    accepted: int = 0
    tied_first: int = 0  # texts whose first token was exactly tied with another; later tokens are not checked
    is_counted: bool = True  # False: the engine does not tell what it ran

    def figures(self) -> dict[str, float | None]:
        """Return the figures of the record; accepted tokens are None without speculation."""
        speculated = self.drafted > 0
        counts = {
            "forwards": self.forwards,
            "steps": self.steps,
            "step_rows": self.row_steps,
            "readings": self.readings,
            "tied_first_tokens": self.tied_first,
            "drafted_tokens": self.drafted,
        }
        return {
            **{name: count if self.is_counted else None for name, count in counts.items()},
            "accepted_tokens_per_step": self.accepted / self.row_steps if speculated else None,
        }
