from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.errors import ComputeError
from stages.training.loop import Trainer
from stages.training.out_of_memory import explained
from tests.stages.training.synthetic import made_up_anchors, made_up_images, quick, small_model

ROOM = 400 << 20
EPISODES = {"objective": "aq", "ways": 3, "queries": 2, "batch_size": 128}


def trained(folder: Path, **changes: Any) -> dict[str, Any]:
    """Train in a process with little memory; returns the error, or the best epoch."""
    command = [sys.executable, "-m", "tests.stages.training.short_of_memory", str(folder), str(ROOM), json.dumps(changes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on private memory is Linux's")
def test_the_suggested_options_fit(tmp_path: Path) -> None:
    said = trained(tmp_path / "run", objective="at")
    assert said["code"] == 5
    assert "not enough memory on cpu for this batch" in said["what"]
    option = "--grad-checkpointing and "
    advice = re.search(
        rf"(\d+) images at a time fit: add {option}--accumulate (\d+), or {option}--batch-size (\d+)", said["fix"]
    )
    assert advice, said
    assert int(advice[1]) * int(advice[2]) == 1024
    again = trained(tmp_path / "run", objective="at", grad_checkpointing=True, accumulate=int(advice[2]))
    assert again == {"best": 1}


@pytest.mark.parametrize(
    ("changes", "fitting", "advice"),
    [
        ({}, 16, "it fits with recomputed activations: add --grad-checkpointing"),
        (
            {},
            4,
            "4 images at a time fit: add --grad-checkpointing and --accumulate 4, or --grad-checkpointing and --batch-size 4",
        ),
        ({"grad_checkpointing": True}, 8, "8 images at a time fit: add --accumulate 2, or --batch-size 8"),
        ({"grad_checkpointing": True, "accumulate": 4}, 1, "1 images at a time fit: add --accumulate 16, or --batch-size 2"),
        ({}, 0, "not even one image at a time fits: use a smaller --backbone or --resize"),
        ({**EPISODES, "grad_checkpointing": True}, 9, "9 images at a time fit: add --accumulate 4, or --episodes-per-step 1"),
        (EPISODES, 0, "not even one episode at a time fits: use a smaller --backbone or --resize"),
    ],
)
def test_what_is_suggested(changes: dict[str, Any], fitting: int, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(small_model(), torch.from_numpy(made_up_anchors().vectors), made_up_images(), quick(**changes), "cpu")

    def try_batch(self: Trainer, count: int) -> None:
        if count > fitting or not self.training_step.grad_checkpointing:
            raise RuntimeError("out of memory")

    monkeypatch.setattr(Trainer, "try_batch", try_batch)
    with pytest.raises(ComputeError) as caught, explained(trainer):
        raise RuntimeError("CUDA out of memory. Tried to allocate")
    assert caught.value.fix == advice
