"""Typed errors: what happened, where, and what to do next; each type has an exit code."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable


class LaatError(Exception):
    """Base class of all errors for users.

    Args:
        what: what happened, where and why, as one sentence without a full stop.
        fix: what to type or change next; may be empty.

    `repeated`: with several processes, whether another one has already reported the same error.
    """

    exit_code = 1
    repeated: bool | None = None

    def __init__(self, what: str, fix: str = "") -> None:
        self.what = what
        self.fix = fix
        super().__init__(f"{what}; {fix}" if fix else what)


class UsageError(LaatError):
    """The command line (or a parameter of a stage) is wrong."""

    exit_code = 2


class InputError(LaatError):
    """A file, an artifact or a data set cannot be used as it is."""

    exit_code = 3


class MissingError(LaatError):
    """Something is not available: weights, a device, the network, an optional package."""

    exit_code = 4


class ComputeError(LaatError):
    """The computation failed, for example with a non-finite loss."""

    exit_code = 5


class RequirementError(LaatError):
    """A figure does not meet what was required of it (`laat eval --require`)."""

    exit_code = 6


class UnverifiedWarning(UserWarning):
    """A file has no digest: changes to it cannot be detected."""


def note_unverified(where: str) -> None:
    """Warn that the file named `where` has no digest."""
    text = f"{where} was written by an older laat without a digest: whether it was damaged or edited since is unverified"
    warnings.warn(text, UnverifiedWarning, stacklevel=3)


def nearest(name: str, candidates: Iterable[str], count: int = 3) -> str:
    """The `count` candidates most similar to `name`, quoted and comma-separated; the first ones if none is similar."""
    pool = list(candidates)
    close = difflib.get_close_matches(name, pool, n=count, cutoff=0.4) or pool[:count]
    return ", ".join(f"'{candidate}'" for candidate in close)


def require_at_least(name: str, value: float, minimum: float) -> None:
    """Raise UsageError unless `value` of the option or parameter `name` is a finite number of at least `minimum`."""
    if not minimum <= value < float("inf"):
        raise UsageError(f"{name} is {value:g}", f"choose at least {minimum:g}")


def require_above_zero(name: str, value: float) -> None:
    """Raise UsageError unless `value` of the option or parameter `name` is a finite number above zero."""
    if not 0 < value < float("inf"):
        raise UsageError(f"{name} is {value:g}", "choose a number above 0")
