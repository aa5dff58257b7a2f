"""Where a command writes: nowhere twice, and not over what it reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stages import artifacts
from stages.errors import UsageError

# what the file is to the user, and where; None and - are nowhere
Place = tuple[str, Path | str | None]


def check_places(outputs: Iterable[Place], inputs: Iterable[Place]) -> None:
    """Refuse outputs that cannot be written, before the work begins.

    Raises:
        UsageError: two outputs in one file, or one in a file that is read, naming both.
        MissingError: a place that cannot be written.
    """
    taken: dict[Path, str] = {}
    for name, path in outputs:
        if path is None or str(path) == artifacts.STDIO:
            continue
        artifacts.check_writable(path)
        place = Path(path).resolve()
        if place.exists() and not place.is_file():  # a device or a pipe is not replaced
            continue
        if place in taken:
            raise UsageError(f"{taken[place]} and {name} name the same file", "name two files")
        taken[place] = name
    for name, path in inputs:
        place = Path(path or artifacts.STDIO).resolve()
        if path is not None and place in taken:
            raise UsageError(f"{taken[place]} would replace '{path}', which {name} reads", "choose another place for it")
