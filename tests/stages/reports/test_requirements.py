"""Requirements on the figures of a report: what they may say, and what meets them."""

from __future__ import annotations

import numpy as np
import pytest

from stages.errors import RequirementError, UsageError
from stages.reports.requirements import figures_of, parse_requirements, require
from tests.stages.reports.test_plots import gzsl_report
from tests.stages.reports.test_report import report

ATTACKS = ("pgd-20", "fgsm")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("worst", "is not a requirement"),
        ("worst>=", "is not a requirement"),
        ("worst=>30", "is not a requirement"),
        ("worst==30", "is not a requirement"),
        ("30<=worst", "is not a requirement"),
        ("worst>=-1", "is not a requirement"),
        ("worst>=nan", "is not a requirement"),
        ("worst>=1e1", "is not a requirement"),
        ("", "is not a requirement"),
        ("worst>=101", "no accuracy is above 100 %"),
        ("worst>=0.3", "write worst>=30, or worst>=0.3% if you mean it"),
        ("pgd-10>=3", "it measures 'clean', 'pgd-20', 'fgsm', 'worst'"),
        ("worst H>=3", "--protocol gzsl"),
        ("median of worst>=3", "does not measure"),
    ],
)
def test_what_is_no_requirement_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match="--require") as refused:
        parse_requirements([text], ATTACKS)
    assert says in str(refused.value)


def test_the_worst_case_needs_an_attack() -> None:
    parse_requirements(["clean>=3"], ())
    with pytest.raises(UsageError, match="no attack is run"):
        parse_requirements(["worst>=3"], ())


@pytest.mark.parametrize(
    ("text", "measure", "end", "sign", "percent"),
    [
        ("worst>=30", "worst", None, ">=", 30),
        (" Worst > 0.3 % ", "worst", None, ">", 0.3),
        ("lower bound of  PGD-20<=28.5", "pgd-20", "low", "<=", 28.5),
        ("upper bound of clean<100", "clean", "high", "<", 100),
    ],
)
def test_a_requirement_is_read(text: str, measure: str, end: str | None, sign: str, percent: float) -> None:
    (found,) = parse_requirements([text], ATTACKS)
    assert (found.measure, found.end, found.sign, found.percent) == (measure, end, sign, percent)


def test_the_figures_decide() -> None:
    # 3 of 4 are right when clean, 2 under attack
    met = ["clean>=75", "clean<=75", "worst>=50", "pgd-20<50.1", "lower bound of worst<50", "upper bound of worst>50"]
    require(report(), met)
    for missed in ("clean>75", "clean<75", "worst>=50.01", "lower bound of worst>=50", "upper bound of worst<=50"):
        with pytest.raises(RequirementError, match="1 of 7 required figures missed: ") as error:
            require(report(), [*met, missed])
        assert f"{missed} (run, novel: " in error.value.what


def test_a_share_that_floats_round_meets_its_percentage() -> None:
    for count in range(1, 101):
        found = report()
        share = float(np.float64(count) / 100)
        estimate = found.results[0].clean
        result = found.results[0].model_copy(update={"clean": type(estimate)(share, 0.0, 1.0)})
        require(found.model_copy(update={"results": [result]}), [f"clean>={count}", f"clean<={count}"])


def test_each_model_and_group_is_held_to_it() -> None:
    found = report()
    better = found.results[0].model_copy(update={"group": "seen", "worst": found.results[0].clean})
    both = found.model_copy(update={"results": [found.results[0], better]})
    with pytest.raises(RequirementError, match="1 of 2 required figures missed") as error:
        require(both, ["worst>=60"])
    assert "run, novel: worst 50.00 [" in error.value.what
    assert "seen" not in error.value.what


def test_seen_and_novel_figures_are_measures() -> None:
    found = gzsl_report()
    names = figures_of(found.results[0])
    attack = next(iter(found.results[0].attacks))
    assert {"clean S", "worst H", f"{attack} U", "clean AUSUC"} <= names.keys()
    value = 100 * names["worst H"].value
    require(found, [f"worst h>={value:.4f}"[:-1], "clean ausuc<=100"])
    with pytest.raises(RequirementError, match="worst H"):
        require(found, ["worst H>100"])
