"""One process that loads a model with transformers and answers questions: the work of the switch "one load".

Standard input is JSON (model folder, prompts as token ids, new tokens); standard output is the JSON of the answers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def answered(model: Path, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
    """Return the answers of a fresh process that loads the model once."""
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps([str(model), [list(prompt) for prompt in prompts], new_tokens]),
        capture_output=True,
        text=True,
        check=True,
    )
    answers: list[list[int]] = json.loads(done.stdout)
    return answers


def main() -> None:
    """Answer the questions of standard input greedily, with one thread."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    folder, prompts, new_tokens = json.load(sys.stdin)
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    answers = []
    with torch.inference_mode():
        for prompt in prompts:
            ids = model.generate(torch.tensor([prompt]), max_new_tokens=new_tokens, do_sample=False)
            answers.append(ids[0, len(prompt) :].tolist())
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
