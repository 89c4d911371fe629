"""An installation without the libraries that load language models: enough for stores, reports, pairs and baselines.

`python -m nngpt_ext.light` prints what it needs. It reads no library, because it is typed before any is installed.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from importlib import metadata

from nngpt_ext.errors import UserError
from nngpt_ext.extras import NAME, install_libraries

# With what they require, they are nine tenths of a whole installation.
MODELS = (
    "accelerate", "bitsandbytes", "datasets", "peft", "safetensors", "tokenizers", "torch", "transformers", "trl",
)  # fmt: skip


def needed() -> list[str]:
    """The requirements of a light installation, as pip takes them."""
    own = [line for line in metadata.requires(NAME) or [] if "extra ==" not in line]
    return [line for line in own if re.split(r"[^\w.-]", line)[0] not in MODELS]


def absent() -> list[str]:
    """The libraries for language models that are not installed."""
    return [name for name in MODELS if name not in sys.modules and importlib.util.find_spec(name) is None]


def check_whole() -> str:
    """Check that this installation is no light one, and say so.

    Raises:
        UserError: if several of the libraries for language models are not installed, with the command that adds them.
    """
    # bitsandbytes can be done without. One that is missing alone is no light installation, but a broken one.
    missing = absent()
    if len(missing) > 2:
        raise UserError(
            f"a light installation loads no language model: {', '.join(missing[:-1])} and {missing[-1]} are not "
            f"installed; type: {install_libraries(missing)}"
        )
    return "their libraries are installed"


if __name__ == "__main__":
    print("\n".join(needed()))
