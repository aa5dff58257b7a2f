from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch

from stages.errors import ComputeError, InputError, UsageError
from stages.threat import ThreatModel, format_eps, parse_eps, parse_norm

EIGHT = Fraction(8, 255)


@pytest.mark.parametrize(
    ("text", "eps", "shown"),
    [
        ("8/255", EIGHT, "8/255"),
        (" 8 / 255 ", EIGHT, "8/255"),
        ("0.8/255", Fraction(8, 2550), "4/1275"),
        ("51/255", Fraction(1, 5), "51/255"),
        ("8/254", Fraction(4, 127), "4/127"),
        ("0.03", Fraction(3, 100), "3/100"),
        (".5", Fraction(1, 2), "1/2"),
        ("3e-2", Fraction(3, 100), "3/100"),
        ("0", Fraction(0), "0"),
        ("0/255", Fraction(0), "0"),
        ("1", Fraction(1), "255/255"),
    ],
)
def test_eps_is_read_exactly_and_shown_over_255_where_exact(text: str, eps: Fraction, shown: str) -> None:
    assert parse_eps(text) == eps
    assert format_eps(eps) == shown
    assert parse_eps(shown) == eps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8", "did you mean 8/255"),
        ("2.5", "did you mean 2.5/255"),
        ("300", "over 1.*for example 8/255"),
        ("256/255", "over 1"),
        ("0.5/0", "divides by zero"),
        ("-8/255", "not a number"),
        ("8/-255", "not a number"),
        ("nan", "not a number"),
        ("inf", "not a number"),
        ("eight", "not a number"),
        ("", "not a number"),
        ("/", "not a number"),
        ("8/255/2", "not a number"),
        ("1e999999999", "not a number"),
        ("8_0/255", "not a number"),
    ],
)
def test_a_wrong_eps_is_a_usage_error_that_says_what_to_type(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_eps(text)


@pytest.mark.parametrize(
    ("text", "eps", "shown"),
    [
        ("0.5", Fraction(1, 2), "0.5"),
        ("1/2", Fraction(1, 2), "0.5"),
        ("3.0", Fraction(3), "3"),
        ("10", Fraction(10), "10"),
        ("128/255", Fraction(128, 255), "128/255"),
        ("255/255", Fraction(1), "1"),
        ("2/3", Fraction(2, 3), "170/255"),
        ("0.0001", Fraction(1, 10000), "1/10000"),
        ("0", Fraction(0), "0"),
    ],
)
def test_an_l2_radius_can_be_over_1_and_is_shown_as_people_write_it(text: str, eps: Fraction, shown: str) -> None:
    assert parse_eps(text, "L2") == eps
    assert format_eps(eps, "L2") == shown
    assert parse_eps(shown, "L2") == eps


@pytest.mark.parametrize(("text", "message"), [("-1", "not a number of at least 0"), ("1e30", "over 1732"), ("1/0", "zero")])
def test_a_wrong_l2_radius_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=rf"{message}.*0\.5 or 128/255"):
        parse_eps(text, "L2")


def test_norms_by_name() -> None:
    assert [parse_norm(text) for text in ("linf", "Linf", "L-inf", " l2 ", "L2")] == ["Linf", "Linf", "Linf", "L2", "L2"]
    with pytest.raises(UsageError, match="unknown norm 'l1'; known norms: linf, l2"):
        parse_norm("l1")


def test_a_threat_model_refuses_what_it_cannot_mean() -> None:
    with pytest.raises(UsageError, match="unknown norm 'L7'"):
        ThreatModel(EIGHT, norm="L7")
    for eps in (Fraction(2), 8, "8"):
        with pytest.raises(UsageError, match="is over 1, and pixels range from 0 to 1; did you mean"):
            ThreatModel(eps)
    with pytest.raises(UsageError, match="has more than 20 digits in a row; round it"):
        ThreatModel("0." + "3" * 67)
    for eps in (Fraction(-1, 255), -0.1, "much", float("nan"), float("inf")):
        with pytest.raises(UsageError, match="is not a number between 0 and 1"):
            ThreatModel(eps)


