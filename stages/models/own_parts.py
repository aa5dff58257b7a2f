"""Modules that are not ours: backbones named by their import path, and any nn.Module as the embedding model."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from stages.errors import UsageError
from stages.imports import import_by_path, is_import_path
from stages.randomness import derive_seed


def is_own_backbone(name: str) -> bool:
    """Whether the backbone `name` is an import path, `package.module:factory`."""
    return is_import_path(name) and not name.startswith(("timm:", "clip:"))


def load_backbone(path: str, seed: int = 0, option: str = "--backbone") -> nn.Module:
    """Import `package.module:factory` and call it without arguments.

    Only for a path that the user gave: importing a module runs its code.

    Args:
        path: of a function or class that returns a module, images (N, 3, H, W) -> features (N, F).
        seed: of torch's global generator during the call; the generator is restored afterwards.
        option: where the path was given, for errors.

    Raises:
        MissingError: the module cannot be imported.
        UsageError: no such name, or the call fails or does not return an nn.Module.
    """
    fix = "name a function or class that returns an nn.Module when it is called without arguments"
    with torch.random.fork_rng(devices=[]):
        factory = import_by_path(path, option)
        if isinstance(factory, nn.Module) or not callable(factory):
            raise UsageError(f"{option} {path} is a {type(factory).__name__}", fix)
        torch.manual_seed(derive_seed(seed, "weights/backbone"))
        try:
            made = factory()
        except (Exception, SystemExit) as error:  # whatever the user's code raises
            raise UsageError(f"{option} {path}: {path.partition(':')[2]}() fails with {_first_line(error)}", fix) from error
    if not isinstance(made, nn.Module):
        raise UsageError(f"{option} {path} returns a {type(made).__name__}", fix)
    return made


def output_width(module: nn.Module, image_size: int, name: str) -> int:
    """D of a module from images (N, 3, S, S) to (N, D), found by a forward pass in eval mode.

    Args:
        module: keeps its modes.
        image_size: S.
        name: of the module, in error messages.

    Raises UsageError when the module does not take such images, or returns something else.
    """
    modes = [(part, part.training) for part in module.modules()]
    like = next(module.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            output = module.eval()(torch.zeros(2, 3, image_size, image_size, device=like.device))
    except Exception as error:  # whatever the module raises
        fix = "try --resize 224" if name.startswith("timm:") else "it is called with float images (N, 3, H, W)"
        raise UsageError(f"{name} does not take {image_size} px images: {_first_line(error)}", fix) from error
    finally:
        for part, training in modes:
            part.training = training
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != 2:
        given = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        fix = "end it with global pooling and nn.Flatten()"
        raise UsageError(f"{name} gives {given} for 2 images, expected (2, features)", fix)
    return output.shape[1]


def check_embedding(module: nn.Module, image_size: int, width: int) -> None:
    """Raise UsageError unless `module` gives embeddings of the anchors' `width` for images of `image_size` px."""
    found = output_width(module, image_size, "your module")
    if found != width:
        raise UsageError(
            f"your module gives (2, {found}) for 2 images, the anchors have width {width}",
            f"end it with nn.Linear({found}, {width})",
        )


def import_path_of(kind: type) -> str:
    """`package.module:name` of a class, to record it."""
    return f"{kind.__module__}:{kind.__qualname__}"


def fingerprint(module: nn.Module) -> dict[str, str]:
    """What identifies a module in a run: its type, and digests of the names and shapes and of the values of its weights."""
    shapes, values = hashlib.sha256(), hashlib.sha256()
    for name, value in module.state_dict().items():
        shapes.update(f"{name} {tuple(value.shape)} {value.dtype};".encode())
        values.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return {"type": import_path_of(type(module)), "shapes": shapes.hexdigest(), "weights": values.hexdigest()}


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
