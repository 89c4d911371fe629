"""The description of the service (OpenAPI): what FastAPI does not know of requests, answers and errors."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from nngpt_ext.serve.guard import HEALTH, PAGE
from nngpt_ext.serve.requests import Problem
from nngpt_ext.serve.service import ASKED

PROBLEM, LINES = "application/problem+json", "application/x-ndjson"
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words}
    for status, words in {
        400: "Malformed JSON", 401: "No token", 403: "Another origin", 404: "There is no such place, or no store",
        405: "Another method", 408: "It did not arrive in time", 413: "Too large", 415: "Not JSON", 421: "Another host",
        422: "Invalid", 429: "Busy: see Retry-After", 500: "A fault of the server",
        503: "Too many connections, or no store for now: see Retry-After", 504: "No answer within the deadline",
    }.items()
}  # fmt: skip
_OPEN = (HEALTH, PAGE)  # without a token
_COMPARISON = {
    "dataset_1": "mnist", "dataset_2": "svhn", "winner": "mnist", "probability": 0.93, "log_odds": 2.41,
    "flipped": False, "abstain": False, "model": "embedded-2m+1c0ffee2", "nn": "Net", "unseen": [], "cut_to": None,
    "source_tokens": None, "is_module": True, "explanation": None,
}  # fmt: skip
_RANKING = {
    "datasets": ["mnist", "svhn"], "scores": {"mnist": 1.2, "svhn": -1.2}, "probability": 0.93,
    "probabilities": {"mnist": 0.93, "svhn": 0.07}, "over_next": {"mnist": 0.93}, "intransitive": None,
    "comparisons": [{name: value for name, value in _COMPARISON.items() if name != "explanation"}],
    "model": "embedded-2m+1c0ffee2", "nn": "Net", "abstain": False, "unseen": [], "flipped": 0, "explanation": None,
}  # fmt: skip
_SCORED = {
    "number": 0, "ranking": {name: value for name, value in _RANKING.items() if name != "explanation"}, "error": None,
}  # fmt: skip
_HASH = "1c0ffee2" * 8
_PREDICTION = {
    "question": _HASH, "nn": "Net", "source": _HASH, "epoch": 5, "dataset_1": "mnist", "dataset_2": "svhn",
    "given_1": "", "given_2": "", "log_odds": 2.41, "probability_1": 0.918, "calibrated_1": 0.93, "flipped": False,
    "abstain": False, "cut": False, "source_tokens": None, "predicted": "mnist", "better_dataset": None,
    "prompt": "code_only", "prompt_hash": _HASH, "adapter": _HASH, "calibration": _HASH, "base_model": "embedded-2m",
    "tuning_epoch": None, "split": None, "created": "2026-11-30T12:00:00.000Z",
}  # fmt: skip
_SERVED = {
    "name": "demo", "model": "embedded-2m+1c0ffee2", "prompt": "code_only", "datasets": ["mnist", "svhn"], "needs": [],
    "threshold": 0.852, "tested": None,
}  # fmt: skip
_ANSWERS = dict(zip(ASKED, (_COMPARISON, _RANKING, _SCORED), strict=True)) | {
    "/v1/predictions": [_PREDICTION], "/v1/adapters": [_SERVED], HEALTH: {"status": "ok", "version": "0.1.0"},
}  # fmt: skip


def described(app: FastAPI, token: str | None) -> dict[str, Any]:
    """The schema, with the media types of the answers, an example of each, and the token."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for path, operations in found["paths"].items():
            for one in operations.values():
                for status, response in one["responses"].items():
                    (content,) = response["content"].values()
                    kind = PROBLEM if int(status) >= 400 else LINES if path == ASKED[-1] else None
                    if kind is not None:
                        response["content"] = {kind: content}
                    if status == "200" and path in _ANSWERS:
                        content["example"] = _ANSWERS[path]
                if token is not None and path in _OPEN:
                    one["security"] = []
        bearer = {"type": "http", "scheme": "bearer", "description": "the content of the server's --token-file"}
        found["components"]["securitySchemes"] = {"token": bearer}
        if token is not None:
            found["security"] = [{"token": []}]
        app.openapi_schema = found
    return app.openapi_schema
