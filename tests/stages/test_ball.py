from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.ball import direction, nearest_inside, uniform_in_ball
from stages.threat import NORMS, ThreatModel

RADII = (Fraction(0), Fraction(1, 255), Fraction(128, 255), Fraction(1), Fraction(3))


def clean_and_moved(seed: int, spread: float, shape: tuple[int, ...] = (6, 3, 4, 4)) -> tuple[Tensor, Tensor]:
    """Clean images in which 0 and 1 are frequent, as in real ones, and points round them, many outside."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(shape, generator=generator) * 1.6 - 0.3).clamp(0, 1)
    return x, x + spread * torch.randn(shape, generator=generator)


def dykstra(y: Tensor, x: Tensor, radius: float, rounds: int = 4000) -> Tensor:
    """The nearest point of ball and box by Dykstra's alternating projections, in double precision."""
    y, x = y.double(), x.double()
    one, two = torch.zeros_like(y), torch.zeros_like(y)
    for _ in range(rounds):
        moved = y + one - x
        length = moved.flatten(1).norm(dim=1).clamp_min(1e-300)[:, None, None, None]
        ball = x + moved * (radius / length).clamp_max(1)
        one = y + one - ball
        y = (ball + two).clamp(0, 1)
        two = ball + two - y
    return y


@settings(max_examples=60, deadline=None)
@given(
    norm=st.sampled_from(NORMS),
    eps=st.sampled_from(RADII),
    seed=st.integers(0, 9999),
    spread=st.sampled_from([1e-4, 0.05, 1.0, 50.0]),
)
def test_projections_are_inside_and_idempotent(norm: str, eps: Fraction, seed: int, spread: float) -> None:
    threat = ThreatModel(min(eps, Fraction(1)) if norm == "Linf" else eps, norm)
    x, y = clean_and_moved(seed, spread)
    found = threat.project(y, x)
    threat.check(found, x)
    assert torch.equal(threat.project(found, x), found)
    assert torch.equal(threat.project(x, x), x)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), eps=st.sampled_from(RADII[1:]), spread=st.sampled_from([0.05, 0.7]))
def test_the_l2_projection_is_the_nearest_point_as_alternating_projections_find_it(
    seed: int, eps: Fraction, spread: float
) -> None:
    x, y = clean_and_moved(seed, spread)
    expected = dykstra(y, x, float(eps))
    torch.testing.assert_close(ThreatModel(eps, "L2").project(y, x).double(), expected, rtol=0, atol=2e-4)


def test_where_clipping_stops_a_pixel_the_others_get_its_length() -> None:
    x = torch.tensor([[1.0, 0.5, 0.5]])
    y = torch.tensor([[2.0, 1.0, 0.5]])
    torch.testing.assert_close(nearest_inside(y, x, 0.4, 0.0, 1.0), torch.tensor([[1.0, 0.9, 0.5]]))


def test_at_the_size_of_a_photograph_the_projection_keeps_the_whole_radius() -> None:
    x, y = clean_and_moved(0, 0.3, (2, 3, 224, 224))
    threat = ThreatModel(Fraction(3), "L2")
    found = threat.project(y, x)
    threat.check(found, x)
    torch.testing.assert_close(threat.distance(found, x), torch.tensor([3.0, 3.0]), rtol=1e-5, atol=0)


@settings(max_examples=40, deadline=None)
@given(eps=st.sampled_from(RADII), seed=st.integers(0, 9999), edge=st.booleans())
def test_l2_starts_are_allowed_even_for_the_extreme_numbers(eps: Fraction, seed: int, edge: bool) -> None:
    threat = ThreatModel(eps, "L2")
    x, _ = clean_and_moved(seed, 0.0)
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed))
    if edge:
        noise[0], noise[1], noise[2, 0, 0, 0] = 0.0, 1 - 2.0**-24, 0.0
        noise[3] = 0.5
    threat.check(threat.random_start(x, noise), x)


def test_l2_starts_are_uniform_in_the_ball() -> None:
    noise = torch.rand((20_000, 3, 1, 1), generator=torch.Generator().manual_seed(0))
    points = uniform_in_ball(noise, 2.0).flatten(1)
    radius = points.norm(dim=1) / 2
    # the share within r of the centre is r^D; every half-space through the centre holds a half
    for r in (0.3, 0.5, 0.8, 0.95):
        assert float((radius <= r).float().mean()) == pytest.approx(r**3, abs=0.012)
    assert (points.mean(0).abs() < 0.03).all()
    cross = points.T @ points / len(points)
    torch.testing.assert_close(cross, torch.eye(3) * 4 / 5, rtol=0, atol=0.03)  # E[x_i^2] = r^2 / (D + 2)
    inner = points[radius < 0.5]
    assert (inner.mean(0).abs() < 0.05).all()


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1.0, 1e30])
def test_an_l2_step_has_its_length_whatever_the_scale_of_the_gradient(scale: float) -> None:
    x = torch.full((3, 3, 8, 8), 0.5)
    grad = scale * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    grad[1] = 0
    threat = ThreatModel(Fraction(1), "L2")
    moved = threat.step(x, grad, 0.25) - x
    torch.testing.assert_close(moved.flatten(1).norm(dim=1), torch.tensor([0.25, 0.0, 0.25]), rtol=1e-5, atol=0)
    along = direction(grad)[0].flatten() @ direction(grad / scale)[0].flatten()
    assert float(along) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_climb_is_step_and_project(norm: str) -> None:
    threat = ThreatModel(Fraction(1, 2), norm)
    x, y = clean_and_moved(3, 0.2)
    y = threat.project(y, x)
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    expected = threat.project(threat.step(y, grad, 0.3), x)
    torch.testing.assert_close(threat.climb(y, grad, 0.3, x, threat.bounds(x)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_no_image_is_allowed(norm: str) -> None:
    threat = ThreatModel(Fraction(1, 2), norm)
    none = torch.empty(0, 3, 4, 4)
    threat.check(threat.climb(threat.random_start(none, none), none, 0.1, none, threat.bounds(none)), none)
