"""torch, the device, what fine-tunes, and a product in 4 bits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import psutil

from nngpt_ext.doctor.finding import Finding, failed
from nngpt_ext.doctor.trial import MARK, STEPS

_TIMEOUT = 300  # seconds; a cold disk and a slow card take one
_NF4 = 0.2  # relative: twice what NF4 does to normal weights; a wrong kernel gives more than 1
_ROUNDING = 0.02  # relative: bf16 keeps eight bits
_UNQUANTISED = "load base models unquantised: --set model.load_in_4bit=false"
_CURES = {
    "torch": "pip install torch",
    "libraries": "pip install --force-reinstall --no-deps transformers peft trl accelerate datasets",
    "4 bits": f"pip install --force-reinstall --no-deps bitsandbytes; or {_UNQUANTISED}",
}


def libraries() -> list[Finding]:
    """The findings of `trial`, run in a process of its own."""
    seen = tried()
    return [_torch(seen["torch"]), _device(seen["torch"]), _tuning(seen["libraries"]), _four_bits(seen["4 bits"])]


def tried() -> dict[str, dict[str, Any]]:
    """What each step of `trial` said; of one that killed the process, that."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "nngpt_ext.doctor.trial"], capture_output=True, text=True, timeout=_TIMEOUT
        )
        output, end = done.stdout, f"it ended the process with code {done.returncode}"
    except subprocess.TimeoutExpired as error:
        text = error.stdout or ""
        output, end = text if isinstance(text, str) else text.decode(), f"it did not end within {_TIMEOUT} s"
    said: dict[str, dict[str, Any]] = {}
    for line in output.splitlines():
        if line.startswith(MARK):
            one = json.loads(line.removeprefix(MARK))
            said[one["step"]] = one
    last = next(reversed(said), None)
    for step in STEPS:
        one = said.setdefault(step, {"error": f"not tried: '{last}' came first, and {end}" if last else end})
        if "found" not in one and "error" not in one:
            one["error"] = end
    return said


def _broken(name: str, seen: dict[str, Any]) -> Finding | None:
    if "error" not in seen:
        return None
    own = seen.get("kind") == "UserError"  # these say themselves what to type
    return failed(name, seen["error"].removeprefix("UserError: ") if own else seen["error"], _CURES[name])


def _torch(seen: dict[str, Any]) -> Finding:
    bad = _broken("torch", seen)
    if bad:
        return bad
    build = seen["found"]["cuda_build"]
    return Finding("torch", "ok", f"{seen['found']['version']}, {f'built for CUDA {build}' if build else 'CPU build'}")


def _device(seen: dict[str, Any]) -> Finding:
    memory = psutil.virtual_memory()
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    own = f"{cores} cores, {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GB memory free"
    card = seen.get("found", {}).get("card")
    if card:
        found = seen["found"]
        free, total = found["free"] / 2**30, found["total"] / 2**30
        kind = "bf16" if found["bf16"] else "no bf16, so fp32"
        return Finding("device", "ok", f"{card}, {free:.1f} of {total:.1f} GB free, {kind}; {own}")
    if "found" in seen and shutil.which("nvidia-smi"):
        what = f"CPU ({own}); there is an NVIDIA driver, and this torch sees no card: it may be a CPU build"
        return Finding("device", "note", what, "pip install --force-reinstall torch")
    return Finding("device", "ok", f"CPU, {own}")


def _tuning(seen: dict[str, Any]) -> Finding:
    bad = _broken("libraries", seen)
    return bad or Finding("libraries", "ok", ", ".join(f"{name} {one}" for name, one in seen["found"].items()))


def _four_bits(seen: dict[str, Any]) -> Finding:
    bad = _broken("4 bits", seen)
    if bad:
        return bad
    found = seen["found"]
    what = (
        f"bitsandbytes {found['version']}: an NF4 product on {found['device']} differs by {found['product']:.3f} "
        f"from the unquantised one (relative), its gradient by {found['gradient']:.3f}, and by "
        f"{found['dequantised']:.1e} from that of the weights read back"
    )
    right = found["product"] < _NF4 and found["gradient"] < 2 * _NF4 and found["dequantised"] < _ROUNDING
    return Finding("4 bits", "ok", what) if right else Finding("4 bits", "broken", what, _CURES["4 bits"])
