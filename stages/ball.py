"""Geometry of the Euclidean ball around an image, clipped to the pixel range. All shapes are (N, …)."""

from __future__ import annotations

import torch
from torch import Tensor

# maximum iterations of the search below, which converges in two to five; every iterate is inside
ROUNDS = 64
# torch.rand returns multiples of 2^-24, including 0, and the inverse error function is infinite at -1 and 1
_OPEN = 1 - 2.0**-24


def lengths(moved: Tensor) -> Tensor:
    """The Euclidean length of each image, (N, …) -> (N,)."""
    return torch.linalg.vector_norm(moved.flatten(1), dim=1)


def slack(radius: float, pixels: int) -> float:
    """How much float32 rounding of `pixels` values near 1, and of their sum of squares, can increase `radius`."""
    return 1e-6 * radius + 1e-7 * float(pixels) ** 0.5


def nearest_inside(y: Tensor, x: Tensor, radius: float, low: float, high: float) -> Tensor:
    """Project `y` onto the points within `radius` of `x` and in [low, high]; `x` is in [low, high].

    Scaling to the ball and then clipping is not the projection: clipped pixels leave length for the others. By the Lagrange
    conditions it is clip(x + s (y - x)) with the largest s <= 1 inside the ball. The squared length is
    sum min(s |d_i|, c_i)^2 with c_i the room of pixel i. Starting at s = radius / |d|, fixing the pixels at the border and
    solving for the others, s increases to the solution without passing it.
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
    """Each image's gradient divided by its length, zero if it is zero. Works for magnitudes down to 1e-38."""
    if not grad.numel():
        return grad
    shape = (-1, *(1,) * (grad.dim() - 1))
    largest = grad.abs().flatten(1).amax(1).reshape(shape)
    scaled = torch.where(largest > 0, grad / largest, grad)
    return scaled / lengths(scaled).clamp_min(1).reshape(shape)


def uniform_in_ball(noise: Tensor, radius: float) -> Tensor:
    """Points uniform in the ball of `radius` around zero, from `noise` uniform on [0, 1), (N, …) -> same shape.

    The direction is that of the normal variables at the quantiles `noise`. Their squared length is chi-squared and independent
    of the direction, so its quantile u gives the distance, radius * u^(1 / D).
    """
    if not noise.numel():
        return noise.clone()
    normal = torch.erfinv((2 * noise - 1).clamp(-_OPEN, _OPEN)).mul_(2**0.5)
    dimension = normal[0].numel()
    # one number per image, on the CPU: some devices have no double precision
    squared = lengths(normal).cpu().double().square()
    quantile = torch.special.gammainc(torch.full_like(squared, dimension / 2), squared / 2)
    distance = (radius * quantile ** (1 / dimension)).to(noise)
    return direction(normal) * distance.reshape(-1, *(1,) * (noise.dim() - 1))
