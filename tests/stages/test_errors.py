from __future__ import annotations

import math

import pytest

from stages.errors import (
    ComputeError,
    InputError,
    LaatError,
    MissingError,
    RequirementError,
    UsageError,
    nearest,
    require_above_zero,
    require_at_least,
)


@pytest.mark.parametrize(
    ("kind", "code"), [(UsageError, 2), (InputError, 3), (MissingError, 4), (ComputeError, 5), (RequirementError, 6)]
)
def test_each_kind_has_its_exit_code(kind: type[LaatError], code: int) -> None:
    error = kind("it broke", "mend it")
    assert isinstance(error, LaatError)
    assert (error.exit_code, error.what, error.fix) == (code, "it broke", "mend it")
    assert str(error) == "it broke; mend it"
    assert str(kind("it broke")) == "it broke"


def test_nearest_names_what_looks_alike() -> None:
    assert nearest("aple", ["bear", "apple", "baby"], 1) == "'apple'"
    # nothing is near: whatever there is, so that the reader sees what the names look like
    assert nearest("zzz", ["bear", "apple"]) == "'bear', 'apple'"
    assert nearest("zzz", []) == ""


@pytest.mark.parametrize("value", [-1, 0.999, math.nan, math.inf, -math.inf])
def test_at_least(value: float) -> None:
    with pytest.raises(UsageError, match=r"--epochs is .*; choose at least 1"):
        require_at_least("--epochs", value, 1)


@pytest.mark.parametrize("value", [0, -0.5, math.nan, math.inf])
def test_above_zero(value: float) -> None:
    with pytest.raises(UsageError, match="choose a number above 0"):
        require_above_zero("--lr", value)


def test_sound_numbers_pass() -> None:
    require_at_least("--epochs", 1, 1)
    require_above_zero("--lr", 1e-9)
