"""Create and load a runtime from its configuration, and turn exceptions into statuses. Used in child processes."""

from __future__ import annotations

import dataclasses
import inspect
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.data import calibration_path, draft_folder
from runtime_matrix.experiments.config import models
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.schema import RuntimeConfig
from runtime_matrix.experiments.config.targets import NO_OPTIONS, full_name, load_class
from runtime_matrix.experiments.evaluation.observation_cache import Observations
from runtime_matrix.experiments.evaluation.probe import probe
from runtime_matrix.experiments.evaluation.response_cache import Responses
from runtime_matrix.experiments.evaluation.speculation import Drafter, DraftModel, Lookup
from runtime_matrix.experiments.evaluation.text import Text
from runtime_matrix.experiments.execution.worker import device
from runtime_matrix.experiments.records.audit import Probe, ProbeFailure
from runtime_matrix.experiments.records.code import code_of, targets
from runtime_matrix.experiments.records.environment import machine_facts
from runtime_matrix.experiments.records.schema import Environment, HeldWeights, Status, to_plain
from runtime_matrix.runtimes.base import Engine, Hardware, ModelSource, Phase, Runtime, Traits, Unsupported
from runtime_matrix.runtimes.requests import RequestRuntime
from runtime_matrix.runtimes.weights.packages import require

WHOLE_REQUESTS = "the engine takes whole requests and gives no logits"
_FULL = "runtime_matrix.runtimes.weights.full:Full"  # what an engine loads by default
_GGUF = "gguf"  # form of the weights that an engine with its own reader of GGUF files keeps
_OUT_OF_MEMORY = (  # messages of torch, the system, C++, ONNX Runtime, cuBLAS and cuDNN
    *("out of memory", "can't allocate memory", "cannot allocate memory", "bad allocation", "bad_alloc"),
    *("failed to allocate memory", "is smaller than requested bytes", "status_alloc_failed"),
    "cudaerrormemoryallocation",
)


def make_runtime(config: RuntimeConfig) -> Engine:
    """Return the unloaded runtime of a configuration; Unsupported for a combination that does not work."""
    engine = _class(config.engine)
    if not (isinstance(engine, type) and issubclass(engine, Engine)):
        raise Unsupported(
            f"runtime.engine.target={config.engine['target']} is not a subclass of Engine: see runtimes/base.py"
        )
    options = _options(config.engine)
    form, spread = "dense", None
    if full_name(config.weights["target"]) != _FULL:
        weights = _created(_class(config.weights), _options(config.weights), f"runtime.weights of {config.title}")
        form = weights.form
        if form not in engine.weight_forms:
            takes = " or ".join(sorted(engine.weight_forms))
            raise Unsupported(
                f"runtime={config.name} takes {takes} weights, but {config.weights['name']} weights are {form}: "
                "docs/runtimes.md lists what runtime/weights=… works with it"
            )
        options["weights"] = weights
    if _is_moved(config):
        placement = _created(
            _class(config.placement), _options(config.placement), f"runtime.placement of {config.title}"
        )
        spread = getattr(placement, "spread", None)
        is_movable = spread is None or getattr(_class(config.weights), "loads_parts", False)
        _check_placement(config, engine.places_modules, is_movable and form in placement.weight_forms, form)
        options["placement"] = placement
    runtime: Engine = _created(engine, options | {"dtype": config.dtype}, f"runtime.engine of {config.name}")
    return runtime if spread is None else spread(runtime)


def held_weights(config: RuntimeConfig, stored_method: str | None = None, is_gguf: bool = False) -> HeldWeights:
    """Return how weights are held, as declared by the classes of the weights and of the placement.

    `stored_method` is the quantization method of the stored weights; with one, they are packed. `is_gguf`: they are
    those of a GGUF file, which the engine reads as it is or receives dequantized.
    """
    weights, form = _class(config.weights), "packed" if stored_method is not None else None
    if is_gguf:
        form = _GGUF if _GGUF in _class(config.engine).weight_forms else None
    return HeldWeights(
        form=form or str(weights.form),
        # An engine that reads the file itself may round activations to the type of the weights, as llama.cpp does.
        keeps_values=bool(getattr(weights, "keeps_values", False)) and form != _GGUF,
        is_whole=not _is_moved(config) or bool(getattr(_class(config.placement), "is_whole", False)),
    )


