"""Pooling without positions is PyTorch's, ties included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from stages.models.pooling import MaxPool, max_pool
from stages.randomness import torch_generator

RANDOM = torch_generator(0, "tests/pooling")


def both(x: Tensor, grad: Tensor | None = None) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Values and gradients of ours and of PyTorch's."""
    found = []
    for pool in (MaxPool.apply, lambda x: F.max_pool2d(x, 2)):
        given = x.clone(memory_format=torch.preserve_format).requires_grad_()
        out = pool(given)
        grad = torch.rand(out.shape, generator=RANDOM).to(out.dtype) - 0.5 if grad is None else grad
        found.append((out.detach(), torch.autograd.grad(out, given, grad)[0]))
    return found[0], found[1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(5, 7, 4, 6), (3, 64, 32, 32), (40, 64, 16, 16), (1, 1, 2, 2), (0, 3, 4, 4)], ids=str)
def test_values_and_gradients_are_those_of_pytorch(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=RANDOM).to(dtype)
    for layout in (torch.contiguous_format, torch.channels_last):
        ours, theirs = both(x.contiguous(memory_format=layout))
        for found, expected in zip(ours, theirs, strict=True):
            assert found.dtype == dtype
            assert torch.equal(found, expected)


def test_of_equal_values_the_first_one_gets_the_gradient() -> None:
    # every way in which four values can be equal or not, among zeros of both signs and the smallest number of bfloat16
    values = torch.tensor([-1.0, -0.0, 0.0, 2.0**-133])
    squares = torch.cartesian_prod(values, values, values, values).reshape(-1, 1, 2, 2)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        ours, theirs = both(squares.to(dtype), torch.ones(256, 1, 1, 1, dtype=dtype))
        assert torch.equal(ours[1], theirs[1])
        assert torch.equal(ours[0], theirs[0])


def test_where_it_is_used() -> None:
    def used(*shape: int, dtype: torch.dtype = torch.bfloat16) -> bool:
        x = torch.randn(shape, generator=RANDOM).to(dtype).requires_grad_()
        pooled = max_pool(x)
        assert torch.equal(pooled, F.max_pool2d(x, 2))
        with torch.no_grad():
            assert max_pool(x).grad_fn is None
        return "MaxPoolBackward" in str(pooled.grad_fn)

    assert used(2, 3, 16, 10)
    assert used(2, 3, 16, 16, dtype=torch.float32)
    assert not used(2, 3, 21, 16)  # the last row is left out
    assert not used(2, 3, 8, 8)


def test_a_gradient_that_is_one_value_everywhere() -> None:
    x = torch.randn(2, 4, 10, 10, generator=RANDOM).bfloat16().requires_grad_()
    (found,) = torch.autograd.grad(F.relu_(max_pool(x)).sum(), x)  # an expanded scalar, and a ReLU in place
    (expected,) = torch.autograd.grad(F.relu_(F.max_pool2d(x, 2)).sum(), x)
    assert torch.equal(found, expected)


def test_a_gradient_that_is_differentiated_again() -> None:
    x = torch.randn(2, 4, 10, 12, generator=RANDOM, dtype=torch.float64)
    found = []
    for pool in (MaxPool.apply, lambda x: F.max_pool2d(x, 2)):
        given = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(pool(given.square()).pow(3).sum(), given, create_graph=True)
        found.append((grad, *torch.autograd.grad(grad.square().sum(), given)))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace")
def test_what_records_or_transforms_a_model_sees_the_pooling_of_pytorch() -> None:
    class Pooled(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return max_pool(x.square())

    x = torch.randn(2, 4, 10, 12, generator=RANDOM).requires_grad_()
    (expected,) = torch.autograd.grad(Pooled()(x).sum(), x)
    assert torch.equal(torch.func.grad(lambda given: Pooled()(given).sum())(x), expected)
    assert "torch.ops.aten.max_pool2d.default" in torch.export.export(Pooled(), (x,)).graph_module.code
    assert "aten::max_pool2d" in str(torch.jit.trace(Pooled(), x).graph)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")  # torch.autograd.forward_ad itself
def test_batched_gradients_and_forward_mode_are_those_of_pytorch() -> None:
    x = torch.randn(2, 3, 10, 12, generator=RANDOM).requires_grad_()
    along = torch.randn(x.shape, generator=RANDOM)
    found = []
    for pool in (max_pool, lambda x: F.max_pool2d(x, 2)):
        whole = torch.autograd.functional.jacobian(pool, x, vectorize=True)
        with forward_ad.dual_level():
            forward = forward_ad.unpack_dual(pool(forward_ad.make_dual(x, along))).tangent
        found.append((whole, forward))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))
