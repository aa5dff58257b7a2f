"""Runs with a module and an objective of the user's own."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages.data.image_set import ImageSet
from stages.errors import InputError, UsageError
from stages.files import artifacts
from stages.models.checkpoint import read_checkpoint, weights_of
from stages.models.classifier import predict
from stages.training.objectives import Adversarial, Clean, Laat, Objective, Outcome
from stages.training.options import RunOptions
from stages.training.run import train_run
from tests.stages.training.synthetic import made_up_anchors, made_up_images, quick

INPUTS = {"anchors": {"kind": "anchors", "sha256": "a" * 64, "inputs": {}}}
FILES = ("model.st", "last.st", "metrics.jsonl")


def module(width: int = 6, seed: int = 0, dropout: float = 0.3) -> nn.Module:
    """Nothing but torch's own layers; dropout uses torch's global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(dropout), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(32, width),
        )  # fmt: skip


class Margin(Objective):
    """Cross-entropy on the attacked images, and nothing of ours but the base class."""

    terms = ("margin",)
    clean = False

    def outer(self, embed: Any, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        logits = self.logits(embed(x_adv))
        own = logits.gather(1, labels[:, None])
        return Outcome({"margin": (1 + logits - own).clamp(min=0).sum(1)}, None, logits)


class Flattening(nn.Module):
    """Uses `view`, which fails on images and maps in channels last."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, 2), nn.Linear(4 * 7 * 7 + 3 * 16 * 16, width)
        nn.init.constant_(self.conv.weight, 0.1)
        nn.init.eye_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.conv(x).view(len(x), -1), x.view(len(x), -1)], 1))


def trained(folder: Path, model: nn.Module | None, images: ImageSet | None = None, **others: Any) -> Any:
    objective, init = others.pop("objective", None), others.pop("init", None)
    options = RunOptions(**{name: others.pop(name) for name in ("resume", "on_epoch", "save_every") if name in others})
    return train_run(
        made_up_anchors(seen=4, val=2), images or made_up_images(), quick(**others), folder,
        inputs=INPUTS, init=init, model=model, objective=objective, options=options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{}, {"awp": 0.01, "ema": 0.5, "accumulate": 2}, {"objective": Margin}, {"objective": Clean}]
)
def test_any_module_is_trained_in_place_and_its_weights_are_saved(changes: dict[str, Any], tmp_path: Path) -> None:
    model = module()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = trained(tmp_path, model, **changes)
    assert result is not None
    assert not torch.equal(model[0].weight, before["0.weight"])
    last = artifacts.read(tmp_path / "last.st", "model")
    assert weights_of(last).keys() == before.keys()
    if not changes.get("ema"):
        assert torch.equal(torch.from_numpy(weights_of(last)["6.weight"].copy()), model[6].weight.detach())
    kind = "torch.nn.modules.container:Sequential"
    assert last.params["architecture"] == {"module": kind, "width": 6, "image_size": 16}
    assert last.params["training"]["settings"]["backbone"] == kind
    assert (result.score.robust is None) == (changes.get("objective") is Clean)


def test_images_and_maps_are_contiguous_for_modules_that_are_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path / "module", Flattening())
    monkeypatch.setattr(sys.modules[__name__], "factory", Flattening, raising=False)
    trained(tmp_path / "backbone", None, backbone=f"{__name__}:factory")
    found = read_checkpoint(artifacts.read(tmp_path / "module/last.st", "model"), "'last.st'", Flattening())
    predicted = predict(found, made_up_images().images)
    assert predicted.shape == (48,)
    assert found(made_up_images().images[:2].contiguous(memory_format=torch.channels_last)).shape == (2, 6)


def test_it_learns(tmp_path: Path) -> None:
    result = trained(tmp_path, module(dropout=0.0), tau=0.1, epochs=20, lr=0.05, augment=False, objective=Clean, batch_size=8)
    assert result.reports[-1].figures.clean_accuracy > 0.6  # chance is 1/4


def test_interrupted_and_resumed_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    trained(tmp_path / "whole", module(), epochs=3)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts", module(), epochs=3, save_every=0, on_epoch=lambda _: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(UsageError, match="the model's weights were"):
        trained(tmp_path / "parts", module(seed=1), epochs=3, resume=True)
    trained(tmp_path / "parts", module(), epochs=3, resume=True)
    for file in FILES:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


def test_finished_runs_are_told_apart(tmp_path: Path) -> None:
    trained(tmp_path, module(), objective=Adversarial)
    assert trained(tmp_path, module(), objective=Adversarial) is None
    for model, objective in ((module(seed=1), Adversarial), (module(), Margin), (None, Adversarial)):
        with pytest.raises(UsageError, match="already has a run"):
            trained(tmp_path, model, objective=objective)


def test_an_objective_by_object_by_class_and_by_name_are_the_same(tmp_path: Path) -> None:
    given = Adversarial(torch.eye(6)[:4], tau=1.0)
    for name, objective in (("object", given), ("class", Adversarial)):
        trained(tmp_path / name, None, objective=objective)
    train_run(
        made_up_anchors(seen=4, val=2), made_up_images(), quick(objective="at"), tmp_path / "name", inputs=INPUTS,
    )  # fmt: skip
    rows = {(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("object", "class", "name")}
    assert len(rows) == 1
    assert torch.equal(given.anchors, torch.eye(6)[:4])


def test_the_weights_of_an_objective_that_is_an_object(tmp_path: Path) -> None:
    def recorded(beta: float) -> Any:
        trained(tmp_path / str(beta), None, objective=Laat(torch.eye(6)[:4], 1.0, beta), epochs=1)
        return artifacts.read(tmp_path / str(beta) / "model.st", "model").params["training"]["settings"]["beta"]

    assert [recorded(beta) for beta in (5.0, 1.0)] == [5.0, None]  # None is the default, as by name
    with pytest.raises(UsageError, match=r"beta .*0\.5"):
        trained(tmp_path / "5.0", None, objective=Laat(torch.eye(6)[:4], 1.0, 0.5), epochs=1)
    with pytest.raises(UsageError, match="beta is 3 in the settings, and 5 in the objective that is given"):
        trained(tmp_path / "run", None, objective=Laat(torch.eye(6)[:4], 1.0, 5.0), beta=3.0)
    with pytest.raises(UsageError, match="--beta has no meaning with --objective at"):
        trained(tmp_path / "run", None, objective=Adversarial, beta=3.0)


def test_what_does_not_fit_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gives \(2, 5\) for 2 images, the anchors have width 6; .*nn\.Linear\(5, 6\)"):
        trained(tmp_path / "run", module(5))
    with pytest.raises(UsageError, match="does not support gradient checkpointing"):
        trained(tmp_path / "run", module(), grad_checkpointing=True)
    trained(tmp_path / "first", None)
    with pytest.raises(UsageError, match="init cannot be combined with a model"):
        trained(tmp_path / "run", module(), init=artifacts.read(tmp_path / "first/model.st", "model"))
    assert not (tmp_path / "run").exists()


def test_a_backbone_by_its_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_net.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    monkeypatch.chdir(tmp_path)
    trained(tmp_path / "run", None, backbone="my_net:make")
    last = artifacts.read(tmp_path / "run/last.st", "model")
    assert last.params["architecture"] == {"backbone": "my_net:make", "width": 6, "image_size": 16}
    assert {"backbone.net.0.weight", "projection.weight", "mean"} <= weights_of(last).keys()
    # and as the start of another run
    trained(tmp_path / "next", None, backbone="my_net:make", init=last, lr=1e-12, weight_decay=0)
    after = weights_of(artifacts.read(tmp_path / "next/last.st", "model"))
    for name, value in weights_of(last).items():
        torch.testing.assert_close(torch.from_numpy(after[name].copy()), torch.from_numpy(value.copy()), rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="this run trains conv4-8"):
        trained(tmp_path / "other", None, init=last)
