"""Names of earlier versions: an old option is refused with its new name; old records and matrices are read."""

from __future__ import annotations

OPTIONS = {
    "comparison.width": "comparison.ci_width",
    "gate.error": "gate.alpha",
    "gate.looks": "gate.interim_launches",
    "generation.read_every": "generation.host_sync_interval",
    "sandbox.insist": "sandbox.allow_unsafe",
    "scoring.chunk": "scoring.planning_window",
    "scoring.exact": "scoring.batch_invariant",
    "scoring.share_stem": "scoring.share_question",
}
FIGURES = {  # of a row, by how their keys begin or end
    "pays_after_tokens": "break_even_tokens",
    "pays_after_requests": "break_even_requests",
    "same_texts_ratio": "output_match_rate",
}


def new_option(key: str) -> str | None:
    """Return what an option is called today; None for one that was not renamed."""
    return OPTIONS.get(key)


def with_new_options(section: str, options: dict[str, object]) -> dict[str, object]:
    """Return a section of a configuration, such as `comparison`, under the names of today."""
    return {OPTIONS.get(f"{section}.{key}", f".{key}").rpartition(".")[2]: value for key, value in options.items()}


def new_figure(key: str) -> str:
    """Return the key of a row's figure as it is called today."""
    for old, new in FIGURES.items():
        key = key.replace(old, new)
    return key
