"""Geometry of the Euclidean ball round an image, cut to the pixel range. All shapes are (N, 3, H, W), or (N, …)."""

from __future__ import annotations

import torch
from torch import Tensor

# rounds of the search below, which settles in two to five; every round's answer is inside
ROUNDS = 64
# torch.rand gives multiples of 2^-24, zero among them; the error function's inverse is infinite at -1 and 1
_OPEN = 1 - 2.0**-24


def lengths(moved: Tensor) -> Tensor:
    """The Euclidean length of each image of `moved`, (N, …) -> (N,)."""
    return torch.linalg.vector_norm(moved.flatten(1), dim=1)


def slack(radius: float, pixels: int) -> float:
    """By how much float32 rounding of `pixels` values near 1, and of their sum of squares, can lengthen `radius`."""
    return 1e-6 * radius + 1e-7 * float(pixels) ** 0.5


def nearest_inside(y: Tensor, x: Tensor, radius: float, low: float, high: float) -> Tensor:
    """The point nearest to `y` among those within `radius` of `x` and in [low, high]; `x` is in [low, high].

    Scaling to the ball and then clipping is allowed but not nearest: the pixels that clipping stops leave length for
    the others. By the Lagrange conditions the nearest point is clip(x + s (y - x)) with the largest s <= 1 that keeps
    the length. Its square grows with s as sum min(s |d_i|, c_i)^2, with c_i the room of pixel i. From s = radius / |d|
    on, holding the pixels that have reached the border and solving for the others, s grows to the solution and never
    past it.
    """
    moved = y - x
    stopped = y.clamp(low, high)
    size = moved.abs().flatten(1)
    room = torch.where(moved > 0, high - x, x - low).flatten(1)
    inside = lengths(stopped - x) <= radius + slack(radius, size.shape[1])
    if bool(inside.all()):
        return stopped
    part = radius / lengths(moved).clamp_min(torch.finfo(y.dtype).tiny)
    for _ in range(ROUNDS):
        at_border = part[:, None] * size >= room
        left = (radius**2 - torch.where(at_border, room, 0).square().sum(1)).clamp_min(0)
        free = torch.where(at_border, 0, size).square().sum(1)
        grown = torch.where(free > 0, (left / free).sqrt(), part)
        done = bool((grown <= part).logical_or_(inside).all())
        part = torch.maximum(part, grown)
        if done:
            break
    shape = (-1, *(1,) * (x.dim() - 1))
    shrunk = (x + part.clamp_max(1).reshape(shape) * moved).clamp(low, high)
    return torch.where(inside.reshape(shape), stopped, shrunk)


def direction(grad: Tensor) -> Tensor:
    """Each image's gradient divided by its length; zero where it is zero. Gradients of any magnitude, down to 1e-38."""
    if not grad.numel():
        return grad
    shape = (-1, *(1,) * (grad.dim() - 1))
    largest = grad.abs().flatten(1).amax(1).reshape(shape)
    scaled = torch.where(largest > 0, grad / largest, grad)
    return scaled / lengths(scaled).clamp_min(1).reshape(shape)


def uniform_in_ball(noise: Tensor, radius: float) -> Tensor:
    """Points uniform in the ball of `radius` round zero, from `noise` uniform on [0, 1), (N, …) -> same shape.

    The direction is that of the normal variables at the quantiles `noise`. Their squared length is chi-squared and
    independent of the direction, so its own quantile u is the one more uniform number that is needed: the distance is
    radius * u^(1 / D).
    """
    if not noise.numel():
        return noise.clone()
    normal = torch.erfinv((2 * noise - 1).clamp(-_OPEN, _OPEN)).mul_(2**0.5)
    dimension = normal[0].numel()
    # one number an image, in double precision and so on the CPU: some devices have none
    squared = lengths(normal).cpu().double().square()
    quantile = torch.special.gammainc(torch.full_like(squared, dimension / 2), squared / 2)
    distance = (radius * quantile ** (1 / dimension)).to(noise)
    return direction(normal) * distance.reshape(-1, *(1,) * (noise.dim() - 1))
