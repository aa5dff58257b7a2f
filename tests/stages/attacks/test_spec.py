from __future__ import annotations

from fractions import Fraction

import pytest

from stages.attacks.spec import KNOWN, parse_attack, parse_attacks
from stages.errors import UsageError
from stages.threat import ThreatModel

THREAT = ThreatModel(Fraction(8, 255))


@pytest.mark.parametrize(
    ("name", "loss", "steps", "step_size", "random_start"),
    [
        ("fgsm", "ce", 1, 8 / 255, False),
        ("pgd-7", "ce", 7, 2 / 255, True),
        (" PGD-20 ", "ce", 20, 2 / 255, True),
        ("margin-pgd-20", "margin", 20, 2 / 255, True),
        ("dlr-pgd-10", "dlr", 10, 2 / 255, True),
        ("cw-linf", "cw", 30, 0.8 / 255, True),
    ],
)
def test_names_mean_the_published_settings(name: str, loss: str, steps: int, step_size: float, random_start: bool) -> None:
    spec = parse_attack(name)
    assert (spec.loss, spec.steps, spec.random_start) == (loss, steps, random_start)
    assert spec.step_size(THREAT) == pytest.approx(step_size, rel=1e-12)
    assert spec.to_record()["name"] == name.strip().lower()


def test_every_known_name_parses_to_itself() -> None:
    assert tuple(spec.name for spec in parse_attacks(KNOWN)) == KNOWN


@pytest.mark.parametrize(
    "name",
    [
        "pgd",
        "pgd-0",
        "pgd-07",
        "pgd--1",
        "pgd-1.5",
        "pgd-20x1",
        "pgd-20x0",
        "pgd-20x",
        "fgsmx5",
        "dlr-pgd",
        "autoattack",
        "",
        "pgd-9999999",
    ],
)
def test_an_unknown_name_is_refused_with_candidates(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown attack .*nearest: '.*known attacks: fgsm, pgd-N"):
        parse_attack(name)


@pytest.mark.parametrize("name", ["pgd-20x5", "margin-pgd-20x12", "dlr-pgd-3x2"])
def test_restarts_are_in_the_name_and_the_record(name: str) -> None:
    spec = parse_attack(name.upper())
    assert spec.name == name
    assert spec.restarts == int(name.split("x")[1])
    assert spec.to_record()["restarts"] == spec.restarts
    once = parse_attack(name.split("x", maxsplit=1)[0])
    assert once.restarts == 1
    assert spec.stream(0) == once.stream(0) == f"attack/{once.name}"
    assert spec.stream(2) == f"attack/{once.name}/restart 2"


def test_what_an_attack_is_not_made_for_is_refused_with_a_way_out() -> None:
    for name in KNOWN:
        parse_attack(name).check_fits(THREAT, 4)
        parse_attack(name).check_fits()
    parse_attack("margin-pgd-20").check_fits(ThreatModel(Fraction(1, 2), "L2"), 2)
    with pytest.raises(UsageError, match="cw-linf is an L-inf attack, not one in L2; use margin-pgd-N"):
        parse_attack("cw-linf").check_fits(ThreatModel(Fraction(1, 2), "L2"))
    with pytest.raises(UsageError, match="dlr-pgd-20 needs at least 4 candidate classes, and there are 3; use the margin"):
        parse_attack("dlr-pgd-20").check_fits(THREAT, 3)


def test_the_nearest_name_is_shown() -> None:
    with pytest.raises(UsageError, match="nearest: 'fgsm'"):
        parse_attack("fsgm")


def test_the_same_attack_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="'pgd-20' is given twice"):
        parse_attacks(["pgd-20", "fgsm", "PGD-20"])
