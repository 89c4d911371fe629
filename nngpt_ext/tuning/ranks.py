"""Several processes that train one run, each with its own device: what torchrun and accelerate launch start.

Each process has the whole model. The rows of a step and the questions to be scored are dealt to them; gradients and
log-odds are summed, so all have the same weights. Only the first one writes files and messages.
"""

from __future__ import annotations

import heapq
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from nngpt_ext.errors import UserError, reason, resuming, shown, typed
from nngpt_ext.io import is_file

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

# A process's number and their count, as launchers set them; those of MPI and Slurm do not say where the first one is.
_NUMBERS = (
    ("RANK", "WORLD_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)  # fmt: skip
# What else they set. transformers and accelerate would wrap the model and divide the steps if they saw it.
_LAUNCHER = {
    "GROUP_RANK", "GROUP_WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "MPI_LOCALNRANKS", "MPI_LOCALRANKID", "ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE",
}.union(*_NUMBERS)  # fmt: skip
# Beginnings of further ones.
_LAUNCHERS = ("ACCELERATE_", "FSDP_", "MV2_COMM_WORLD_", "OMPI_COMM_WORLD_", "TORCHELASTIC_")
_START = "start the processes with torchrun --nproc-per-node N or accelerate launch"
_MEETING = timedelta(minutes=5)  # that the first process waits for the others to start
_LONGEST = timedelta(days=1)  # that a process waits for the others, for example while the first one fits baselines
_SEEN = 10  # seconds in which what one machine writes to a common folder appears on the others
_rank, _size = 0, 1


def launched() -> tuple[int, int]:
    """This process's number and their count, as a launcher set them; (0, 1) without one, and after `joined`."""
    return _launched()[1:]


def _launched() -> tuple[tuple[str, str], int, int]:
    """`launched`, after the names of the two variables."""
    for names in _NUMBERS:
        rank, n = (os.environ.get(name, "") for name in names)
        if rank.isdecimal() and n.isdecimal():
            return names, int(rank), int(n)
    return _NUMBERS[0], 0, 1


def size() -> int:
    """The number of processes that train this run."""
    return _size


def own_number() -> int:
    """The number of this process among them, from 0."""
    return _rank


def is_first() -> bool:
    """Whether this process writes the files and messages of the run."""
    return _rank == 0


def one_process(what: str, advice: str) -> None:
    """Check that this process was started alone.

    Raises:
        UserError: if not; `what` cannot be divided among processes, and `advice` is what to do.
    """
    (_, count), _, n = _launched()
    if max(n, _size) > 1:
        unset = f", or unset {count}" if n > 1 else ""
        raise UserError(f"{max(n, _size)} processes cannot share {what}; {advice}{unset}")


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that a launcher started; a process that was started alone runs the block as it is.

    On a machine with GPUs each process sees only its own one. The launcher's variables are removed for good. In all
    processes but the first, the block's output is dropped. If the block fails in one of them, it ends in all, with the
    same exit code, and only the first error is shown.

    Raises:
        UserError: if they do not find each other, and if only some have a GPU or two have the same.
    """
    global _rank, _size
    names, rank, n = _launched()
    if not 0 <= rank < n:
        raise UserError(f"{names[0]} is {rank} of a {names[1]} of {n}; {_START}, or unset both variables")
    if n > 1 and names != _NUMBERS[0]:
        raise UserError(
            f"{names[1]} is {n} and {_NUMBERS[0][0]} is not set, without which {n} processes do not find each other; "
            f"{_START}, or unset {names[1]}"
        )
    if n == 1:
        forget_launcher()
        yield
        return
    from torch import distributed

    local, store = os.environ.get("LOCAL_RANK", str(rank)), _meeting(n)
    forget_launcher()
    _rank, _size = rank, n
    try:
        with _silent(rank > 0):
            if not local.isdecimal():
                raise UserError(f"process {rank}: LOCAL_RANK is {shown(local)}, not a whole number from 0; {_START}")
            backend = "cpu:gloo,cuda:nccl" if _has_card(int(local), store) else "gloo"
            with _together():
                distributed.init_process_group(backend, store=store, rank=rank, world_size=n, timeout=_LONGEST)
            yield
            of_first(lambda: None)
    except BaseException as error:
        _end(store, error)
    distributed.destroy_process_group()
    _rank, _size = 0, 1


def _meeting(n: int) -> Any:
    """The store by which the processes that a launcher started find each other."""
    from torch import distributed

    try:
        store = next(distributed.rendezvous("env://", timeout=_MEETING))[0]
        # torchrun's own store outlives the processes: those that it starts again must not read what the first ones set.
        return distributed.PrefixStore(f"nngpt_ext/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    except (ValueError, OSError, RuntimeError) as error:  # torch's errors of the network are RuntimeErrors
        raise UserError(
            f"{n} processes were to meet within {_MEETING.seconds // 60} minutes, and did not ({reason(error)}); "
            f"{_START}; if its port is in use, give the launcher another one"
        ) from None


def _has_card(local: int, store: Any) -> bool:
    """Whether the processes have GPUs; from now on each sees only its own one.

    Raises:
        UserError: if only some have one, or two have the same.
    """
    cards = os.environ.get("CUDA_VISIBLE_DEVICES")
    if cards != "":  # before torch asks for devices
        listed = [str(local)] if cards is None else cards.split(",")
        place = 0 if len(listed) == 1 else local  # a launcher may have given each process its own one
        os.environ["CUDA_VISIBLE_DEVICES"] = listed[place] if place < len(listed) else ""
    import torch

    own = str(torch.cuda.get_device_properties(0).uuid) if torch.cuda.is_available() else ""
    names, last = [f"card {i}" for i in range(_size)], time.monotonic() + _MEETING.seconds
    with _together():
        store.set(names[_rank], own)
        while not store.check(names):
            if store.check(["ended"]) or time.monotonic() > last:
                raise RuntimeError("before it said which GPU it has")
            time.sleep(0.05)
        found = [store.get(name).decode() for name in names]
    if any(found) and ("" in found or len(set(found)) < _size):
        what = "not each has a GPU" if "" in found else "some have the same GPU"
        raise UserError(f"{_size} processes were started, and {what}; start one for each GPU")
    return bool(own)


def forget_launcher() -> None:
    """Remove a launcher's variables, which transformers and accelerate would follow."""
    for name in [name for name in os.environ if name in _LAUNCHER or name.startswith(_LAUNCHERS)]:
        del os.environ[name]


def _end(store: Any, error: BaseException) -> NoReturn:
    """Raise the error again in the process that failed first; the others end as it does, without a word."""
    codes = {UserError: 2, KeyboardInterrupt: 130, SystemExit: getattr(error, "code", None)}
    own = first = f"{_rank} {codes.get(type(error), 1)}"
    with suppress(Exception):  # the process that holds the store may be gone
        first = store.compare_set("ended", "", own).decode()
    if first == own:
        raise error
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    raise SystemExit(int(first.split()[1])) from None


@contextmanager
def _silent(silent: bool) -> Iterator[None]:
    """Drop what is printed and logged in the block."""
    if not silent:
        yield
        return
    logging.disable()
    try:
        with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
            yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def _together() -> Iterator[None]:
    """A block in which processes wait for each other.

    Raises:
        UserError: if one of them is gone.
    """
    try:
        yield
    except RuntimeError as error:
        why = "" if "gloo" in str(error) else f" ({reason(error)})"  # gloo tells of its sockets only
        raise UserError(f"another process of this run ended{why}; {resuming()}") from None


def of_first(compute: Callable[[], T]) -> T:
    """What the first process computes, which the others wait for."""
    return compute() if _size == 1 else _told(compute() if is_first() else None, 0)


def of_each(value: T) -> list[T]:
    """What each process gives, by its number."""
    return [value] if _size == 1 else [_told(value, rank) for rank in range(_size)]


def _told(value: Any, source: int) -> Any:
    """The value that the process `source` has."""
    import torch
    from torch import distributed

    found = [value]
    with _together():
        distributed.broadcast_object_list(found, source, device=torch.device("cpu"))
    return found[0]


def check_same(what: str, own: Mapping[str, Any]) -> None:
    """Check that all processes have the same values; each may read a configuration and files of its own machine.

    Raises:
        UserError: if not; the line says what they are, and names the first ones that differ.
    """
    first, *others = of_each(dict(own))
    for rank, found in enumerate(others, 1):
        differ = [key for key in {**first, **found} if first.get(key) != found.get(key)]
        if differ:
            listed = ", ".join(
                f"{key} {shown(found.get(key))}, the first {shown(first.get(key))}" for key in differ[:3]
            )
            more = f", and {len(differ) - 3} more" if len(differ) > 3 else ""
            raise UserError(
                f"the processes of this run have different {what}: process {rank} has {listed}{more}; give all the same"
            )


def check_common(file: Path) -> None:
    """Check that all processes see what the first one writes beside `file`.

    Raises:
        UserError: if not; the line names the first that does not.
    """
    if _size == 1:
        return
    # Under a name that is cleared away if a kill leaves it: see `nngpt_ext.io.remove_leftovers`.
    folder, name = of_first(lambda: (str(file.parent), f".{file.name}.{os.urandom(4).hex()}.tmp"))
    place = file.with_name(name)
    try:
        if is_first():
            place.touch()
        last = time.monotonic() + _SEEN
        while not (sees := is_file(place)) and time.monotonic() < last:
            time.sleep(0.1)
        for rank, (host, seen) in enumerate(of_each((socket.gethostname(), sees))):
            if not seen:
                raise UserError(
                    f"process {rank} on {host} does not see '{folder}' of the first one; give all a folder that they "
                    f"share ({typed('--out', 'output_dir')})"
                )
    finally:
        if is_first():
            place.unlink(missing_ok=True)


def add_up(values: torch.Tensor) -> None:
    """Replace a tensor by its sum over all processes."""
    if _size > 1:
        from torch import distributed

        with _together():
            distributed.all_reduce(values)


def deal(amounts: Sequence[int], n: int) -> list[list[int]]:
    """Deal items to `n` processes, the largest first, each to the process that has least.

    Returns:
        The numbers of each process's items, in their order.
    """
    piles: list[tuple[int, int, list[int]]] = [(0, i, []) for i in range(n)]
    for item in sorted(range(len(amounts)), key=lambda i: -amounts[i]):
        total, i, items = piles[0]
        heapq.heapreplace(piles, (total + amounts[item], i, [*items, item]))
    return [sorted(items) for _, _, items in sorted(piles, key=lambda pile: pile[1])]
