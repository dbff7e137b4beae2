"""An engine that builds something when it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from typing_extensions import override

from runtime_matrix.runtimes.base import Hardware, ModelSource, Phase, Traits
from runtime_matrix.runtimes.engines.eager import Eager


class Patient(Eager):
    """Eager, with a phase of loading that builds something."""

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        traits = super().load(model, hw, phase, calibration_ids)
        with phase("fold"):
            notes = (*traits.notes, "folded")
        return replace(traits, notes=notes, build_phases=frozenset({"fold"}))
