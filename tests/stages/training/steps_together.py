"""Some steps of several runs, for the processes of one launch: `torchrun … -m tests.stages.training.steps_together`.

Rank 0 prints the loss of every step and the weights' sum of squares at the end, as JSON by the name of the run.
"""

from __future__ import annotations

import json
import sys

import torch

from stages.launch import read_launch
from stages.models.embedding import EmbeddingModel
from stages.training.loop import Trainer
from stages.world import World, join_world
from tests.stages.training.synthetic import SIZE, made_up_anchors, made_up_images, quick

# of the others 20
STEPS = {"resnet12": 4}
# 48 images: three batches of 15 and one of 3, or as said; in float64, except where the attack is in bfloat16. In float32 the
# sign of a gradient near zero depends on the size of a batch on some CPUs
RUNS = {
    "laat": {"awp": 0.005, "ema": 0.9, "clip_norm": 1.0},
    "trades": {"objective": "trades", "augment": False, "tau": 0.5},
    "in micro-batches": {"objective": "at", "accumulate": 2, "batch_size": 20},
    "laat, gradient checkpointing": {"awp": 0.005, "ema": 0.9, "clip_norm": 1.0, "grad_checkpointing": True},
    "adamw": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.1, "decay_norms": False, "accumulate": 2},
    "fare": {"objective": "fare", "tau": 0.5, "augment": False, "accumulate": 2, "batch_size": 20, "lr": 1e-3},
    "pmg-aft": {"objective": "pmg-aft", "tau": 0.5, "awp": 0.005, "ema": 0.9},
    "episodes": {
        **{"objective": "aq", "head": "r2d2", "ways": 3, "queries": 2, "episodes_per_step": 2, "batch_size": 128},
        **{"awp": 0.005, "ema": 0.9, "clip_norm": 1.0},
    },
    "at, attack in bf16": {"objective": "at", "attack_precision": "bf16", "accumulate": 2, "batch_size": 20},
    "a linear classifier": {"objective": "at-linear", "accumulate": 2},
    "resnet12": {"objective": "at", "backbone": "resnet12", "drop_block": 0.1, "batch_size": 8, "steps": 1},
}


def losses(world: World, name: str) -> list[float]:
    """The loss of each step, then the weights' sum of squares."""
    settings = quick(**{"batch_size": 15, "epochs": 10, "lr": 0.02, **RUNS[name]})
    model = EmbeddingModel(settings.backbone, 6, SIZE, mean=(0.4,) * 3, std=(0.25,) * 3, seed=0, drop_block=settings.drop_block)
    anchors = torch.from_numpy(made_up_anchors().vectors)
    if not settings.half_attack:
        model, anchors = model.double(), anchors.double()
    trainer = Trainer(model, anchors, made_up_images(), settings, "cpu", world=world)
    found: list[float] = []
    count = STEPS.get(name, 20)
    while len(found) < count:
        found += [float(step.loss) for step in trainer.steps()]
    trainer.close()
    return [*found[:count], sum(float(value.detach().double().square().sum()) for value in model.parameters())]


def main() -> None:
    with join_world("cpu", read_launch(), step_seconds=25) as world:
        said = {name: losses(world, name) for name in RUNS}
        if world.leader:
            sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main()
