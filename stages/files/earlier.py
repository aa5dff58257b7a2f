"""The artifact that an output already is: the same one is up to date, and no other is replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from stages.errors import InputError, UsageError
from stages.files import artifacts
from stages.files.artifacts import Artifact
from stages.files.reading import STDIO
from stages.identity import CHOOSE_OR_FORCE


def earlier_artifact(output: Path, what: str, is_one: Callable[[Artifact], bool]) -> Artifact | None:
    """The artifact at `output`; None if there is no file.

    Args:
        output: where the command writes.
        what: what may be there, for the error, for example "an earlier calibration of this model".
        is_one: whether an artifact is that.

    Raises:
        UsageError: an artifact of something else.
        InputError: the file is damaged or no artifact.
    """
    if str(output) == STDIO or not output.is_file():
        return None
    try:
        found = artifacts.read(output)
    except InputError as error:
        raise InputError(error.what, CHOOSE_OR_FORCE) from None
    if not is_one(found):
        raise UsageError(f"'{output}' is not {what}", CHOOSE_OR_FORCE)
    return found


def write_or_keep(made: Artifact, output: Path, earlier: Artifact | None, other: str) -> tuple[Artifact, bool]:
    """Write an artifact, unless the `earlier` one at `output` is the same, whichever version of laat wrote it.

    Returns it, and whether it was there.

    Raises UsageError if the earlier one is another, which `other` names, and what `artifacts.write` raises.
    """
    if earlier is None:
        return artifacts.write(made, output), False
    if artifacts.to_bytes(replace(made, tool=earlier.tool)) != artifacts.to_bytes(earlier):
        raise UsageError(f"'{output}' is {other}", CHOOSE_OR_FORCE)
    return earlier, True
