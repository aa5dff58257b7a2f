from __future__ import annotations

from fractions import Fraction

import pytest

from stages.attacks.named import KNOWN, parse_attack, parse_attacks
from stages.attacks.threat import ThreatModel
from stages.errors import UsageError

THREAT = ThreatModel(Fraction(8, 255))


@pytest.mark.parametrize(
    ("name", "loss", "steps", "step_size", "random_start"),
    [
        ("fgsm", "ce", 1, 8 / 255, False),
        ("pgd-7", "ce", 7, 2 / 255, True),
        (" PGD-20 ", "ce", 20, 2 / 255, True),
        ("margin-pgd-20", "margin", 20, 2 / 255, True),
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


@pytest.mark.parametrize("name", ["pgd", "pgd-0", "pgd-07", "pgd--1", "pgd-1.5", "autoattack", "", "pgd-9999999"])
def test_an_unknown_name_is_refused_with_candidates(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown attack .*nearest: '.*known attacks: fgsm, pgd-N"):
        parse_attack(name)


def test_the_nearest_name_is_shown() -> None:
    with pytest.raises(UsageError, match="nearest: 'fgsm'"):
        parse_attack("fsgm")


def test_the_same_attack_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="'pgd-20' is given twice"):
        parse_attacks(["pgd-20", "fgsm", "PGD-20"])
