"""An exponential moving average of the weights, scored and saved in place of the newest ones."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from stages.errors import InputError
from stages.models.embedding import EmbeddingModel

_UPDATES, _VALUE = "updates", "value."


class WeightAverage:
    """The average a <- d * a + (1 - d) * w over the steps, d = min(decay, (1 + t) / (10 + t)) at update t = 0, 1, ….

    The smaller decay of the first updates lets the untrained weights go; it reaches 0.999 after some 9,000 steps.

    Parameters and floating-point buffers are averaged alike: the running statistics of batch norm describe the weights that
    they were measured with, so the averaged weights get the average of theirs. Counts are copied.

    Args:
        model: the model that is trained; `model` of this object is a copy of it, in eval mode and without gradients.
        decay: in [0, 1).

    Attributes:
        model: the averaged model, for scoring and saving.
    """

    def __init__(self, model: EmbeddingModel, decay: float) -> None:
        self.model = deepcopy(model).eval().requires_grad_(False)
        self._decay, self._updates = decay, 0
        newest, average = (dict(which.state_dict(keep_vars=True)) for which in (model, self.model))
        averaged = [name for name, value in average.items() if value.is_floating_point()]
        self._newest, self._average = [newest[name] for name in averaged], [average[name] for name in averaged]
        self._counts = [(average[name], newest[name]) for name in average if name not in averaged]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model as it is now; after each step."""
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        torch._foreach_lerp_(self._average, self._newest, 1 - decay)
        for mine, theirs in self._counts:
            mine.copy_(theirs)
        self._updates += 1

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on exactly, as copies on the CPU."""
        values = {f"{_VALUE}{name}": value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        return {_UPDATES: torch.tensor(self._updates), **values}

    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`. Raises InputError when it is of another model."""
        values = {name.removeprefix(_VALUE): value for name, value in state.items() if name.startswith(_VALUE)}
        own = self.model.state_dict()
        odd = own.keys() ^ values.keys() or {name for name, value in values.items() if value.shape != own[name].shape}
        if odd or _UPDATES not in state:
            name = min(odd, default=_UPDATES)
            raise InputError(f"'{name}' of the saved average does not fit the model", "train again from the start")
        self.model.load_state_dict(values)
        self._updates = int(state[_UPDATES])
