"""Names of earlier versions: old options are refused with their new name; old records and matrices stay readable."""

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
# The activations of int8 and int4 were int8. The new names say so, because w8 and w4 quantize the weights alone.
PRESETS = {
    "runtime/weights=int8": "runtime/weights=w8a8",
    "runtime/weights=int4": "runtime/weights=w4a8",
    "runtime=onnxruntime_int8": "runtime=onnxruntime_w8a8",
    "runtime=onnxruntime_int4": "runtime=onnxruntime_w4a8",
}
FIGURES = {  # parts of the keys of a row's figures
    "pays_after_tokens": "break_even_tokens",
    "pays_after_requests": "break_even_requests",
    "same_texts_ratio": "output_match_rate",
}


def new_option(key: str) -> str | None:
    """Return the current name of a renamed option; None for any other."""
    return OPTIONS.get(key)


def new_preset(choice: str) -> str | None:
    """Return the current name of a renamed preset, such as `runtime=NAME`; None for any other."""
    return PRESETS.get(choice)


def with_new_options(section: str, options: dict[str, object]) -> dict[str, object]:
    """Return the options of a section, such as `comparison`, under their current names."""
    return {OPTIONS.get(f"{section}.{key}", f".{key}").rpartition(".")[2]: value for key, value in options.items()}


def new_figure(key: str) -> str:
    """Return the current key of a row's figure."""
    for old, new in FIGURES.items():
        key = key.replace(old, new)
    return key
