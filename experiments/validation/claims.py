"""The claims of the project's source documents about each switch, and the reason why our factor may differ."""

from __future__ import annotations

_GUIDE = "*Inference Speed Optimization Guide*"
_STRATEGIES = "*Performance & Quality Improvement Strategies*"
_SYSTEM = "*Evaluation System Optimization Analysis*"
_TECHNIQUES = "*Optimization Guide*"

CLAIMS: dict[str, tuple[str, str]] = {  # switch: (claim, why it differs)
    "batched rows": (
        f"3–4× ({_GUIDE})",
        "a call costs as much as some hundred tokens here; theirs is four rows against one on a GPU",
    ),
    "shared prefix": (f"1.4–1.6× ({_STRATEGIES})", "the longer the examples beside the question, the more it gives"),
    "shared question": ("", ""),
    "prefix, question and batches": (
        f"3–4× per question ({_GUIDE})",
        "four choices in one pass, and the examples once",
    ),
    "sorting by length": (
        f"2–4× on short texts ({_TECHNIQUES}); 30–40 % cheaper ({_STRATEGIES})",
        "whole prompts of like length here; rows behind a prefix are packed and have no padding to save",
    ),
    "token budget": (f"1.5–2× ({'*Evaluation Speed Optimizations Applied*'})", "batch 64 to 256 over HTTP there"),
    "key-value cache": (f"1.2–1.5× ({_GUIDE})", "the claim is for a GPU and short texts; work grows with the square"),
    "batched texts": (
        f"5–8× ({_STRATEGIES}), 2–8× ({_GUIDE})",
        "on a CPU a batch saves calls, and no idle cores are filled",
    ),
    "refilling": ("", ""),
    "speculation by lookup": (
        f"2–3× ({_STRATEGIES}, with a draft model)",
        "in a batch on a CPU every guessed token costs as much as a real one",
    ),
    "speculation, one row": (f"2–3× ({_STRATEGIES}, with a draft model)", "a guess by lookup is often wrong here"),
    "early stop of texts": (f"1.4–2× ({_STRATEGIES}, of failing tests)", "ours ends texts, theirs ends test runs"),
    "overlap": (
        f"1.4–1.6× ({_STRATEGIES})",
        "programs take milliseconds of the same two cores, and few are asked here",
    ),
    "two workers": (
        f"7–8× on 8 cores ({_STRATEGIES})",
        "two busy cores, and 16 short programs: starting a second sandbox costs as much",
    ),
    "verdict cache": (f"instant ({_STRATEGIES})", "starting the sandbox remains"),
    "response cache": (f"15× ({_SYSTEM}); 100× for duplicates ({_TECHNIQUES})", "reading answers remains"),
}
