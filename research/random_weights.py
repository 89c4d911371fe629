"""The control for pre-training: a base model's architecture, tokenizer and chat template with random weights.

    python -m research.random_weights smollm2-135m models/smollm2-random --seed 0

Weights are drawn as the architecture draws them, with a deviation of 1/√width (SmolLM2's own: 1/24), which a GGUF file
does not say. The folder is then a base model like any other: `--set model.base=models/smollm2-random`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from nngpt_ext.io import replacing_folder
from nngpt_ext.models.base import base_folder, quiet_transformers
from nngpt_ext.models.gguf import NOTE
from nngpt_ext.run_folder import MODEL_FILES


def write_random(base: str, out: Path, seed: int = 0) -> None:
    """Write the folder, in bf16, whole or not at all.

    Raises:
        UserError: if the base model is unknown or cannot be reached.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, set_seed

    folder = base_folder(base)
    config = AutoConfig.from_pretrained(folder)
    config.initializer_range = config.hidden_size**-0.5
    set_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(out) as temporary, quiet_transformers():
        for file in sorted({file for kind in MODEL_FILES for file in folder.glob(kind)}):
            if ".safetensors" not in file.name and file.name != NOTE:
                shutil.copy(file, temporary)
        model.save_pretrained(temporary)  # the configuration, too


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write_random(given.base, given.out, given.seed)
