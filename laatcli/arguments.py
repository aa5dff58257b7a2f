"""Arguments as they were typed, before they are parsed."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from stages.errors import UsageError

# a home folder at the beginning of a value: ~/x, --out=~/x, local-dir:~/x
_HOME = re.compile(r"^((?:--[a-z][a-z0-9-]*=)?(?:local-dir:)?)(~[^/]*)")


def typed_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments with home folders in full. Raises UsageError for an empty one: as a path it would be the current folder."""
    for at, text in enumerate(arguments):
        if not text:
            where = f"the argument after '{arguments[at - 1]}'" if at else "the first argument"
            raise UsageError(f"{where} is empty", "give a value, or leave it out")
        if text.startswith("--") and text.endswith("=") and text.count("=") == 1:
            raise UsageError(f"the value of {text[:-1]} is empty", "give a value, or leave it out")
    return [with_home(text) for text in arguments]


def with_home(text: str) -> str:
    """Text with the home folder that it begins with in full, as a shell expands a value without quotes."""
    return _HOME.sub(lambda found: found[1] + os.path.expanduser(found[2]), text)
