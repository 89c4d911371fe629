"""Several processes that train one run, each with its own device: what torchrun and accelerate launch start.

Each process has the whole model. The rows of a step and the questions to be scored are dealt to them; gradients and
log-odds are summed, so all have the same weights. Only the first one writes files and messages.
"""

from __future__ import annotations

import heapq
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from nngpt_ext.errors import UserError, reason, resuming

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

# What launchers set. transformers and accelerate would wrap the model and divide the steps if they saw it.
_LAUNCHER = {
    "GROUP_RANK", "GROUP_WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RANK",
    "ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE", "WORLD_SIZE",
}  # fmt: skip
_LAUNCHERS = ("ACCELERATE_", "FSDP_", "TORCHELASTIC_")  # beginnings of further ones
_START = "start the processes with torchrun --nproc-per-node N or accelerate launch"
_MEETING = timedelta(minutes=5)  # that the first process waits for the others to start
_LONGEST = timedelta(days=1)  # that a process waits for the others, for example while the first one fits baselines
_rank, _size = 0, 1


def launched() -> tuple[int, int]:
    """This process's number and their count, as a launcher set them; (0, 1) without one, and after `joined`."""
    given = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE")]
    return (int(given[0]), int(given[1])) if all(map(str.isdecimal, given)) else (0, 1)


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
    if (n := max(launched()[1], _size)) > 1:
        raise UserError(f"{n} processes cannot share {what}; {advice}")


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that a launcher started; a process that was started alone runs the block as it is.

    On a machine with GPUs each process sees only its own one. The launcher's variables are removed for good. In all
    processes but the first, the block's output is dropped. If the block fails in one of them, it ends in all, with the
    same exit code, and only the first error is shown.

    Raises:
        UserError: if some processes have a GPU and others have none, and if they do not find each other.
    """
    global _rank, _size
    rank, n = launched()
    if not 0 <= rank < n:
        raise UserError(f"RANK is {rank} of a WORLD_SIZE of {n}; {_START}, or unset both variables")
    if n == 1:
        _forget_launcher()
        yield
        return
    local = int(os.environ.get("LOCAL_RANK", rank))
    cards = os.environ.get("CUDA_VISIBLE_DEVICES")
    if cards != "":  # before torch asks for devices
        listed = cards.split(",") if cards else [str(i) for i in range(local + 1)]
        os.environ["CUDA_VISIBLE_DEVICES"] = listed[local] if local < len(listed) else ""
    import torch
    from torch import distributed

    store = _meeting(n)
    _forget_launcher()
    has_card = torch.cuda.is_available()
    _rank, _size = rank, n
    try:
        with _silent(rank > 0):
            store.set(f"card {rank}", str(has_card))
            if len({store.get(f"card {i}") for i in range(n)}) > 1:
                raise UserError(f"{n} processes were started, and not each has a GPU; start one for each GPU")
            backend = "cpu:gloo,cuda:nccl" if has_card else "gloo"
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
        return next(distributed.rendezvous("env://", timeout=_MEETING))[0]
    except (ValueError, OSError, RuntimeError) as error:  # torch's errors of the network are RuntimeErrors
        raise UserError(
            f"{n} processes were to meet within {_MEETING.seconds // 60} minutes, and did not ({reason(error)}); "
            f"{_START}; if its port is in use, give the launcher another one"
        ) from None


def _forget_launcher() -> None:
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
    if _size == 1:
        return compute()
    import torch
    from torch import distributed

    found: list[Any] = [compute() if is_first() else None]
    with _together():
        distributed.broadcast_object_list(found, device=torch.device("cpu"))
    return found[0]  # type: ignore[no-any-return]


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
