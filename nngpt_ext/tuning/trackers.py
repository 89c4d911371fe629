"""Trackers that follow a training: one that cannot be used ends a run before it trains, and no run that trains."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from nngpt_ext.errors import UserError, reason, typed

log = logging.getLogger(__name__)

_EVENTS = tuple(name for name in dir(TrainerCallback) if name.startswith("on_"))
_BEGIN = "on_train_begin"  # when a tracker connects


def guard_trackers(callbacks: list[TrainerCallback]) -> None:
    """Have the errors of transformers' trackers among a trainer's callbacks told in a line.

    One that comes when training begins is a `UserError`; after a later one, the tracker is left alone.
    """
    for one in callbacks:
        if type(one).__module__.startswith("transformers.integrations"):
            _guard(one)


def _guard(tracker: TrainerCallback) -> None:
    name, given_up = type(tracker).__name__.removesuffix("Callback").lower(), False

    def guarded(event: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any, **named: Any) -> Any:
            nonlocal given_up
            if given_up:
                return None
            try:
                return call(*given, **named)
            except Exception as error:  # of an HTTP library, a database, a file system
                if event == _BEGIN:
                    go_on = typed("--set tuning.report_to=[] --resume", 'tuning={"report_to": []}, resume=True')
                    raise UserError(
                        f"tuning.report_to: {name} cannot be used ({reason(error)}); mend that, or go on without: "
                        f"{go_on}"
                    ) from None
                given_up = True
                log.warning("tuning.report_to: %s failed (%s); the training goes on without it", name, reason(error))
                return None

        return called

    for event in _EVENTS:
        setattr(tracker, event, guarded(event, getattr(tracker, event)))
