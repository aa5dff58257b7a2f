from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.attacks.quantize import quantize
from stages.threat import NORMS, ThreatModel
from tests.stages.attacks.test_perturb import pixels

RADII = (Fraction(0), Fraction(1, 1000), Fraction(1, 255), Fraction(3, 510), Fraction(8, 255), Fraction(1, 2), Fraction(1))


def attacked(clean: Tensor, threat: ThreatModel, seed: int, reach: float = 2.0) -> Tensor:
    """Images all over the ball, most of them on its border."""
    x = clean / 255
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return threat.project(threat.step(x, noise, reach * threat.radius), x)


@settings(max_examples=60, deadline=None)
@given(
    norm=st.sampled_from(NORMS),
    eps=st.sampled_from(RADII),
    seed=st.integers(0, 999),
    reach=st.sampled_from([0.5, 0.98, 1.0, 2.0]),
)
def test_rounded_images_are_inside_the_ball_in_whole_numbers(norm: str, eps: Fraction, seed: int, reach: float) -> None:
    threat = ThreatModel(eps, norm)
    clean = pixels(5, seed)
    levels = quantize(attacked(clean, threat, seed, reach), clean, threat)
    assert levels.dtype == torch.uint8
    moved = levels.to(torch.int64) - clean.to(torch.int64)
    if norm == "Linf":
        assert Fraction(int(moved.abs().max()), 255) <= eps
    else:
        assert Fraction(int(moved.square().flatten(1).sum(1).max()), 255**2) <= eps**2
    threat.check(levels / 255, clean / 255)


@given(eps=st.sampled_from(RADII), seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_linf_takes_the_nearest_level_that_is_allowed(eps: Fraction, seed: int) -> None:
    threat = ThreatModel(eps)
    clean = pixels(3, seed)
    x_adv = attacked(clean, threat, seed, 0.7)
    centre, most = clean.to(torch.int64), floor(eps * 255)
    allowed = torch.arange(256)[:, None, None, None, None]
    far = (x_adv.double() * 255 - allowed).abs()
    far = torch.where((allowed - centre).abs() <= most, far, torch.inf)
    found = quantize(x_adv, clean, threat).to(torch.int64)
    assert torch.equal(far.gather(0, found[None])[0], far.amin(0))


def test_l2_goes_towards_the_clean_image_only_where_it_must_and_no_further() -> None:
    clean = pixels(40)
    threat = ThreatModel(Fraction(1, 2), "L2")
    well_inside = attacked(clean, threat, 0, 0.9)
    assert (quantize(well_inside, clean, threat) - well_inside * 255).abs().max() <= 0.5 + 1e-4
    border = attacked(clean, threat, 0, 2.0)
    levels = quantize(border, clean, threat)
    nearest = (border * 255).round().to(torch.uint8)
    over = threat.distance(nearest / 255, clean / 255) > threat.radius
    assert over.any()
    length = threat.distance(levels / 255, clean / 255)[over]
    assert (length > 0.99 * threat.radius).all()  # the ball is used up
    moved, exact = (levels[over] - border[over] * 255).abs(), (nearest[over] - border[over] * 255).abs()
    assert moved.max() < 1 + 1e-3
    assert (moved > exact + 1e-3).float().mean() < 0.2
    assert torch.equal(quantize(levels / 255, clean, threat), levels)


@pytest.mark.parametrize("norm", NORMS)
def test_no_image_and_the_clean_image(norm: str) -> None:
    threat = ThreatModel(Fraction(8, 255), norm)
    clean = pixels(4)
    assert torch.equal(quantize(clean / 255, clean, threat), clean)
    assert quantize(clean[:0] / 255, clean[:0], threat).shape == clean[:0].shape
