"""Reading TOML files, as strictly as other text from outside."""

from __future__ import annotations

import sys
from typing import Any

from stages.errors import UsageError
from stages.files.strict_json import check_values

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# the time that Python's parser needs grows with the square of the dots in a key
_MOST_BYTES, _MOST_DOTS = 2**18, 1000


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The tables of a TOML file. Raises UsageError with the place of the fault; `where` is how errors call the file."""
    if len(text.encode()) > _MOST_BYTES or any(line.count(".") > _MOST_DOTS for line in text.splitlines()):
        what = f"{where} is no list of options: it has over {_MOST_BYTES:,} bytes, or {_MOST_DOTS:,} dots in a line"
        raise UsageError(what, "fix or remove it")
    try:
        tables = tomllib.loads(text)
        check_values(tables)
    except ValueError as error:  # of TOML, of an integer with thousands of digits
        raise UsageError(f"{where} is not a TOML file: {error}", "fix or remove it") from None
    except RecursionError:
        raise UsageError(f"{where} is not a TOML file: nested too deeply", "fix or remove it") from None
    return tables