def _is_moved(config: RuntimeConfig) -> bool:
    """Return whether a placement class moves the weights; without one, they stay where they were loaded."""
    return "target" in config.placement


def _check_placement(config: RuntimeConfig, is_placed: bool, is_movable: bool, form: str) -> None:
    name = config.placement["name"]
    if not is_placed:
        raise Unsupported(
            f"runtime={config.name} holds its weights itself: runtime/placement={name} works only with runtimes whose "
            "weights are a module, such as eager"
        )
    if not is_movable:
        raise Unsupported(
            f"runtime/placement={name} cannot move {form} weights, such as {config.weights['name']}: use "
            "runtime/weights=full, or runtime/placement=device"
        )


def make_stepping(config: RuntimeConfig, purpose: str) -> Runtime:
    """Return the unloaded runtime; Unsupported if it takes whole requests, which does not suit the purpose."""
    runtime = make_runtime(config)
    if not isinstance(runtime, Runtime):
        raise Unsupported(f"runtime={config.name} cannot be {purpose}: {WHOLE_REQUESTS}; use runtime=eager")
    return runtime


def load(cell: Cell, runtime: Engine, config: RuntimeConfig, hardware: Hardware, phase: Phase) -> Traits:
    """Load the runtime, with calibration text if its weights need one.

    Unsupported, before anything is loaded, for quantized stored weights that the runtime cannot read, and for an
    adapter that it cannot compute.
    """
    check_generation(cell, runtime, config)
    _check_stored(cell, runtime, config)
    source = adapted_source(cell, runtime, config)
    needs = getattr(_class(config.weights), "needs_calibration", False)
    return _limited(runtime.load(source, hardware, phase, calibration_ids(cell) if needs else ()), cell)


def _limited(traits: Traits, cell: Cell) -> Traits:
    """Return the traits with rows of at most `model.max_tokens` tokens."""
    limits = [limit for limit in (traits.max_length, cell.config.model.max_tokens) if limit is not None]
    return dataclasses.replace(traits, max_length=min(limits, default=None))


def check_generation(cell: Cell, runtime: Engine, config: RuntimeConfig) -> None:
    """Raise Unsupported if the engine cannot generate with the cell's options. Loads nothing."""
    options = cell.config.generation
    if options.prefill_chunk is not None and not runtime.extends_cache:
        raise Unsupported(
            f"runtime={config.name} decides itself how it runs a prompt: use generation.prefill_chunk=null"
        )
    if not options.kv_cache and not isinstance(runtime, Runtime):
        raise Unsupported(f"runtime={config.name} keeps a cache of its own: use generation.kv_cache=true")


def switch_adapter(cell: Cell, runtime: Engine, config: RuntimeConfig, phase: Phase) -> Traits:
    """Replace the adapter of a loaded runtime by the cell's; Unsupported if it cannot be held beside the weights."""
    assert isinstance(runtime, Runtime)
    return _limited(runtime.switch_adapter(adapted_source(cell, runtime, config), phase), cell)


