"""Runs with a frozen reference: resumed, refused, and what their objectives may ask for."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages.errors import UsageError
from stages.files import artifacts
from stages.models.reference import find_reference
from stages.training.advice import warnings_of
from stages.training.embed import Embed
from stages.training.loop import Trainer
from stages.training.objectives import Adversarial, Objective, Outcome
from stages.training.options import RunOptions
from stages.training.run import train_run
from stages.training.task import Task
from tests.stages.data.pictures import class_folders
from tests.stages.data.test_loader import sets
from tests.stages.training.synthetic import made_up_anchors, made_up_images, quick, small_model

FILES = ("model.st", "last.st", "metrics.jsonl")
INPUTS = {"anchors": {"kind": "anchors", "sha256": "0" * 64, "inputs": {}}}


def trained(
    folder: Path, *, reference: nn.Module | None = None, resume: bool = False, stop: bool = False, **others: Any
) -> Any:
    def interrupt(_: object) -> None:
        if stop:
            signal.raise_signal(signal.SIGTERM)

    options = RunOptions(resume=resume, save_every=0 if stop else 60, on_epoch=interrupt)
    settings = quick(**{"tau": 0.5, "epochs": 3, "lr": 1e-3, **others})
    return train_run(
        made_up_anchors(seen=4, val=2), made_up_images(), settings, folder, inputs=INPUTS, reference=reference, options=options
    )


EVERYTHING = {"awp": 0.01, "ema": 0.5, "accumulate": 2, "precision": "bf16"}


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "fare", "augment": False},  # what the reference says is remembered
        {"objective": "pmg-aft", **EVERYTHING},
        {"objective": "agft", "augment": False, **EVERYTHING},
    ],
    ids=str,
)
def test_interrupted_and_resumed_it_ends_with_the_same_bytes(changes: dict[str, Any], tmp_path: Path) -> None:
    trained(tmp_path / "whole", **changes)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts", stop=True, **changes)
    trained(tmp_path / "parts", resume=True, **changes)
    for file in FILES:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


def test_the_reference_sees_streamed_images_as_those_in_memory(tmp_path: Path) -> None:
    """In the same batches, once: others round differently."""
    anchors = torch.from_numpy(made_up_anchors().vectors[:2])
    passes = []
    for images in sets(class_folders(tmp_path / "pets", {"cat": 10, "dog": 10}, size=16)):
        settings = quick(objective="fare", tau=0.5, augment=False, batch_size=7, accumulate=2)
        loop = Trainer(small_model(), anchors, images, settings, "cpu")
        assert loop.training_step.reference is not None
        seen: list[int] = []
        loop.training_step.reference.register_forward_hook(lambda _, given, __, seen=seen: seen.append(len(given[0])))
        losses = [float(step.loss) for _ in range(settings.epochs) for step in loop.steps()]
        loop.close()
        passes.append((seen, losses))
    assert passes[0] == passes[1]
    assert passes[0][0] == [4] * 5


def test_another_reference_is_another_run(tmp_path: Path) -> None:
    one, other = small_model(seed=1), small_model(seed=2)
    assert trained(tmp_path, reference=one, objective="fare") is not None
    assert trained(tmp_path, reference=one, objective="fare") is None
    for changed in (other, None):
        with pytest.raises(UsageError, match="the reference's weights were"):
            trained(tmp_path, reference=changed, objective="fare")


def test_a_reference_that_does_not_fit_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the reference gives embeddings of width 5, the anchors have width 6"):
        trained(tmp_path / "run", reference=small_model(width=5), objective="fare")
    with pytest.raises(UsageError, match="laat compares with no reference"):
        trained(tmp_path / "run", reference=small_model(), objective="laat")
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def without_anchors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose projection was not trained."""
    folder = tmp_path_factory.mktemp("linear")
    trained(folder, objective="at-linear", tau=None, epochs=1)
    return folder / "model.st"


def test_a_reference_that_was_trained_without_anchors_is_refused(without_anchors: Path) -> None:
    with pytest.raises(UsageError, match=r"was trained without the anchors.*; give a model that was trained against anchors"):
        find_reference(str(without_anchors))


