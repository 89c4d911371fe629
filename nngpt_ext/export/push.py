"""Pushing a folder to the model hub: only where it was asked for."""

from __future__ import annotations

import re
from pathlib import Path

from nngpt_ext.errors import UserError

_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def check_repo(repo: str) -> None:
    """See that a repository's name is one, and that there is a token, before anything is written.

    Raises:
        UserError: when not.
    """
    from huggingface_hub import get_token

    if not _ID.fullmatch(repo):
        raise UserError(f"'{repo}' is no name of a repository: --push OWNER/NAME")
    if not get_token():
        raise UserError("no token for the hub: set HF_TOKEN, or type hf auth login; without --push nothing is pushed")


def push(folder: Path, repo: str, kind: str, *, private: bool = False, endpoint: str | None = None) -> str:
    """Upload a folder; the repository is made where there is none.

    Args:
        folder: what to upload.
        repo: `owner/name`.
        kind: `model` or `dataset`.
        private: whether a new repository is.
        endpoint: of the hub, if not the usual one.

    Returns:
        The address of the commit.

    Raises:
        UserError: when the hub cannot be reached or refuses; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint)
    try:
        api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        done = api.upload_folder(
            folder_path=folder, repo_id=repo, repo_type=kind, commit_message=f"nngpt-ext export: {folder.name}"
        )
    except Exception as error:  # of the hub's client, of what it sends requests with, and of the system
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise UserError(f"'{folder}' is written, but not pushed to '{repo}': {reason}") from None
    return str(done.commit_url)
