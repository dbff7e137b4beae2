"""The weights of offloaded parts on disk, in accelerate's format."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runtime_matrix.runtimes.artifacts import entry


def stored(module: Any, parts: Sequence[str], artifacts: Path) -> str:
    """Return the folder with the weights of `parts` in accelerate's offload format.

    accelerate reads whatever weights are in the folder, even those of another model. The key of the folder is therefore
    the digest of the weights.
    """
    import torch
    from accelerate.utils import extract_submodules_state_dict, offload_state_dict

    weights = extract_submodules_state_dict(module.state_dict(), list(parts))
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    made_from = {"weights": digest.hexdigest(), "accelerate": version("accelerate")}
    return str(entry(artifacts, "offload", made_from, lambda folder: offload_state_dict(folder, weights)))