def test_initial_weights_that_are_a_poor_reference_are_warned_of(without_anchors: Path, tmp_path: Path) -> None:
    trained(tmp_path, epochs=1)
    anchored, other = (artifacts.read(path, "model") for path in (tmp_path / "model.st", without_anchors))

    def warned(init: artifacts.Artifact | None, dim: int = 6, backbone: str = "conv4-8") -> list[str]:
        settings = quick(objective="fare", tau=0.5, backbone=backbone)
        task = Task(made_up_anchors(width=dim), made_up_images(), settings, {}, init, None, None, None, None)
        return list(warnings_of(task))

    assert warned(anchored) == warned(None, 64, "clip:demo") == []
    assert "random weights: give --reference or --init" in warned(None)[0]
    of_other_width = (warned(anchored, dim=5), warned(None, 16, "clip:demo"), warned(None, 16, "own.module:factory"))
    for found in (warned(other), *of_other_width):
        assert "a random projection to the anchors: give --reference" in found[0]


class Careless(Adversarial):
    """Uses a reference without saying so."""

    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        embed.reference(x)
        return super().outer(embed, x, x_adv, labels)


class Patches(Objective):
    """Moves the mean of the patch tokens of attacked images to the reference's."""

    terms = ("tokens",)
    reference = tokens = True
    clean = False

    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        _, found = embed.tokens(x_adv)
        _, wanted = embed.reference.tokens(x)
        return Outcome({"tokens": (found - wanted).mean(1).square().sum(1)}, None, self.logits(embed(x_adv).detach()))


class Patchy(nn.Module):
    """A tower with four tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 8, 8)

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.conv(x).flatten(2).transpose(1, 2)
        return tokens.mean(1), tokens

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens(x)[0]


def test_an_objective_says_what_it_needs() -> None:
    anchors, images = torch.from_numpy(made_up_anchors().vectors), made_up_images()
    careless = Trainer(small_model(), anchors, images, quick(), "cpu", objective=Careless)
    with pytest.raises(UsageError, match="uses a reference that it does not declare"):
        next(careless.steps())
    with pytest.raises(UsageError, match="conv4-8 has no patch tokens"):
        Trainer(small_model(), anchors, images, quick(), "cpu", objective=Patches)
    with pytest.raises(UsageError, match="the reference has no patch tokens"):
        Trainer(Patchy(), anchors, images, quick(), "cpu", objective=Patches, reference=small_model())


class Corner(nn.Module):
    """Fixed features, without parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :6] + 0.1


def test_a_reference_may_have_no_parameters(tmp_path: Path) -> None:
    for augment in (False, True):
        found = trained(tmp_path / str(augment), reference=Corner(), objective="fare", augment=augment, epochs=1)
        assert found.reports[-1].figures.loss > 0


@pytest.mark.parametrize("given", [None, small_model(seed=2)], ids=["initial weights", "given"])
def test_the_reference_is_in_eval_mode(given: nn.Module | None) -> None:
    """Models are in training mode when they are made."""
    anchors = torch.from_numpy(made_up_anchors().vectors)
    loop = Trainer(small_model(seed=1), anchors, made_up_images(), quick(objective="pmg-aft", tau=0.5), "cpu", reference=given)
    modes: list[bool] = []
    for module in loop.training_step.reference.modules():  # type: ignore[union-attr]
        module.register_forward_hook(lambda called, *_: modes.append(called.training))
    next(iter(loop.steps()))
    assert modes
    assert not any(modes)


def test_tokens_of_clean_images_are_computed_once_a_step() -> None:
    anchors = torch.from_numpy(made_up_anchors().vectors)
    loop = Trainer(Patchy(), anchors, made_up_images(), quick(accumulate=2), "cpu", objective=Patches)
    assert isinstance(loop.training_step.reference, Patchy)
    calls: list[int] = []
    loop.training_step.reference.conv.register_forward_hook(lambda _, given, __: calls.append(len(given[0])))
    losses = [float(step.loss) for step in loop.steps()]
    assert calls == [8] * 6  # 48 images, 16 a batch in two micro-batches
    assert all(loss > 0 for loss in losses)
