"""Write the bundled data of the benchmark `detection`: the bundled model's own answers, and answers swapped for others.

`python -m experiments.bundled.make_detection [--out FILE]`. The model decodes greedily in float32, one question at a
time. A response is supported if it is the right answer; the model also answers what the passage does not tell.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from runtime_matrix.experiments.bundled.make_data import DATA_DIR
from runtime_matrix.experiments.bundled.texts import passages
from runtime_matrix.experiments.bundled.texts.responses import Prompted, prompted
from runtime_matrix.experiments.bundled.texts.world import build_world
from runtime_matrix.experiments.bundled.tokens import BOS, EOS, token_id
from runtime_matrix.experiments.bundled.train import MODEL_DIR
from runtime_matrix.experiments.config.plain_json import JsonObject

FILE = DATA_DIR / "detection.jsonl"
NEW_TOKENS = 24
_FORMS = {"answerable": "wrong answer", "unanswerable": "not in the passage", "swapped": "swapped value"}


def answers(asked: Sequence[Prompted]) -> list[str]:
    """Return the response to each question: the given one, or the model's own."""
    tokenizer = Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))
    model = LlamaForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()
    first, end = token_id(tokenizer, BOS), token_id(tokenizer, EOS)

    def answer(question: Prompted) -> str:
        prompt = passages.prompt(question.passage, question.question)
        new: list[int] = []
        ids, cache = [first, *tokenizer.encode(prompt, add_special_tokens=False).ids], None
        while len(new) < NEW_TOKENS and "\n" not in tokenizer.decode(new):  # an answer is one line
            with torch.inference_mode():
                outputs = model(torch.tensor([ids]), past_key_values=cache, use_cache=True)
            ids, cache = [int(outputs.logits[0, -1].argmax())], outputs.past_key_values
            if ids[0] == end:
                break
            new += ids
        return str(tokenizer.decode(new)).split("\n")[0].strip()

    return [answer(question) if question.given is None else question.given for question in asked]


def lines(asked: Iterable[Prompted], responses: Iterable[str]) -> Iterator[JsonObject]:
    """Yield a line for each response; empty ones are left out."""
    for number, (question, response) in enumerate(zip(asked, responses, strict=True)):
        if not response:
            continue
        label = {"start": 0, "end": len(response), "label_type": _FORMS[question.kind]}
        is_supported = question.answer is not None and response.lower() == question.answer.lower()
        yield {
            "id": f"response-{number}",
            "source_id": question.source_id,
            "context": question.passage,
            "question": question.question,
            "response": response,
            "labels": [] if is_supported else [label],
        }


def main() -> None:
    """Write the data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FILE, help="file to write (default: %(default)s)")
    out: Path = parser.parse_args().out
    asked = list(prompted(build_world()))
    text = "".join(json.dumps(line) + "\n" for line in lines(asked, answers(asked)))
    out.write_text(text, encoding="utf-8", newline="\n")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
