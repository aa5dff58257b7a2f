from __future__ import annotations

import datetime
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stages.errors import UsageError
from stages.models.embedding import EmbeddingModel, place
from stages.models.norms import synchronise_norms

PROCESSES = 3


@dataclass(frozen=True)
class Case:
    """A model, and how many of the global batch's images each process has."""

    backbone: str
    parts: tuple[int, ...]
    dtype: torch.dtype = torch.float64
    size: int = 16

    @property
    def name(self) -> str:
        return f"{self.backbone.replace(':', '-')}_{'-'.join(map(str, self.parts))}_{str(self.dtype).rpartition('.')[2]}"


CASES = [
    Case("conv4-8", (5, 3)),
    Case("conv4-8", (4, 0)),
    Case("conv4-8", (2, 3, 3)),
    Case("conv4-8", (0, 5, 3), torch.float32),
    Case("conv4-8", (1, 0, 0), size=32),
    Case("resnet12", (2, 2)),
    Case("resnet12", (2, 0, 1)),
    Case("timm:mobilenetv3_small_050", (3, 0, 2), size=32),
]


def trained(case: Case, rows: slice, group: dist.ProcessGroup | None) -> dict[str, Tensor]:
    """Embeddings and input gradients of these rows, gradients of the weights, and buffers, after two passes in training mode.

    As in a step: x_adv, then x, one loss over both. `group` adds the gradients of the weights up over the processes.
    """
    model = EmbeddingModel(case.backbone, 4, case.size, mean=(0.4,) * 3, std=(0.3,) * 3).to(case.dtype)
    place(model, "cpu")
    if group is not None:
        names = list(model.state_dict())
        synchronise_norms(model, group)
        assert list(model.state_dict()) == names
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, sum(case.parts), 3, case.size, case.size, generator=generator, dtype=torch.float64).to(case.dtype)
    x = images[:, rows].clone().requires_grad_(True)
    attacked, clean = model(x[0]), model(x[1])
    target = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=case.dtype)
    ((attacked @ target).square().sum() + (attacked * clean).sum()).backward()
    found = {"attacked": attacked, "clean": clean, "input": x.grad}
    for name, parameter in model.named_parameters():
        if group is not None:
            dist.all_reduce(parameter.grad, group=group)
        found[f"gradient.{name}"] = parameter.grad
    found |= {f"buffer.{name}": value for name, value in model.named_buffers()}
    with torch.no_grad():
        found["eval"] = model.eval()(x[1])
    return {name: value.detach().contiguous() for name, value in found.items()}


def share(parts: tuple[int, ...], rank: int) -> slice:
    return slice(sum(parts[:rank]), sum(parts[: rank + 1]))


def process(rank: int, folder: Path) -> None:
    """One of the processes; started by `results`."""
    torch.set_num_threads(1)
    wait = datetime.timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=PROCESSES, timeout=wait)
    groups = {size: dist.new_group(list(range(size))) for size in (1, 2, PROCESSES)}
    for case in CASES:
        if rank < len(case.parts):
            found = trained(case, share(case.parts, rank), groups[len(case.parts)])
            save_file(found, folder / f"{case.name}_{rank}.st")
    if rank == 0:
        alone = nn.Sequential(nn.BatchNorm2d(2))
        synchronise_norms(alone, groups[1])
        assert type(alone[0]) is nn.BatchNorm2d
        with pytest.raises(UsageError, match="'Strange' of this model cannot be synchronized"):
            synchronise_norms(nn.Sequential(Strange(2)), groups[2])
    dist.barrier()
    dist.destroy_process_group()


class Strange(nn.BatchNorm2d):
    """A batch norm of which nothing is known."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All cases, computed by three processes at once."""
    folder = tmp_path_factory.mktemp("norms")
    # one import of torch and timm for all of them
    multiprocessing.set_forkserver_preload([__name__, "timm"])
    running = mp.start_processes(process, (folder,), nprocs=PROCESSES, join=False, start_method="forkserver")
    try:
        while not running.join(timeout=60):  # raises what a process raised
            pass
        yield folder
    finally:
        for one in running.processes:
            one.kill()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_processes_normalise_as_one_would(case: Case, results: Path) -> None:
    expected = trained(case, slice(None), None)
    tolerance = 1e-9 if case.dtype == torch.float64 else 1e-5
    for rank in range(len(case.parts)):
        found = load_file(results / f"{case.name}_{rank}.st")
        assert found.keys() == expected.keys()
        rows = share(case.parts, rank)
        for name, value in found.items():
            wanted = expected[name]
            if name in ("attacked", "clean", "eval"):
                wanted = wanted[rows]
            elif name == "input":
                wanted = wanted[:, rows]
            scale = max(float(wanted.abs().max()), 1.0) if wanted.numel() else 1.0
            torch.testing.assert_close(
                value, wanted, rtol=0, atol=tolerance * scale, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_processes_keep_the_same_statistics_to_the_bit(case: Case, results: Path) -> None:
    first, *others = (load_file(results / f"{case.name}_{rank}.st") for rank in range(len(case.parts)))
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first if name.startswith("buffer."))
