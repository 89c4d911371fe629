"""`host status`: what it says of versions that the host's calls do not fit."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from nngpt_ext.host.layout import Host, find_host
from nngpt_ext.host.status import obstacles
from tests.host.test_layout import made

# As in transformers 5.15 and later, and trl 1.7 and later.
LATER: dict[str, Any] = {"training_arguments": ["learning_rate", "warmup_steps"], "collator": ["pad_token_id"]}
# As in transformers 5.14 and trl 1.6.
EARLIER: dict[str, Any] = {
    "training_arguments": ["learning_rate", "warmup_ratio"],
    "collator": ["completion_only_loss", "pad_token_id"],
}


def messages() -> list[str]:
    transformers, trl = (metadata.version(name) for name in ("transformers", "trl"))
    return [
        f"transformers {transformers} takes no warmup_ratio, which the host gives it; type: "
        "pip install 'transformers<5.15'",
        f"trl {trl}'s collator takes no completion_only_loss, which the host gives it; type: pip install 'trl<1.7'",
    ]


def of_versions(host: Host, seen: dict[str, Any]) -> list[str]:
    return [line for line in obstacles(host, seen) if line.startswith(("transformers", "trl"))]


def test_versions_that_the_hosts_calls_do_not_fit(host: Host) -> None:
    assert of_versions(host, LATER) == messages()
    assert of_versions(host, EARLIER) == []
    assert of_versions(host, {}) == []  # not looked at


@pytest.mark.parametrize(("main", "lora", "n"), [("w", "c", 2), ("w", "", 1), ("", "c", 1), ("", "", 0)])
def test_a_host_that_gives_them_no_more(tmp_path: Path, main: str, lora: str, n: int) -> None:
    made(
        tmp_path, "TuneNNGen", util__Tune="def tune(): ...",
        TuneNNGen="def main(): return dict(a='warmup_ratio')" if main else "def main(): ...",
        util__LoRA="DataCollatorForLanguageModeling(completion_only_loss=True)" if lora else "",
    )  # fmt: skip
    assert len(of_versions(find_host(tmp_path), LATER)) == n
