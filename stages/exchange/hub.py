"""Repositories of the Hugging Face hub: their names, what is in them, and errors that say what to set."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stages.clip_weights import CONFIG, quiet, reason_of
from stages.errors import InputError, LaatError, MissingError, UsageError

PREFIX = "hf-hub:"
CHECKPOINT = "model.st"
CARD = "README.md"
# how clients that raise plain errors of the network spell the status of an answer
_ANSWER = re.compile(r"\b[45]\d\d [A-Z]")
# the first request; the client would retry others for half a minute
_TIMEOUT = 10.0
# as the hub allows them: no sign at either end, no two in a row of - or .
_PART = r"(?!\S*(?:--|\.\.))[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_NAME = re.compile(rf"{_PART}/{_PART}")
_REVISION = re.compile(r"(?!\S*\.\.)[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,198}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Repository:
    """A model repository of the hub: `ORG/NAME`, and a branch, tag or commit (None: its main branch)."""

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name

    @classmethod
    def parse(cls, text: str, revision: str | None = None) -> Repository:
        """The repository that 'ORG/NAME', 'ORG/NAME@REVISION', or either with 'hf-hub:' before it names.

        Raises UsageError for a name that the hub does not have, without asking it, and for a revision that is given twice.
        """
        name, at, after = text.removeprefix(PREFIX).partition("@")
        if not _NAME.fullmatch(name) or name.endswith(".git"):
            fix = "write it as ORG/NAME, with letters, digits, '-', '_' and '.', or as ORG/NAME@REVISION"
            raise UsageError(f"'{name}' is not the name of a hub repository", fix)
        if at and revision is not None:
            raise UsageError(f"the revision is given twice, by '{text}' and by --revision", "leave one of them out")
        revision = after if at else revision
        if revision is not None and not _REVISION.fullmatch(revision):
            raise UsageError(f"'{revision}' is not a revision of a hub repository", "give a branch, a tag or a commit")
        return cls(name, revision)


@dataclass(frozen=True)
class Listing:
    """What is in a repository now: the commit, the names of its files, and whether others cannot see it."""

    commit: str
    files: tuple[str, ...]
    private: bool


def checkpoint_in(repository: Repository, progress: Callable[[str], None] | None = None) -> Path | None:
    """The checkpoint `model.st` of a repository, from the cache if it is there; None if the repository has none.

    A cached one is not compared with the hub's: `laat pull` does that.

    Args:
        repository: its name and revision.
        progress: called with what is downloaded.

    Raises MissingError if it is not in the cache and the hub cannot be reached or refuses; InputError for a revision that the
    repository does not have.
    """
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repository.name, CHECKPOINT, revision=repository.revision)
    if isinstance(cached, str):
        return Path(cached)
    if cached is not None or isinstance(try_to_load_from_cache(repository.name, CONFIG, revision=repository.revision), str):
        return None
    if CHECKPOINT not in list_repository(repository).files:
        return None
    if progress is not None:
        progress(f"downloading {CHECKPOINT} of {repository}")
    return download(repository, CHECKPOINT)


def list_repository(repository: Repository) -> Listing:
    """What is in a repository. Raises MissingError and InputError, see `checkpoint_in`."""
    from huggingface_hub import HfApi

    with asking(repository):
        found = HfApi().model_info(repository.name, revision=repository.revision, timeout=_TIMEOUT)
    names = tuple(one.rfilename for one in found.siblings or ())
    return Listing(found.sha or "", names, bool(found.private))


def download(repository: Repository, name: str) -> Path:
    """One file of a repository, in the cache. Raises MissingError and InputError, see `checkpoint_in`."""
    from huggingface_hub import hf_hub_download

    with asking(repository):
        return Path(hf_hub_download(repository.name, name, revision=repository.revision))


@contextmanager
def asking(repository: Repository, *, write: bool = False) -> Iterator[None]:
    """A context for requests to the hub: the client prints nothing, and its errors become ours.

    Args:
        repository: that the requests are about.
        write: whether they change it.

    Raises MissingError if the hub cannot be reached or refuses, InputError for what it finds wrong.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with quiet():
            yield
    except LaatError:
        raise
    except Exception as error:  # the client raises those of its HTTP library, OSError, ValueError and its own
        raise _explained(error, repository, write) from error
    finally:
        if shown:
            enable_progress_bars()


def _explained(error: Exception, repository: Repository, write: bool) -> LaatError:
    """What an error of the hub's client means for the user."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    kind = "write" if write else "read"
    match error:
        case OfflineModeIsEnabled():
            return MissingError(
                f"'{repository}' needs the hub, which is switched off by HF_HUB_OFFLINE", "unset HF_HUB_OFFLINE"
            )
        case RevisionNotFoundError():
            what = f"the repository '{repository.name}' has no revision '{repository.revision}'"
            return InputError(what, "give a branch, a tag or a commit of it")
        case HfHubHTTPError() if status in (401, 403) or isinstance(error, RepositoryNotFoundError):
            what = f"the hub has no repository '{repository.name}' that you may {kind}"
            log_in = f"log in with `hf auth login`, or set HF_TOKEN to a token with {kind} access"
            return MissingError(what, f"check the name; if it is right, {log_in}")
        case ValueError() if not isinstance(error, HfHubHTTPError):
            return InputError(f"the hub refuses '{repository}': {' '.join(str(error).split())[:200]}", "correct that")
    reason = reason_of(error)
    if isinstance(error, HfHubHTTPError) or _ANSWER.search(reason):
        fix = (
            "if this hub has no xet storage, as mirrors may not, set HF_HUB_DISABLE_XET=1"
            if "xet" in reason
            else "try again later"
        )
        return MissingError(f"the hub at {constants.ENDPOINT} answers with an error: {reason}", fix)
    return MissingError(
        f"the hub at {constants.ENDPOINT} cannot be reached: {reason}",
        "connect to the network, or set HF_ENDPOINT to a mirror; what was pulled before is also read without a network",
    )