@pytest.mark.parametrize(
    "made",
    [
        lambda: ThreatModel("linf", "8/255"),
        lambda: ThreatModel("8/255", "Linf"),
        lambda: ThreatModel("8/255"),
        lambda: ThreatModel(8 / 255),
        lambda: ThreatModel(norm="L-inf", eps="8/255"),
        lambda: ThreatModel(),
        lambda: ThreatModel("linf"),
    ],
)
def test_a_threat_model_is_built_from_text_and_numbers(made: Callable[[], ThreatModel]) -> None:
    assert made() == ThreatModel(EIGHT)
    assert str(made()) == "Linf 8/255"


def test_floats_keep_their_value() -> None:
    for levels in range(256):
        assert ThreatModel(levels / 255).eps == Fraction(levels, 255)
    assert ThreatModel(0.03).eps == Fraction(3, 100)
    assert str(ThreatModel("l2")) == "L2 128/255"
    assert str(ThreatModel("l2", 0.5)) == "L2 0.5"


def test_projection_is_the_nearest_allowed_image() -> None:
    threat = ThreatModel(Fraction(1, 10))
    x = torch.tensor([0.0, 0.5, 0.5, 0.5, 1.0]).reshape(1, 1, 1, 5)
    moved = torch.tensor([-1.0, 0.0, 0.55, 2.0, 0.5]).reshape(1, 1, 1, 5)
    expected = torch.tensor([0.0, 0.4, 0.55, 0.6, 0.9]).reshape(1, 1, 1, 5)
    torch.testing.assert_close(threat.project(moved, x), expected)


def test_random_start_fills_the_ball() -> None:
    threat = ThreatModel(EIGHT)
    x = torch.full((1, 3, 50, 50), 0.5)
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    start = threat.random_start(x, noise) - x
    assert start.abs().max() <= threat.radius + 1e-6
    assert start.min() < -0.99 * threat.radius
    assert start.max() > 0.99 * threat.radius
    assert abs(start.mean()) < 0.05 * threat.radius


@pytest.mark.parametrize(
    ("adversarial", "message"),
    [(0.5 + 8.1 / 255, "outside eps 8/255"), (float("nan"), "not finite"), (-1e-3, "leaves the pixel range")],
)
def test_check_refuses_images_outside_the_threat_model(adversarial: float, message: str) -> None:
    threat = ThreatModel(EIGHT)
    x = torch.full((2, 3, 4, 4), 0.5)
    threat.check(x + 8 / 255, x)
    bad = x.clone()
    bad[1, 2, 3, 3] = adversarial
    with pytest.raises(ComputeError, match=message):
        threat.check(bad, x)


def test_check_measures_the_l2_norm_over_the_whole_image() -> None:
    threat = ThreatModel(Fraction(1, 2), "L2")
    x = torch.full((2, 3, 4, 4), 0.5)
    threat.check(x + 0.5 / 48**0.5, x)
    with pytest.raises(ComputeError, match=r"is 0\.5\d* from its clean image, outside eps 0\.5"):
        threat.check(x + 0.51 / 48**0.5, x)


@pytest.mark.parametrize("threat", [ThreatModel(EIGHT), ThreatModel(Fraction(3), "L2"), ThreatModel(Fraction(1, 2), "L2")])
def test_record_round_trip_through_json(threat: ThreatModel) -> None:
    assert ThreatModel.from_record(json.loads(json.dumps(threat.to_record()))) == threat


@pytest.mark.parametrize(
    "record", [{}, {"eps": "8", "norm": "Linf", "clip": [0, 1]}, {"eps": 3, "norm": "Linf", "clip": [0, 1]}]
)
def test_a_damaged_record_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(InputError, match="damaged threat model"):
        ThreatModel.from_record(record)


def test_names_and_threat_models_do_not_import_torch() -> None:
    code = (
        "import sys, stages.attacks.spec, stages.threat, stages.reports.report as r;"
        "stages.attacks.spec.parse_attack('pgd-20'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
