"""NNGPT, the host framework: its configuration, its tuner, its outputs and its agents."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nngpt_ext.host.arguments import tune_main

__all__ = ["tune_main"]


def __getattr__(name: str) -> Any:  # loaded on first use
    if name != "tune_main":
        raise AttributeError(f"module 'nngpt_ext.host' has no attribute '{name}'")
    return import_module("nngpt_ext.host.arguments").tune_main
