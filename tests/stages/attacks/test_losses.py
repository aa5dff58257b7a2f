from __future__ import annotations

import pytest
import torch

from stages.attacks.losses import LOSSES, cw_loss, dlr_loss, margin_loss
from stages.errors import UsageError


def test_margin_and_cw_values() -> None:
    logits = torch.tensor([[2.0, 5.0, 1.0], [2.0, 5.0, 1.0]])
    labels = torch.tensor([1, 2])
    torch.testing.assert_close(margin_loss(logits, labels), torch.tensor([-3.0, 4.0]))
    torch.testing.assert_close(cw_loss(logits, labels), torch.tensor([-3.0, 0.0]))


def test_dlr_values_right_and_wrong() -> None:
    # -(z_y - max other z) / (z_(1) - z_(3)), by hand; the last row has the right class in fourth place
    logits = torch.tensor([[5.0, 3.0, 1.0, 0.0]]).repeat(4, 1)
    torch.testing.assert_close(dlr_loss(logits, torch.arange(4)), torch.tensor([-2 / 4, 2 / 4, 4 / 4, 5 / 4]))


def test_neither_scale_nor_shift_changes_dlr() -> None:
    logits = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(9) % 5
    torch.testing.assert_close(dlr_loss(20 * logits + 3, labels), dlr_loss(logits, labels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_logits_have_a_finite_loss_and_gradient(name: str) -> None:
    logits = torch.zeros(2, 4, requires_grad=True)
    loss = LOSSES[name](logits, torch.tensor([0, 3]))
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.isfinite().all()
    assert grad.isfinite().all()


@pytest.mark.parametrize("ways", [1, 2, 3])
def test_dlr_needs_four_classes_and_names_the_way_out(ways: int) -> None:
    with pytest.raises(UsageError, match=rf"at least 4 candidate classes, and there are {ways}; use the margin .*margin-pgd"):
        dlr_loss(torch.zeros(1, ways), torch.zeros(1, dtype=torch.int64))
