"""How much faster the inner attack is in bfloat16 on this device, measured."""

from __future__ import annotations

import time

import torch

from stages.attacks.gradient import maximise
from stages.devices import keep_freed_memory
from stages.models.embedding import EmbeddingModel, place
from stages.models.folding import folded
from stages.models.frozen import frozen
from stages.threat import ThreatModel
from stages.training.embed import Embed

_BATCH, _SIDE, _WIDTH = 32, 32, 64


def bf16_attack_speedup(device: str = "cpu", *, backbone: str = "conv4-64", rounds: int = 15) -> float:
    """The time of an attack step in float32 divided by that in bfloat16, the shortest of `rounds` each, taken in turns.

    The model is untrained and the images are black; a step takes as long as with others. Other programs on the machine can
    make a round longer, but not shorter.
    """
    keep_freed_memory(device)
    model = EmbeddingModel(backbone, _WIDTH, _SIDE, mean=(0.5,) * 3, std=(0.25,) * 3).eval()
    place(model, device)
    x = torch.zeros(_BATCH, 3, _SIDE, _SIDE, device=device).contiguous(memory_format=torch.channels_last)

    def seconds(*, half: bool) -> float:
        embed, threat = Embed(model, half=half), ThreatModel("8/255")
        with frozen(model), folded(model, torch.bfloat16 if half else None):
            start = time.perf_counter()
            # reading a value waits for the device
            float(maximise(lambda x_adv: embed(x_adv).sum(1), x, threat, steps=2, step_size=threat.radius / 4).sum())
            return time.perf_counter() - start

    pairs = [(seconds(half=False), seconds(half=True)) for _ in range(rounds)]
    return min(single for single, _ in pairs) / min(half for _, half in pairs)
