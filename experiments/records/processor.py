"""The processor and the instruction sets that PyTorch may use. Reads `/proc` and does not import torch."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec import UNSET

from runtime_matrix.experiments.records.schema import Environment

# Those that decide the speed of matrix products, by the kernel's names on x86 and ARM.
_INSTRUCTION_SETS = (
    *("f16c", "fma", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni"),
    *("amx_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2"),
)
_FACTS = {  # key: the lines of /proc/cpuinfo on x86 and on ARM
    "vendor": ("vendor_id", "CPU implementer"),
    "family": ("cpu family", "CPU architecture"),
    "model": ("model", "CPU part"),
    "stepping": ("stepping", "CPU revision"),
}
_ATEN, _ONEDNN = "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"
_ONEDNN_SETS = {  # instruction sets that each value of the variable adds to the values above it
    "SSE41": (),
    "AVX": (),
    "AVX2": ("f16c", "fma", "avx2"),
    "AVX2_VNNI": ("avx_vnni",),
    "AVX2_VNNI_2": (),
    "AVX512_CORE": ("avx512f",),
    "AVX512_CORE_VNNI": ("avx512_vnni",),
    "AVX512_CORE_BF16": ("avx512_bf16",),
    "AVX10_1_512": ("avx512_fp16",),
    "AVX512_CORE_FP16": ("avx512_fp16",),
    "AVX512_CORE_AMX": ("amx_bf16", "amx_int8"),
    "AVX10_1_512_AMX": ("amx_bf16", "amx_int8"),
}
_TITLES = {"avx512f": "AVX-512", "avx2": "AVX2", "sve2": "SVE2", "sve": "SVE", "asimd": "NEON"}
_EXTRAS = {  # instruction sets shown after the widest vectors
    "avx512_bf16": "bf16",
    "bf16": "bf16",
    "avx512_fp16": "fp16",
    "asimdhp": "fp16",
    "avx512_vnni": "VNNI",
    "avx_vnni": "VNNI",
    "i8mm": "i8mm",
    "amx_bf16": "AMX bf16",
    "amx_int8": "AMX int8",
}


@dataclass(frozen=True)
class Processor:
    """The fields of `schema.Environment` about the processor."""

    processor: str | None
    cpu: dict[str, str | None]
    instruction_sets: list[str]
    instruction_limits: dict[str, str]


def processor(root: Path = Path("/"), variables: Mapping[str, str] = os.environ) -> Processor:
    """Return the processor as the system reports it, and the variables that limit PyTorch's instruction sets."""
    lines = _first_processor(root)
    flags = set((lines.get("flags") or lines.get("Features") or "").split())
    limits = {name: variables[name] for name in (_ATEN, _ONEDNN) if variables.get(name)}
    return Processor(
        processor=lines.get("model name") or platform.processor() or None,
        cpu={key: next((lines[n] for n in names if n in lines), None) for key, names in _FACTS.items()},
        instruction_sets=_usable([name for name in _INSTRUCTION_SETS if name in flags], limits),
        instruction_limits=limits,
    )


def describe(environment: Environment) -> str | None:
    """Return a line such as `AMD EPYC (family 25 model 17), 2 cores, AVX-512 bf16 VNNI`; None for an old record."""
    name = environment.processor or None
    cpu = {} if environment.cpu is UNSET else environment.cpu
    if name is None and not cpu:
        return None
    which = " ".join(f"{key} {cpu[key]}" for key in ("family", "model") if cpu.get(key))
    parts = [f"{name or cpu.get('vendor')}" + (f" ({which})" if which else "")]
    if environment.cores:
        parts.append(f"{environment.cores} core{'s' if environment.cores != 1 else ''}")
    if environment.cpu_limit:
        parts.append(f"at most {environment.cpu_limit:g} CPUs' time")
    sets = environment.instruction_sets or []
    widest = next((title for key, title in _TITLES.items() if key in sets), None)
    if widest:
        parts.append(" ".join(dict.fromkeys([widest, *(word for key, word in _EXTRAS.items() if key in sets)])))
    parts += [f"{name}={value}" for name, value in (environment.instruction_limits or {}).items()]
    return ", ".join(parts)


def _usable(sets: list[str], limits: Mapping[str, str]) -> list[str]:
    """Return the instruction sets that oneDNN, which computes matrix products, may use under its limit."""
    highest = limits.get(_ONEDNN, "").upper()
    if highest not in _ONEDNN_SETS:  # none, ALL, DEFAULT or an unknown value
        return sets
    names = list(_ONEDNN_SETS)
    allowed = {flag for name in names[: names.index(highest) + 1] for flag in _ONEDNN_SETS[name]}
    of_x86 = {flag for group in _ONEDNN_SETS.values() for flag in group}
    return [flag for flag in sets if flag in allowed or flag not in of_x86]


def _first_processor(root: Path) -> dict[str, str]:
    """Return the lines of `/proc/cpuinfo` for the first processor, by name."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
