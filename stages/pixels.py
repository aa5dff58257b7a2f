"""Checking and converting pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stages.errors import InputError

# float rounding of pixels near 0 and 1
_TOLERANCE = 1e-6
# below this batch size, oneDNN and matrix products on the CPU add in another order
_LEAST_ON_CPU = 16


def check_pixels(images: Tensor) -> None:
    """Raise InputError unless `images` are (N, 3, H, W), uint8 or float in [0, 1]. Synchronizes with the device."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"the images have shape {tuple(images.shape)}, expected (N, 3, H, W)", "give a batch of RGB images")
    if images.dtype == torch.uint8 or not len(images):
        return
    if not images.is_floating_point():
        raise InputError(f"the pixels are {images.dtype}", "give uint8, or float in [0, 1]")
    low, high = (float(value) for value in torch.stack(images.detach().aminmax()))
    if not -_TOLERANCE <= low <= high <= 1 + _TOLERANCE:
        if math.isnan(low) or math.isnan(high):
            raise InputError("some pixels are not a number", "give float pixels in [0, 1], or uint8")
        advice = "drop Normalize, the classifier applies it" if low < 0 else "divide by 255, or give uint8"
        raise InputError(f"pixels span [{low:.3g}, {high:.3g}], expected [0, 1]", advice)


def to_pixels(images: Tensor, rows: Tensor, device: torch.device | str) -> Tensor:
    """Images `rows` of a set (N, 3, H, W), uint8 or float in [0, 1], as float32 in [0, 1] on `device`, channels last."""
    picked = images[rows.to(images.device)].to(device)
    x = picked.to(torch.float32, memory_format=torch.channels_last)
    return x.div_(255) if images.dtype == torch.uint8 else x


def filled(tensor: Tensor) -> Tensor:
    """On the CPU, pad `tensor` (n, …) to 16 rows with its first one, images channels last, so that results do not depend on the
    batch size, bit for bit. The padding gets no gradient."""
    if tensor.device.type != "cpu" or not len(tensor):
        return tensor
    missing = _LEAST_ON_CPU - len(tensor)
    if missing > 0:
        tensor = torch.cat((tensor, tensor[:1].detach().expand(missing, *tensor.shape[1:])))
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
