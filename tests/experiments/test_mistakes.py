"""Data, models and options that cannot be used: each is one line that says what is wrong, before any measurement."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks import questions

LONGEST = 420  # characters of a line
DEEP = "[" * 100_000 + "]" * 100_000
HUMAN = {"task_id": "a/1", "prompt": "def f(x):\n", "entry_point": "f", "test": "def check(c):\n    assert c(1) == 1\n"}
MBPP = {"task_id": 1, "text": "do", "test_list": ["assert f(1) == 1"], "code": "def f(x): return x"}


def squad(context: Any = "c", answer: Any = "a") -> str:
    question = {"id": 1, "question": "q", "answers": [{"text": answer}]}
    return json.dumps({"data": [{"paragraphs": [{"context": context, "qas": [question]}]}]})


def human(**changed: Any) -> str:
    return json.dumps({**HUMAN, **changed})


def added(**changes: object) -> str:
    """Return a problem in the layout of HumanEval+."""
    return human(**{"canonical_solution": "    pass\n", "base_input": [[1]], "plus_input": [[2]], **changes})


def mbpp(**changed: Any) -> str:
    return json.dumps({**MBPP, **changed})


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """Fail what would wait for ever, or read a device until memory is gone."""

    def late(*_: Any) -> None:
        raise TimeoutError("longer than 20 s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def mistake(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        plan(compose(list(words)), "")
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) <= LONGEST
    return said


DATA: list[tuple[str, str, str, str]] = [
    ("multiple_choice", "long.csv", f"q,{'x' * 200_000},b,A\n", "line 1: not CSV: field larger than field limit"),
    ("multiple_choice", "null.jsonl", '{"question": "q", "choices": null, "answer": 0}', "line 1: .*no choices"),
    ("multiple_choice", "text.jsonl", '{"question": "q", "choices": "ab", "answer": 0}', "must be a list of texts"),
    ("multiple_choice", "nested.jsonl", '{"question": "q", "choices": [["a"], {}], "answer": 0}', "a list of texts"),
    ("multiple_choice", "one.jsonl", '{"question": "q", "choices": ["a"], "answer": 0}', "found 1 choices; 2 to 10"),
    ("multiple_choice", "deep.jsonl", '{"question": ' + DEEP + "}", "line 1: nested too deep"),
    ("multiple_choice", "other.jsonl", '{"text": "q"}', r"found text; benchmark.multiple_choice.fields="),
    ("multiple_choice", "ids.jsonl", '{"id": 1, "question": "q", "choices": ["a", "b"], "answer": 0}\n' * 3,
     "the id '1' occurs twice, as item 1 and item 2; remove one"),
    ("extractive_qa", "deep.json", DEEP, "nested too deep"),
    ("extractive_qa", "context.json", squad(context=None), "the context of the question '1' is not a string: None"),
    ("extractive_qa", "answer.json", squad(answer=3), "the answer of the question '1' is not a string: 3"),
    ("code", "minus.jsonl", human(test="def check(c):\n    return " + "-" * 300_000 + "1\n"), "is not valid Python"),
    ("code", "plus.jsonl", human(test="def check(c):\n    return " + "1+" * 100_000 + "1\n"), "is not valid Python"),
    ("code", "prompt.jsonl", human(prompt=3), "the prompt of a/1 is not a string"),
    ("code", "entry.jsonl", human(entry_point=["f"]), "the entry_point of a/1 is not a string"),
    ("code", "solution.jsonl", human(canonical_solution=3), "the canonical_solution of a/1 is not a string"),
    ("code", "base.jsonl", human(plus_input=[[1]], canonical_solution="    pass"), "the base_input of a/1 is missing"),
    ("code", "added.jsonl", added(plus_input="many"), "plus_input of a/1 is not a list of lists of arguments"),
    ("code", "nested.jsonl", added(plus_input=json.loads("[" * 700 + "]" * 700)), "has inputs of other types"),
    ("code", "contract.jsonl", added(contract="    assert x" + " + 1" * 5000), "nested too deeply|not valid Python"),
    ("code", "tests.jsonl", mbpp(test_list=[1, 2]), "the test_list of 1 is not a list of strings"),
    ("code", "mbpp.jsonl", mbpp(text=3), "the text of 1 is not a string"),
    ("code", "mbppcode.jsonl", mbpp(code=3), "the code of 1 is not a string"),
    ("mutation", "bare.jsonl", human(), "'a/1' has no reference solution that could be changed"),
    ("summarization", "number.jsonl", '{"article": 3, "summary": "s"}', "article must be a text"),
    ("free_form", "empty.jsonl", "", "holds no prompt; give JSON lines of prompt and answer"),
    ("free_form", "other.jsonl", '{"question": "q", "answer": "a"}', r"line 1: has no prompt; found question, answer"),
    ("free_form", "prompt.jsonl", '{"prompt": 3, "answer": "a"}', "the prompt must be a text; found '3'"),
    ("free_form", "answer.jsonl", '{"prompt": "p", "answer": {}}', "the answer must be a text or a list of texts"),
    ("free_form", "list.jsonl", '{"prompt": "p", "answer": []}', "the answer must be a text or a list of texts"),
    ("free_form", "deep.jsonl", '{"prompt": ' + DEEP + "}", "line 1: nested too deep"),
    ("summarization", "deep.jsonl", '{"article": ' + DEEP + "}", "line 1: nested too deep"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "name", "content", "says"), DATA, ids=[f"{one[0]} {one[1]}" for one in DATA])
def test_unreadable_data_is_refused_in_one_line(tmp_path: Path, task: str, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    said = mistake(f"benchmark=[{task}]", f"benchmark.{task}.data={path}")
    assert re.search(says, said), said


@pytest.mark.parametrize(
    "key", ["perplexity", "multiple_choice", "code", "extractive_qa", "summarization", "free_form", "divergence"]
)
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero"])
def test_pipes_and_devices_are_not_read(tmp_path: Path, key: str, kind: str) -> None:
    path = Path(kind)
    if kind == "pipe":
        path = tmp_path / "pipe.jsonl"
        os.mkfifo(path)
    assert f"{path} is a pipe or a device" in mistake(f"benchmark=[{key}]", f"benchmark.{key}.data={path}")
    assert f"{path} is a pipe or a device" in mistake(f"calibration.data={path}")


OPTIONS: list[tuple[list[str], str]] = [
    (["reference=fake"], "the reference is a runtime: runtime@reference=fake"),
    (["benchmark=null"], "a group cannot be null"),
    (["runtime=3"], "a group cannot be null or a number"),
    (["benchmark=[perplexit]"], "benchmark=perplexit is not an option; did you mean 'perplexity'?"),
    (["benchmark=[latency,latency]"], "names latency twice"),
    (["sandbox.workers=1000000000"], "must be at most 1024"),
    (["seed=123456789012345678901234567890"], "seed must be at most"),
    (["benchmark.latency.iterations=1000000000000"], "must be at most 100000"),
    (["runtime.name=../../x"], "no slash"),
    (["runtime.name=''"], "1 to 80 characters"),
    (["runtime.name='a\nb'"], "no line break"),
    (["runtime.name=" + "x" * 300], "1 to 80 characters"),
    (["results_dir=''"], "results_dir is empty"),
    (["benchmark.code.k=[1,1]"], "has the same k twice"),
    (["benchmark.perplexity.stride=1000"], "must be less than window=256"),
    (["runtime.engine.target=no_such_module:X"], "there is no module no_such_module here"),
    (["runtime.engine.target=runtimes"], "give MODULE:CLASS"),
    (["runtime.engine.target=3"], "give MODULE:CLASS"),
    (
        ["runtime=onnxruntime", "+runtime.engine.provder=cpu"],
        "is not an option of OnnxRuntime; did you mean 'provider'?",
    ),
    (["runtime=gptq", "+runtime.weights.bit=3"], "runtime.weights.bit is not an option of Gptq; did you mean 'bits'?"),
    (["runtime=gptq", "runtime.weights.bits=5"], "gptq has 2, 3, 4, 8 bits, not 5: set runtime.weights.bits"),
    (["runtime=gptq", "runtime.weights.bits=many"], "runtime.weights: gptq has"),
    (["runtime=onnxruntime_w4", "runtime.weights.block_size=24"], "must be a power of two of at least 16"),
    (["runtime=nf4", "runtime.weights.scheme=nf5"], "runtime.weights.scheme=nf5 is unknown; known: nf4, int8"),
    (["runtime=offload", "+runtime.placement.max_memory={cpu: 1GB}"], "needs either runtime.placement.layers=N"),
    (
        ["runtime=eager", "+runtime.engine.dtype=float16"],
        "runtime.engine.dtype is not an option here: use runtime.dtype",
    ),
    *(
        (["runtime=server", f"runtime.engine.url={url}"], "runtime.engine.url must not contain a password or a query")
        for url in ("http://me:secret@host", "[http://host,http://me:secret@host]", "'http://host/v1?key=secret'")
    ),
    (["results_dir=${nothing}"], "Interpolation key 'nothing' not found"),
    (["results_dir=${artifacts_dir}"], "Recursive interpolation"),
    (["results_dir=${oc.env:NO_SUCH_VARIABLE}"], "'NO_SUCH_VARIABLE' not found"),
    (["+foo=1"], "foo is not a known key"),
    (["runtime=eager,fake"], "runtime=eager,fake: several values are a sweep: add -m"),
    (["generation.speculate=draft", "generation.draft_model=/nowhere"], "/nowhere is not a folder"),
    (["scoring.rows_by_length={1000: 0}"], "scoring.rows_by_length.1000 must be at least 1; found 0"),
    (["scoring.rows_by_length={long: 4}"], "scoring.rows_by_length: 'long' is not a number of tokens"),
    (["scoring.rows_by_length={0: 4}"], "scoring.rows_by_length: '0' is not a number of tokens"),
    (["scoring.rows_by_length={}"], "scoring.rows_by_length is empty"),
    (["scoring.rows_by_length=8"], "scoring.rows_by_length must be a mapping; found 8"),
    *(
        (["scoring.rows_by_length={1000: 8}", other], "both say how many rows a batch has: leave one of them out")
        for other in ("scoring.token_budget=512", "scoring.batch=false", "scoring.batch_invariant=true", "batch=auto")
    ),
    (["generation.prefill_chunk=0"], "generation.prefill_chunk must be at least 1; found 0"),
    (["generation.prefill_chunk=-512"], "generation.prefill_chunk must be at least 1; found -512"),
    (["generation.prefill_chunk=1.5"], "generation.prefill_chunk must be of the type int; found 1.5"),
    (["generation.kv_cache=0"], "generation.kv_cache must be of the type bool; found 0"),
    (["generation.kv_cache=false", "generation.prefill_chunk=8"], "generation.prefill_chunk would be ignored"),
    *(
        (["model=random", f"model.architecture.{key}={value}"], says)
        for key, value, says in (
            ("hidden_size", 0, "must be a number from 1"),
            ("hidden_size", -4, "must be a number from 1"),
            ("hidden_size", 65, "is not a multiple of num_attention_heads=8"),
            ("num_hidden_layers", "two", "found 'two'"),
            ("vocab_size", 10**15, "must be a number from 1 to"),
        )
    ),
]


@pytest.mark.parametrize(("words", "says"), OPTIONS, ids=[one[0][-1][:50] for one in OPTIONS])
def test_a_wrong_option_is_refused_in_one_line(words: list[str], says: str) -> None:
    found = mistake(*words)
    assert says in found
    assert "secret" not in found


def changed(**fields: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = {**json.loads((folder / "config.json").read_text()), **fields}
        (folder / "config.json").write_text(
            json.dumps({key: value for key, value in config.items() if value != "gone"})
        )

    return edit


def header(text: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (path,) = folder.glob("*.safetensors")
        path.write_bytes(len(text).to_bytes(8, "little") + text.encode())

    return edit


def index(content: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    return edit


def pipe(name: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return edit


MODELS: dict[str, tuple[Callable[[Path], None], str]] = {
    "header a list": (header("[]"), "is damaged"),
    "header deep": (header("[" * 100_000), "is damaged"),
    "header empty": (header(""), "is damaged"),
    "index a list": (index({"weight_map": []}), "must name files beside it"),
    "index of numbers": (index({"weight_map": {"a": 3}}), "must name files beside it"),
    "index leads out": (index({"weight_map": {"a": "../../../../etc/passwd"}}), "must name files beside it"),
    "no vocabulary": (changed(vocab_size="gone"), "vocab_size must be a number"),
    "vocabulary a text": (changed(vocab_size="many"), "vocab_size must be a number"),
    "text_config a text": (changed(text_config="x"), "is not a readable model"),
    "quantization a text": (changed(quantization_config="x"), "is not a readable model"),
    "length a text": (changed(max_position_embeddings="many"), "max_position_embeddings must be a number"),
    "length 0": (changed(max_position_embeddings=0), "max_position_embeddings must be a number"),
    "layers of another type": (changed(layer_types=["linear_attention"]), "layers of the types linear_attention"),
    "window 0": (changed(sliding_window=0), "sliding_window must be a number of tokens, 1 or more"),
    "recurrent": (changed(model_type="mamba"), "has recurrent layers"),
    "type a list": (changed(model_type=["x"]), "has no model_type"),
    "configuration a pipe": (pipe("config.json"), "a pipe or a device"),
    "tokenizer a pipe": (pipe("tokenizer.json"), "a pipe or a device"),
    "weights a pipe": (pipe("model.safetensors"), "a pipe or a device"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_damaged_model_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    edit, says = MODELS[name]
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED / "model", folder)
    edit(folder)
    assert says in mistake("model=local", f"model.path={folder}", f"artifacts_dir={tmp_path / 'artifacts'}")


def test_layers_are_checked_for_engines_that_keep_certain_types_only(tmp_path: Path) -> None:
    shutil.copytree(BUNDLED / "model", tmp_path / "model")
    changed(layer_types=["linear_attention"])(tmp_path / "model")
    words = ("model=local", f"model.path={tmp_path / 'model'}", f"artifacts_dir={tmp_path / 'artifacts'}")
    for runtime in ("eager", "compile", "onnxruntime", "openvino", "tensorrt"):
        assert "layers of the types linear_attention" in mistake(f"runtime={runtime}", *words)
    assert "layers of the types linear_attention" in mistake(
        "model=random", "+model.architecture.layer_types=[linear_attention]"
    )
    plan(
        compose(["runtime=server", "runtime.engine.url=http://127.0.0.1:9", *words]), ""
    )  # a server may keep any layers


READ = [
    ("array.json", '[{"question": "q", "choices": ["a", "b"], "answer": 1}]', {}),
    ("hub.jsonl", '{"question": "q", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"}', {}),
    ("arc.jsonl", '{"query": "q", "choices": ["a", "b"], "gold": 1}', {}),
    ("named.csv", "id,prompt,A,B,answer\n7,q,a,b,B\n", {}),
    ("plain.csv", "q,a,b,B\n", {}),
    ("mapped.jsonl", '{"stem": "q", "options": ["a", "b"], "right": "B"}', {"question": "stem", "answer": "right"}),
    ("mapped.csv", "Stem,one,two,Right\nq,a,b,B\n", {"question": "Stem", "answer": "Right"}),
]


@pytest.mark.parametrize(("name", "content", "fields"), READ, ids=[one[0] for one in READ])
def test_other_field_names_can_be_mapped(tmp_path: Path, name: str, content: str, fields: dict[str, str]) -> None:
    (tmp_path / name).write_text(content)
    (question,) = questions.load(tmp_path / name, None, 0, fields).questions
    assert (question.text, question.choices, question.answer) == ("q", ("a", "b"), 1)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"stem": "q"}')
    with pytest.raises(UserError, match=r"line 1: fields.question=query: no such field; found stem"):
        questions.load(tmp_path / "q.jsonl", None, 0, {"question": "query"})
