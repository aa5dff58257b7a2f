"""The optimizers: their steps are those of a plain program, and a resumed run ends with the same bytes."""

from __future__ import annotations

import copy
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stages.errors import InputError
from stages.files import artifacts
from stages.randomness import torch_generator
from stages.training.loop import Trainer
from stages.training.optimizer import build_optimizer
from tests.stages.training.plain_step import PlainConv4
from tests.stages.training.synthetic import made_up_anchors, made_up_images, quick, small_model
from tests.stages.training.test_run import attempted, trained

ANCHORS = torch.from_numpy(made_up_anchors().vectors)
IMAGES = made_up_images()
ADAMW: dict[str, Any] = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.1, "adam_beta2": 0.98, "adam_eps": 1e-6}


def plain_groups(plain: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay on kernels and matrices, none on the batch norms; there is no bias."""
    norms = [value for name, value in plain.named_parameters() if value.dim() == 1]
    others = [value for name, value in plain.named_parameters() if value.dim() > 1]
    assert len(norms) == 8
    return [{"params": others, "weight_decay": decay}, {"params": norms, "weight_decay": 0.0}]


@pytest.mark.parametrize(
    ("dtype", "changes"),
    [(torch.float64, {}), (torch.float64, {"decay_norms": False, "accumulate": 2}), (torch.float32, {})],
    ids=["float64", "no decay on norms", "float32"],
)
def test_the_steps_of_adamw_are_those_of_a_plain_program(dtype: torch.dtype, changes: dict[str, Any]) -> None:
    model, anchors = small_model().to(dtype), ANCHORS.to(dtype)
    plain = PlainConv4(model)
    settings = quick(**ADAMW, **changes, objective="clean", augment=False, epochs=7, schedule="cosine", seed=4)
    loop = Trainer(model, anchors, IMAGES, settings, "cpu")
    of_all = [{"params": list(plain.parameters()), "weight_decay": 0.1}]
    groups = of_all if settings.decay_norms else plain_groups(plain, 0.1)
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), eps=1e-6)
    close = 1e-9 if dtype == torch.float64 else 1e-5
    done = 0
    while done < 20:
        order = torch.randperm(48, generator=torch_generator(4, f"train/order/{loop.epoch}"))
        for rows, step in zip(order.split(16), loop.steps(), strict=True):
            plain.train()
            parts = rows.split(16 // settings.accumulate)
            losses = [
                nn.functional.cross_entropy(plain(IMAGES.images[part] / 255) @ anchors.T, IMAGES.labels[part]) for part in parts
            ]
            loss = torch.stack(losses).mean()
            optimizer.zero_grad()
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * 0.5 * (1 + np.cos(np.pi * done / 21))
            optimizer.step()
            done += 1
            assert float(step.loss) == pytest.approx(float(loss.detach()), abs=close)
    torch.testing.assert_close(model.projection.weight, plain.projection.weight, rtol=0, atol=close)


def test_without_decay_on_norms_only_matrices_shrink() -> None:
    """At a rate of nearly nothing the decay alone would move them: AdamW's is lr * decay, so both are large here."""
    model = small_model()
    before = copy.deepcopy(model.state_dict())
    settings = quick(**{**ADAMW, "lr": 0.5, "adam_eps": 1e30}, decay_norms=False, objective="clean", epochs=1, batch_size=48)
    for _ in Trainer(model, ANCHORS, IMAGES, settings, "cpu").steps():
        pass
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.detach(), before[name] * (1 if value.dim() == 1 else 0.95), msg=name)


@pytest.mark.parametrize(
    "changes", [{**ADAMW, "ema": 0.9, "awp": 0.005, "accumulate": 2}, {"decay_norms": False}, {"momentum": 0.0}]
)
def test_a_stopped_run_ends_with_the_bytes_of_one_that_was_not(changes: dict[str, Any], tmp_path: Path) -> None:
    def stop(_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    settings = quick(**changes, backbone="conv4-8", augment=False)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", settings, on_epoch=stop, save_every=0)
    trained(tmp_path / "stopped", settings, resume=True)
    trained(tmp_path / "whole", settings)
    for name in ("model.st", "last.st", "metrics.jsonl"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_parameters_of_any_layout_and_one_whose_first_gradient_comes_later() -> None:
    values = torch.arange(24.0).reshape(4, 6)
    strided, late = nn.Parameter(values[:, ::2]), nn.Parameter(torch.ones(3))
    optimizer = build_optimizer([strided, late], quick(lr=0.5, weight_decay=0.0))
    strided.grad = torch.ones(4, 3)
    optimizer.step()
    assert torch.equal(strided, torch.arange(24.0).reshape(4, 6)[:, ::2] - 0.5)
    assert torch.equal(values[:, 1::2], torch.arange(24.0).reshape(4, 6)[:, 1::2])  # beside the parameter
    late.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(late, torch.full((3,), 0.5))


def test_a_state_of_adamw_that_does_not_fit_is_told(tmp_path: Path) -> None:
    def stop(_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, quick(**ADAMW), on_epoch=stop, save_every=0)
    sound = artifacts.read(tmp_path / "state.st")
    squared = "exp_avg_sq.projection.weight"
    square = sound.tensors[squared]
    assert float(sound.tensors["adam_step.projection.weight"]) == 3
    without = {name: value for name, value in sound.tensors.items() if name != squared}
    for tensors, says in (
        (
            {**sound.tensors, "exp_avg_sq.projection.weight": square[None]},
            r"'exp_avg_sq.projection.weight' is torch.float32 \(1, 6",
        ),
        ({**sound.tensors, "exp_avg.nothing": square}, "'exp_avg.nothing' is torch.float32"),
        (without, "the optimizer's state of 'projection.weight' is incomplete"),
    ):
        artifacts.write(replace(sound, tensors=tensors), tmp_path / "state.st")
        with pytest.raises(InputError, match=says):
            attempted(tmp_path, quick(**ADAMW), resume=True)