def adapted_source(cell: Cell, runtime: Engine, config: RuntimeConfig) -> ModelSource:
    """Return the source of the weights, with its adapter as the runtime takes it: beside the weights, or merged.

    Unsupported if the runtime cannot compute it so.
    """
    adapter = cell.source.adapter
    if adapter is None:
        return cell.source
    modes, merge = runtime.adapter_modes, cell.config.merge_adapter
    if not modes and _class(config.engine).adapter_modes:  # the engine alone takes one
        raise Unsupported(
            f"runtime/placement={config.placement['name']} takes no adapter: use runtime/placement=device"
        )
    if not modes:
        raise Unsupported(f"runtime={config.name} takes no adapter: use runtime=eager, or a server that has its name")
    if merge is False and "beside" not in modes:
        raise Unsupported(
            f"runtime={config.name} runs what was exported from the model, so an adapter is merged before: use "
            "merge_adapter=null"
        )
    if merge and "merged" not in modes:
        raise Unsupported(f"runtime={config.name} holds an adapter beside the weights: use merge_adapter=null")
    is_merged = bool(merge) or "beside" not in modes
    packed = _packed_by(cell, runtime, config) if is_merged else None
    if packed is not None:
        remedy = "use merge_adapter=false, or runtime/weights=full" if "beside" in modes else "use runtime=eager"
        raise Unsupported(f"an adapter cannot be merged into {packed} weights, whose values are packed: {remedy}")
    if not isinstance(runtime, RequestRuntime) or is_merged:
        require("peft", "adapters")
    return dataclasses.replace(cell.source, adapter=dataclasses.replace(adapter, is_merged=is_merged))


def adapter_note(runtime: Engine, source: ModelSource) -> str | None:
    """Return how the runtime computes the adapter of what it loaded; None without one."""
    if source.adapter is None:
        return None
    if not source.adapter.is_merged:
        return f"the adapter {source.adapter.name} is computed beside the weights"
    again = "" if "beside" in runtime.adapter_modes else ", and the merged model exported for this adapter alone"
    return f"the adapter {source.adapter.name} was merged into the weights{again}"


def _packed_by(cell: Cell, runtime: Engine, config: RuntimeConfig) -> str | None:
    """Return the method that packs the weights before an adapter could be merged; None for plain ones."""
    if cell.facts.quantized is not None:
        return cell.facts.quantized
    if cell.facts.is_gguf and _GGUF in runtime.weight_forms:
        return _GGUF
    return str(config.weights["name"]) if _class(config.weights).form == "packed" else None


def _check_stored(cell: Cell, runtime: Engine, config: RuntimeConfig) -> None:
    method = cell.facts.quantized
    if cell.facts.is_gguf:
        if full_name(config.weights["target"]) != _FULL:
            raise Unsupported(
                f"{cell.model_name} already holds its weights, which {config.weights['name']} would replace: use "
                "runtime/weights=full, or the original model"
            )
        if not runtime.weight_forms & {_GGUF, "dense"}:
            raise Unsupported(
                f"runtime={config.name} does not read GGUF files: use runtime=eager or the original model"
            )
        return
    if method is not None and _is_moved(config):
        _check_placement(config, True, False, f"stored {method}")
    if method is not None and "packed" not in runtime.weight_forms:
        raise Unsupported(
            f"the stored weights are quantized by {method}, which runtime={config.name} cannot read: "
            "use runtime=eager, or the original model"
        )
    if method is not None and full_name(config.weights["target"]) != _FULL:
        raise Unsupported(f"the stored weights are already quantized by {method}: use runtime/weights=full")


def calibration_ids(cell: Cell) -> list[list[int]]:
    """Return the calibration sequences: of the text, or seeded random ones if the model has no tokenizer."""
    options, text = cell.config.calibration, make_text(cell)
    if text is None:
        source = random.Random(cell.config.seed)
        vocabulary = cell.facts.vocabulary
        return [[source.randrange(vocabulary) for _ in range(options.tokens)] for _ in range(options.sequences)]
    ids = text.encode(calibration_path(options.data).read_text(encoding="utf-8"))
    starts = range(0, min(len(ids), options.sequences * options.tokens), options.tokens)
    return [ids[start : start + options.tokens] for start in starts]


def _class(part: JsonObject) -> Any:
    return load_class(str(part["target"]))


def _options(part: JsonObject) -> JsonObject:
    return {key: value for key, value in part.items() if key not in NO_OPTIONS}


