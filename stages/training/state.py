"""The state of an unfinished run: everything needed to resume it, in one artifact.

All random numbers of training are a function of seed and step (see `stages.training.loop`), so the step replaces the states of
the generators and of the schedule, and the position inside the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.errors import ComputeError, InputError
from stages.files.artifacts import Artifact
from stages.training.loop import Trainer
from stages.training.optimizer import load_optimizer_state, optimizer_state
from stages.training.reports import EpochReport
from stages.training.sums import NOT_FINITE_FIX

KIND = "training-state"
_REMAKE = "start the run again with --force"


@dataclass(frozen=True)
class RunState:
    """The progress of a run.

    Attributes:
        identity: see `stages.training.task`; JSON-able.
        reports: of the finished epochs.
        best_sha256: of model.st; empty while there is none.
        name: of the run, if it has one.
    """

    identity: dict[str, Any]
    reports: list[EpochReport]
    best_sha256: str
    name: str | None = None

    def to_artifact(self, trainer: Trainer) -> Artifact:
        """This and the state of `trainer`. Raises ComputeError when a tensor is not finite."""
        step = trainer.training_step
        tensors = _named("model", dict(step.trained.state_dict())) | {"sums": trainer.sums.state().numpy()}
        kept = optimizer_state(step.optimizer, dict(step.trained.named_parameters()))
        tensors |= {name: value.detach().cpu().numpy() for name, value in kept.items()}
        if step.average is not None:
            tensors |= _named("average", step.average.state())
        broken = [name for name, value in tensors.items() if name != "sums" and not np.isfinite(value).all()]
        if broken:
            raise ComputeError(f"'{broken[0]}' became non-finite at or before step {trainer.step}", NOT_FINITE_FIX)
        params = {
            "best_sha256": self.best_sha256,
            "identity": self.identity,
            "reports": [report.to_row() for report in self.reports],
            "step": trainer.step,
            **({} if self.name is None else {"name": self.name}),
        }
        return Artifact(KIND, tensors, params)

    @classmethod
    def restore(cls, artifact: Artifact, trainer: Trainer, where: str) -> RunState:
        """Restore the state of `trainer`, made for the same run. Raises InputError when they do not fit."""
        state, taken = cls.read(artifact), int(artifact.params["step"])
        done = len(state.reports)
        if not done <= taken / trainer.steps_per_epoch <= done + 1:
            raise InputError(f"{where} has {done} finished epochs and {taken} steps of {trainer.steps_per_epoch} each", _REMAKE)
        try:
            step = trainer.training_step
            trained, parameters = step.trained, dict(step.trained.named_parameters())
            trained.load_state_dict(_part(artifact, "model", trained.state_dict(), trainer.device))
            tensors = {name: torch.from_numpy(value.copy()) for name, value in artifact.tensors.items()}
            load_optimizer_state(step.optimizer, parameters, tensors)
            if step.average is not None:
                step.average.load(_part(artifact, "average", step.average.state(), trainer.device))
            trainer.step = taken
            trainer.sums.load(torch.from_numpy(artifact.tensor("sums", (None,)).copy()))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{where} does not fit this run: {reason}", _REMAKE) from None
        return state

    @classmethod
    def read(cls, artifact: Artifact) -> RunState:
        """The progress alone, of an artifact that was read (see `artifacts.from_bytes`, which checks its record)."""
        params = artifact.params
        reports = [EpochReport.from_row(row) for row in params["reports"]]
        return cls(params["identity"], reports, params["best_sha256"], params.get("name"))


def _named(part: str, tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {f"{part}.{name}": value.detach().cpu().numpy() for name, value in tensors.items()}


def _part(artifact: Artifact, part: str, like: Mapping[str, Tensor], device: str) -> dict[str, Tensor]:
    """The tensors of a part. Raises ValueError for one that is not among `like`, or of another shape or type."""
    found = {}
    for name, value in artifact.tensors.items():
        key = name.removeprefix(f"{part}.")
        if key == name:
            continue
        tensor = torch.from_numpy(value.copy())
        if key not in like or (tensor.shape, tensor.dtype) != (like[key].shape, like[key].dtype):
            raise ValueError(f"'{name}' is {tensor.dtype} {tuple(tensor.shape)}")
        found[key] = tensor.to(device)
    return found
