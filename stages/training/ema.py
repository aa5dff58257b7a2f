"""An exponential moving average of the weights, scored and saved in place of the newest ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

_Tensors = list[Tensor] | tuple[Tensor, ...]
_UPDATES, _VALUE = "updates", "value."


class WeightAverage(AveragedModel):
    """The average a <- d * a + (1 - d) * w over the training steps, d = min(decay, (1 + t) / (10 + t)) at update t = 0, 1, ….

    The smaller decay of the first updates forgets the untrained weights soon; it reaches 0.999 after some 9,000 steps.

    Parameters and floating-point buffers are averaged alike: the running statistics of batch norm belong to the weights that
    they were measured with, so the averaged weights get the average of theirs. Counts are copied. Call `update_parameters`
    after each step.

    Args:
        model: the model that is trained; `module` is a copy of it, in eval mode and without gradients.
        decay: in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, multi_avg_fn=self._average, use_buffers=True)
        self.eval().requires_grad_(False)
        self._decay = decay
        self.n_averaged.fill_(1)  # the average starts at the untrained weights; with 0 the first update would replace them

    def _average(self, averages: _Tensors, newest: _Tensors, _: Tensor | int) -> None:
        if not averages[0].is_floating_point():
            torch._foreach_copy_(averages, newest)
            return
        updates = int(self.n_averaged) - 1  # on the CPU; the third argument is on the device, and reading it would wait
        torch._foreach_lerp_(averages, newest, 1 - min(self._decay, (1 + updates) / (10 + updates)))

    def state(self) -> dict[str, Tensor]:
        """Everything needed to resume exactly, as copies on the CPU."""
        values = {f"{_VALUE}{name}": value.detach().cpu().clone() for name, value in self.module.state_dict().items()}
        return {_UPDATES: self.n_averaged.cpu() - 1, **values}

    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`. Raises KeyError or RuntimeError when it is of another model."""
        self.n_averaged.fill_(int(state[_UPDATES]) + 1)
        self.module.load_state_dict(
            {name.removeprefix(_VALUE): value for name, value in state.items() if name.startswith(_VALUE)}
        )
