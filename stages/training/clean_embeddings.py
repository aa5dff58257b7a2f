"""The reference model's embeddings of all training images, computed once where no image is augmented."""

from __future__ import annotations

from contextlib import closing

import torch
from torch import Tensor, nn

from stages.data.batches.image_loader import ImageLoader
from stages.models.frozen import inference
from stages.pixels import to_pixels
from stages.training.embed import Embed
from stages.world import World


def clean_embeddings(
    reference: nn.Module, loader: ImageLoader, shape: tuple[int, int], world: World, device: str, *, batch_size: int, half: bool
) -> Tensor:
    """The embeddings (N, D) of the images in the order of the set.

    The batches are those of the set's own order, whatever order training takes: a resumed run, or one of more processes, has
    the same values to the last bit.

    Args:
        reference: frozen, on `device`; may have no parameters.
        loader: of the N training images.
        shape: N and D.
        world: the processes that share the work.
        device: torch device, also of the result.
        batch_size: images in one forward pass.
        half: bfloat16 autocast.
    """
    rows = torch.arange(shape[0]).split(batch_size)
    own = rows[world.share(len(rows))]
    dtype = next((one.dtype for one in (*reference.parameters(), *reference.buffers())), torch.float32)
    found = torch.zeros(shape, dtype=torch.promote_types(dtype, torch.float32), device=device)
    embed = Embed(reference, half=half)
    with inference(reference), closing(loader.batches(own)) as batches:
        for at, (images, _) in zip(own, batches, strict=True):
            everything = torch.arange(len(images))
            found[at[0] : at[-1] + 1] = embed.raw(to_pixels(images, everything, device))
    world.barrier()  # some processes have more batches
    world.sum([found])
    return found
