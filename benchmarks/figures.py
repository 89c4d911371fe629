"""What a measurement found, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def publish(figures: Mapping[str, Any], out: Path | None) -> None:
    """Print figures, and write them to a file if one is given."""
    text = json.dumps(figures, indent=2)
    print(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
