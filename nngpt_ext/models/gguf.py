"""Language models in GGUF files: each is copied once into the user's cache, as a folder that loads like any other.

transformers reads such a file, but can neither save the model nor quantise it again, so the weights go into a new one.
"""

from __future__ import annotations

import functools
import io
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nngpt_ext.errors import UserError, parsing
from nngpt_ext.extras import install_extra
from nngpt_ext.io import cannot_write, file_digest, replacing_folder, write_text
from nngpt_ext.models.complete import check_complete
from nngpt_ext.models.pre_tokenizer import set_splits
from nngpt_ext.models.requirements import import_library

log = logging.getLogger(__name__)

EXTRA = "smollm2"  # the extra that has the library `gguf`
NOTE = "gguf.json"
_MADE = 2  # counted up when copies are made in another way; an older copy is then made again
_PARTS = ("config.json", "tokenizer.json", "tokenizer_config.json")
_UNQUANTISED = {"F64", "F32", "F16", "BF16"}


class GgufNote(BaseModel):
    """`gguf.json` in a folder that was made from a GGUF file: which file it was."""

    file: str
    sha256: str
    types: list[str]  # of its weights, such as Q4_1


def packaged_file(requirement: str) -> Path | None:
    """The GGUF file that a package ships, given as `name==version`, or None if the package is not installed."""
    try:
        files = metadata.files(requirement.partition("==")[0]) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.suffix == ".gguf"), None)


def gguf_file(location: Path) -> Path | None:
    """The GGUF file at a location: the file itself, or that of a folder that is no model otherwise; None if none.

    Raises:
        UserError: for a folder with several of them, and for one that cannot be read.
    """
    with _reading(location):
        if _named_gguf(location) and location.is_file():
            return location
        if not location.is_dir() or ((location / "config.json").is_file() and any(location.glob("*.safetensors"))):
            return None
        named = sorted(filter(_named_gguf, location.iterdir()))
        found = [file for file in named if file.is_file()]
        if named and not found:
            what = "a folder" if named[0].is_dir() else "a link to a file that is not there"
            raise UserError(f"'{named[0]}' is {what}, not a GGUF file; give a GGUF file")
    if len(found) > 1:
        example = min(found, key=lambda file: "mmproj" in file.name.lower())  # a part of a model: what sees images
        raise UserError(f"'{location}' has {len(found)} GGUF files; give one of them, for example '{example}'")
    return found[0] if found else None


def _named_gguf(file: Path) -> bool:
    return file.suffix.lower() == ".gguf"


@contextmanager
def _reading(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read '{place}': {error.strerror or error}") from None


def copy_place(file: Path) -> Path:
    """Where the copy of a GGUF file is, or will be: a folder of the cache, named by the file and its hash.

    Raises:
        UserError: if the file cannot be read.
    """
    with _reading(file):
        return copies() / f"{file.stem}-{file_digest(file)[:12]}-{_MADE}"


def copies() -> Path:
    """The folder of the cache that has the copies of GGUF files."""
    from nngpt_ext.data.cache import cache_folder

    return cache_folder() / "models"


def check_copy(place: Path) -> None:
    """Check that a copy has all its files.

    Raises:
        UserError: if one is missing.
    """
    missing = [name for name in _PARTS if not (place / name).is_file()]
    if not any(place.glob("*.safetensors")):
        missing.append("model.safetensors")
    if missing:
        raise UserError(f"a copy of a GGUF file is damaged (no {missing[0]}); {copy_advice(place)}")


def copy_advice(folder: Path) -> str:
    """What to do if a folder does not load: a copy of a GGUF file can be made again; of others, nothing is known."""
    return f"remove the folder '{folder}' and run it again" if folder.parent == copies() else ""


def make_copy(file: Path, target: Path) -> None:
    """Write the model of a GGUF file as a folder: bf16 safetensors, configuration, tokenizer, chat template, note.

    Of several processes that want it, such as the folds of a run, one writes and the others wait. The caller holds
    `models.base.LOADING` and keeps transformers quiet. 9 seconds of one core for 135 M weights.

    Raises:
        UserError: if the file is damaged, incomplete or of an architecture that transformers does not read, if a
            library is missing, or if the folder cannot be written; there is no folder then.
    """
    import_library("gguf", f"type: {install_extra(EXTRA)}")
    from huggingface_hub.utils import WeakFileLock

    with ExitStack() as held:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(WeakFileLock(f"{target.parent}.lock"))
        except OSError as error:
            raise cannot_write(target, error) from None
        if not target.is_dir():
            _copy(file, target)


def _copy(file: Path, target: Path) -> None:
    began = time.monotonic()
    log.info("reading '%s' once; its copy for later is '%s'", file.name, target)
    no_bars = redirect_stderr(io.StringIO())  # those of transformers that have no switch
    with parsing(f"cannot read '{file}'"), _read_once(), no_bars:
        model, tokenizer, types = _read(file)
    with replacing_folder(target) as folder, no_bars:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        note = GgufNote(file=file.name, sha256=file_digest(file), types=types)
        write_text(folder / NOTE, note.model_dump_json(indent=2) + "\n")
    log.info("read in %.0f s", time.monotonic() - began)


def quantised_before(folder: Path) -> str | None:
    """A line about weights that were quantised in the GGUF file that a folder was made from, or None."""
    if not (folder / NOTE).is_file():
        return None
    with parsing(f"'{folder / NOTE}' is damaged", "remove the folder and run it again"):
        note = GgufNote.model_validate_json((folder / NOTE).read_bytes())
    types = sorted(set(note.types) - _UNQUANTISED)
    return f"the weights in {note.file} were quantised already ({', '.join(types)})" if types else None


def _read(file: Path) -> tuple[Any, Any, list[str]]:
    """The model in bf16, ready to be saved, its tokenizer, and the types of the file's weights."""
    import gguf
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    reader: Any = gguf.GGUFReader(str(file))
    if "split.count" in reader.fields and int(reader.fields["split.count"].contents()) > 1:
        raise UserError(f"'{file}' is one part of a model in several files; join them with llama.cpp's gguf-split")
    place: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    config = AutoConfig.from_pretrained(**place)
    tokenizer = AutoTokenizer.from_pretrained(**place)
    models: Any = AutoModelForCausalLM
    if kind := reader.fields.get("tokenizer.ggml.pre"):
        set_splits(tokenizer.backend_tokenizer, str(kind.contents()), file.name)
    loaded, info = models.from_pretrained(
        **place, config=config, dtype=torch.bfloat16, output_loading_info=True, ignore_mismatched_sizes=True
    )
    check_complete(file, loaded, info)
    config = loaded.config
    if hasattr(config, "quantization_config"):  # of later versions of transformers; it forbids to save the model
        del config.quantization_config
    with torch.device("meta"):
        model = models.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.state_dict(), assign=True)
    return model, tokenizer, sorted({tensor.tensor_type.name for tensor in reader.tensors})


@contextmanager
def _read_once() -> Iterator[None]:
    """Remember what transformers asks of the library `gguf` again and again: two thirds of the time."""
    import gguf

    names = ("GGUFReader", "get_tensor_name_map")
    before = {name: getattr(gguf, name) for name in names}
    try:
        for name, function in before.items():
            setattr(gguf, name, functools.cache(function))
        yield
    finally:
        for name, function in before.items():
            setattr(gguf, name, function)