def _created(kind: Any, options: JsonObject, what: str) -> Any:
    """Call a constructor; Unsupported if it does not take these options. Exceptions inside it are raised unchanged."""
    with suppress(ValueError):  # some classes written in C have no signature
        signature = inspect.signature(kind)
        try:
            signature.bind(**options)
        except TypeError as error:
            raise Unsupported(f"the {what} does not take these options: {error}") from error
    return kind(**options)


def take_probe(cell: Cell, runtime: Engine, traits: Traits) -> Probe | ProbeFailure:
    """Return the runtime's answers to the audit's fixed batch, in the shapes of the cell's comparison."""
    options = cell.config.comparison
    rows = cell.config.batch_size or max(options.batch, options.batched or 0)
    if not isinstance(runtime, Runtime):
        return ProbeFailure(reason=WHOLE_REQUESTS)
    try:
        return probe(runtime, traits, rows, options.prompt_tokens)
    except Exception as error:  # runtimes raise anything; the cell has been measured by now
        return ProbeFailure(reason=": ".join(classify(error)))


def make_text(cell: Cell) -> Text | None:
    """Return the model's tokenizer; None if it has none."""
    facts = cell.facts
    return Text(facts.tokenizer, facts.bos_id, facts.max_length) if facts.tokenizer is not None else None


@contextmanager
def opened_drafter(cell: Cell, device: str) -> Iterator[Drafter | None]:
    """Yield the source of draft tokens, loaded with the cell's runtime; None without speculation."""
    options = cell.config.generation
    if options.speculate != "draft":
        yield Lookup(options.draft_tokens) if options.speculate == "lookup" else None
        return
    folder = draft_folder(str(options.draft_model))
    facts = models.inspect_folder(folder, cell.artifacts)
    source = ModelSource(facts.digest, folder, stored_method=facts.quantized)
    with make_stepping(cell.config.runtime, "the draft model") as runtime:
        traits = runtime.load(source, cell.hardware(device), lambda name: nullcontext(), ())
        yield DraftModel(runtime, traits, options.draft_tokens, options.prefill_chunk)


def make_responses(cell: Cell, current: Environment) -> Responses:
    """Return the response cache, keyed by everything that outputs may depend on; `current` is this environment."""
    return Responses(_stored(cell, "responses.sqlite"), _identity(cell, current), cell.uses_responses)


def make_observations(cell: Cell, current: Environment) -> Observations:
    """Return the cache of observed responses, with the same keys and rules as the response cache."""
    return Observations(_stored(cell, "observations.sqlite"), _identity(cell, current), cell.uses_responses)


def _stored(cell: Cell, name: str) -> Path | None:
    return cell.artifacts / name if cell.config.responses.mode != "never" else None


def _identity(cell: Cell, current: Environment) -> JsonObject:
    config = cell.config
    hardware = cell.hardware(device.resolve(config.hw)[0])
    return {
        "model": cell.facts.digest,
        "runtime": asdict(config.runtime),
        "calibration": asdict(config.calibration),
        "seed": config.seed,
        "device": hardware.device,
        "threads": hardware.threads,
        "machine": [machine_facts(current), current.versions],
        "code": to_plain(code_of(targets(cell.resolved["runtime"]))),
        **({"merge_adapter": config.merge_adapter} if cell.adapter is not None else {}),
        # Requests hold their tokens, but an engine may compute a row in other shapes under another limit.
        **({"max_tokens": config.model.max_tokens} if config.model.max_tokens is not None else {}),
    }


def classify(error: BaseException) -> tuple[Status, str]:
    """Return the status of an exception, and the reason in one line of at most 300 characters."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, Unsupported):
        return "unsupported", text
    if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _OUT_OF_MEMORY):
        return "out_of_memory", text[:300]
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "interrupted"
    return "error", f"{type(error).__name__}: {text}"[:300]
