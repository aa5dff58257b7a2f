"""Parameters that are declared once: a dataclass field carries its help, bounds and choices.

The command line, laat.toml, recipes, `--dry-run` and the checks all read this declaration.
"""

from __future__ import annotations

import keyword
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from stages.errors import UsageError, require_above_zero, require_at_least

WHOLE = 2**31  # bound of whole numbers, unless declared otherwise
REAL = 3e38  # of all others: float32 has no larger ones
SEEDS = 2**63
MOST_SCALE = 1e6  # of logits
_KEY = "parameter"


@dataclass(frozen=True)
class Parameter:
    """What is known of one parameter, besides its name, type and default; see `parameter`."""

    help: str
    option: str
    short: tuple[str, ...]
    panel: str | None
    unset: str
    at_least: float | None
    positive: bool
    below: float | None
    at_most: float | None
    choices: Sequence[str]
    parse: Callable[[str], Any] | None
    places: Sequence[str] | None


def parameter(
    default: Any,
    help: str,
    *,
    option: str = "",
    short: tuple[str, ...] = (),
    panel: str | None = None,
    unset: str = "",
    at_least: float | None = None,
    positive: bool = False,
    below: float | None = None,
    at_most: float | None = None,
    choices: Sequence[str] = (),
    parse: Callable[[str], Any] | None = None,
    places: Sequence[str] | None = None,
) -> Any:
    """A dataclass field that is a parameter.

    Args:
        default: its default.
        help: what it means, one line.
        option: its name on the command line, without dashes, where that is not the field's.
        short: other names on the command line, with their dashes.
        panel: the heading in `--help` that it is listed under.
        unset: what a default of None means, for `--help`.
        at_least, positive, below, at_most: bounds of a number: smallest value, above zero, upper limit, largest value.
        choices: the values that it can have.
        parse: from the text on the command line to the value; str(default) must be such a text.
        places: of text that may be a path: the names that it may be instead. None: it is no path.
    """
    declared = Parameter(help, option, short, panel, unset, at_least, positive, below, at_most, choices, parse, places)
    return field(default=default, metadata={_KEY: declared})


def same_parameter(kind: Any, name: str, **changes: Any) -> Any:
    """A dataclass field that is the parameter `name` of another dataclass, with `changes` of what was declared there."""
    shared = next(one for one in fields(kind) if one.name == name)
    return field(default=shared.default, metadata={_KEY: replace(declaration(shared), **changes)})


def declaration(declared: Field[Any]) -> Parameter:
    """What `parameter` declared of a field."""
    found: Parameter = declared.metadata[_KEY]
    return found


def parser_name(option: str) -> str:
    """The name of an option in Python: `--batch-size` is batch_size, and `--as`, a keyword, is as_."""
    name = option.replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


def parameters(kind: Any) -> Iterator[tuple[Field[Any], Parameter, str]]:
    """The fields of a dataclass that are parameters: field, declaration, and its option without dashes."""
    for declared in fields(kind):
        if _KEY in declared.metadata:
            about = declaration(declared)
            yield declared, about, about.option or declared.name.replace("_", "-")


def check(values: Any) -> None:
    """Check a dataclass object against the declared bounds and choices; None is not checked. Raises UsageError."""
    for declared, about, option in parameters(values):
        check_value(option, about, getattr(values, declared.name))


def check_value(option: str, about: Parameter, value: Any) -> None:
    """Check one value against the bounds and choices declared for it; None is not checked. Raises UsageError.

    Every number must be finite and at most 3e38; whole ones lie between -2^31 and 2^31, or within `below` for both signs.
    """
    if value is None:
        return
    name = f"--{option}"
    if about.choices and value not in about.choices:
        raise UsageError(f"unknown {name} '{value}'", f"choose one of {', '.join(about.choices)}")
    if isinstance(value, int) and not isinstance(value, bool):
        _check_ends(name, value, about.at_least, math.ceil(WHOLE if about.below is None else about.below) - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{name} is {value}", "choose a finite number")
    if about.at_least is not None:
        require_at_least(name, value, about.at_least)
    if about.positive:
        require_above_zero(name, float(value))
    if isinstance(value, float):
        _check_ends(name, value, about.at_least, REAL if about.at_most is None else about.at_most)
    if about.below is not None and not value < about.below:
        raise UsageError(f"{name} {float(value):g} is not below {about.below:g}", f"give a number below {about.below:g}")


def _check_ends(name: str, value: float, least: float | None, most: float) -> None:
    """Both ends belong to what is allowed; without a least value the numbers go as far below zero as above."""
    least = -most if least is None else least
    if not least <= value <= most:
        form = "g" if isinstance(value, float) else ""
        shown = f"{value:{form}}" if abs(value) < 10**40 or form else "a number of more than 40 digits"
        end = f"at least {least:{form}}" if value < least else f"at most {most:{form}}"
        raise UsageError(f"{name} is {shown}", f"choose {end}")
