"""Bounds of declared numbers."""

from __future__ import annotations

import re
from dataclasses import make_dataclass
from typing import Any

import pytest

from stages.errors import UsageError
from stages.evaluation.protocol import Protocol
from stages.parameters import check_value, declaration, parameter


def checked(value: Any, **bounds: Any) -> None:
    kind = make_dataclass("Kind", [("x", Any, parameter(0, "x", **bounds))])
    check_value("x", declaration(kind.__dataclass_fields__["x"]), value)


@pytest.mark.parametrize("value", [2**31, -(2**31), 2**63, 10**30, 10**5000], ids=lambda value: f"{value.bit_length()} bits")
def test_whole_numbers_are_bounded_unless_declared_otherwise(value: int) -> None:
    with pytest.raises(
        UsageError, match=r"--x is (-?\d{10,31}|a number of more than 40 digits); choose at (most |least -)2147483647"
    ):
        checked(value)


def test_numbers_within_their_bounds() -> None:
    for value in (0, -1, 2**31 - 1, True, None, 1e38, "text"):
        checked(value)
    checked(2**63 - 1, below=2**63)


@pytest.mark.parametrize(
    ("value", "bounds", "fix"),
    [
        (2**63, {"below": 2**63}, f"at most {2**63 - 1}"),
        (16, {"below": 16}, "at most 15"),
        (-16, {"below": 16}, "at least -15"),
        (-16, {"below": 16, "at_least": 0}, "at least 0"),
        (2**63, {"at_least": 2}, "at most 2147483647"),
        (-(2**63), {"at_least": 2}, "at least 2"),
        (-1e300, {}, "at least -3e+38"),
        (1e300, {"at_least": 0}, "at most 3e+38"),
        (-1e300, {"at_least": 0}, "at least 0"),
        (-1e300, {"positive": True}, "a number above 0"),
    ],
)
def test_the_end_that_was_passed_is_named(value: float, bounds: dict[str, Any], fix: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"; choose {fix}") + "$"):
        checked(value, **bounds)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_are_finite(value: float) -> None:
    with pytest.raises(UsageError, match=r"--x is -?(nan|inf); choose a finite number"):
        checked(value)


@pytest.mark.parametrize("numbers", [{"ways": 1}, {"ways": 0}, {"queries": 0}, {"episodes": 0}, {"episodes": 10**8}])
def test_a_protocol_has_at_least_two_candidates(numbers: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(numbers))} is "):
        Protocol("episodes", **numbers)
