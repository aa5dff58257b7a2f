"""Commands whose options come from a declaration in a dataclass."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import pytest
import typer

from laatcli.command import command, guarded
from laatcli.console import Console
from stages.parameters import check, parameter


@dataclass(frozen=True)
class Choices:
    count: int = parameter(3, "How many [of them].", at_least=1)
    share: float = parameter(0.5, "A share.", option="part-share", below=1)
    rate: float | None = parameter(None, "A rate.", positive=True, unset="none")
    kind: str = parameter("round", "The kind.", choices=("round", "square"))
    eps: Fraction = parameter(Fraction(1, 2), "A fraction.", parse=Fraction)
    names: list[str] | None = parameter(None, "Names.")
    fast: bool = parameter(True, "Fast.")
    hidden: int = 7

    def __post_init__(self) -> None:
        check(self)


def ran(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[Any, str, str]:
    app = typer.Typer()
    app.callback()(lambda: None)

    def show(console: Console, choices: Choices, other: int = parameter(1, "Another.", at_least=1)) -> None:
        """Show them."""
        console.result({**asdict(choices), "eps": str(choices.eps), "other": other})

    command(app, "show", ["laat show"], "Panel")(show)
    code = app(["show", *args], standalone_mode=False)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_each_field_is_an_option_and_the_command_gets_the_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(ran(capsys, "--json")[1]) == {
        "count": 3,
        "share": 0.5,
        "rate": None,
        "kind": "round",
        "eps": "1/2",
        "names": None,
        "fast": True,
        "hidden": 7,
        "other": 1,
    }
    args = [
        "--count",
        "2",
        "--part-share",
        "0.25",
        "--rate",
        "2",
        "--kind",
        "square",
        "--eps",
        "1/3",
        "--names",
        "a",
        "--names",
        "b",
        "--no-fast",
        "--other",
        "4",
        "--json",
    ]
    assert list(json.loads(ran(capsys, *args)[1]).values()) == [2, 0.25, 2.0, "square", "1/3", ["a", "b"], False, 7, 4]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--count", "0"), "--count is 0. Choose at least 1"),
        (("--part-share", "1"), "--part-share 1 is not below 1. Give a number below 1"),
        (("--other", "0"), "--other is 0. Choose at least 1"),
        (("--rate", "0"), "--rate is 0. Choose a number above 0"),
        (("--kind", "oval"), "unknown --kind 'oval'. Choose one of round, square"),
    ],
)
def test_the_declared_bounds_hold(capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str) -> None:
    code, out, err = ran(capsys, *args)
    assert (code, out) == (2, "")
    assert err.strip() == f"error: {message}"


@pytest.mark.parametrize(
    ("error", "advised"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory"), True),
        (RuntimeError("no kernel"), False),
        (RecursionError(), False),
    ],
)
def test_a_smaller_batch_is_advised_only_when_memory_ran_out(
    capsys: pytest.CaptureFixture[str], error: Exception, advised: bool
) -> None:
    def fail() -> None:
        raise error

    assert guarded(fail, Console()) == 5
    assert ("Try a smaller --batch-size" in capsys.readouterr().err) == advised


def test_help_comes_from_the_declaration(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ran(capsys, "--help")
    for text in ("How many [of them].", "--part-share", "[default: none]", "[default: 1/2]", "--no-fast"):
        assert text in out
    assert "hidden" not in out
