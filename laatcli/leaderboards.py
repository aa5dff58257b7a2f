"""Leaderboards among the reports that a command is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.errors import UsageError

if TYPE_CHECKING:
    from stages.reports.leaderboard import Leaderboard


def only_leaderboard(sources: Sequence[Path]) -> Leaderboard | None:
    """The leaderboard, if the source is one; None for reports.

    Raises UsageError for a leaderboard beside other sources, InputError for one that is damaged.
    """
    from stages.reports.leaderboard import is_leaderboard, read_leaderboard

    if not any(map(is_leaderboard, sources)):
        return None
    if len(sources) > 1:
        raise UsageError("a leaderboard is shown alone", "name one file, or add reports to it with --leaderboard")
    return read_leaderboard(sources[0])


def refuse_leaderboards(sources: Sequence[Path], option: str) -> None:
    """Raise UsageError if one of the sources is a leaderboard, which `option` does not take."""
    from stages.reports.leaderboard import is_leaderboard

    if any(map(is_leaderboard, sources)):
        raise UsageError(f"{option} takes reports, and a leaderboard was given", "name reports of laat eval")
