"""Building a model whose weights are replaced afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# the initialisers that dispatch are in torch.nn.init; the others end in one of these
_FILLS = (torch.Tensor.normal_, torch.Tensor.uniform_)


class Uninitialised(TorchFunctionMode):
    """Within: `torch.nn.init` leaves tensors as they are, and draws no random numbers.

    Initialisation takes longer than loading for large models, and on the meta device it imports torch's compiler (a second).
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """The tensor itself in place of an initialiser's result; other functions run as usual."""
        kwargs = kwargs or {}
        if func in _FILLS or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
