"""Benchmarks against plain programs: training steps of LAAT and of its rivals, on class batches and episodes; the expansion.

The step of the first backbone is also compared with the published program's, whose attack computes all gradients.

Both programs run in turns on the same data and machine. The table shows the median times, the median, lowest and highest ratio
of a pair, and whether the target is met. --csv also writes it to a file. `gpu.py` measures more on a GPU.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from stages.devices import bf16_units
from tests.benchmarks.elsewhere import elsewhere
from tests.benchmarks.episodes import PUBLISHED, episodes
from tests.benchmarks.expansion import expansion
from tests.benchmarks.reference import PlainProgram
from tests.benchmarks.task import Task
from tests.benchmarks.timing import HEADER, Pair, environment, show, write_csv
from tests.benchmarks.training_step import Ours, check_agreement, step_beside
from tests.benchmarks.tuning import STEPS, tuning_step

# target ratios on 2 CPU cores; a resnet12 step takes as long as twenty of conv4-64, so it gets fewer repeats
TARGETS = {"conv4-64": 3.0, "resnet12": 1.3}
BF16_TARGETS = {"conv4-64": 4.0}  # with the inner attack in bfloat16, on CPUs that have units for it
SLOW_REPEATS = 3
TUNING_TARGET = 1.3
WIDTHS = (8, 32, 128)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=list(TARGETS), metavar="NAME", help="default: conv4-64 resnet12")
    parser.add_argument("--tuning", nargs="*", default=list(STEPS), metavar="NAME", help="default: tecoa fare")
    parser.add_argument("--repeats", type=int, default=7, help="timed pairs (default 7; resnet12 at most 3)")
    parser.add_argument("--batch-size", type=int, default=128, help="images per training step (default 128)")
    parser.add_argument("--steps", type=int, default=7, help="PGD steps (default 7)")
    parser.add_argument("--workers", type=int, default=2, help="loader processes of the plain program (default 2)")
    parser.add_argument("--device", default="cpu", help="torch device (default cpu)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table to this file")
    options = parser.parse_args(arguments)
    if min(options.repeats, options.steps) < 1 or options.batch_size < 2 or options.workers < 0:
        parser.error("repeats and steps are at least 1, the batch size at least 2")
    before = environment(options.device)
    pairs: list[Pair] = []
    for backbone in options.backbones:
        task = Task(backbone, options.batch_size, options.steps, images=max(1024, options.batch_size))
        repeats = min(options.repeats, SLOW_REPEATS) if backbone == "resnet12" else options.repeats
        pairs += _steps(task, options.device, repeats, options.workers, more=backbone == options.backbones[0])
    if options.device == "cpu":
        target = TUNING_TARGET if options.batch_size == 128 and torch.get_num_threads() > 1 else None
        pairs += [
            tuning_step(name, options.batch_size, repeats=options.repeats, a_turn=4, target=target) for name in options.tuning
        ]
    few = options.backbones[0]
    queries = PUBLISHED if options.batch_size == 128 else 1
    pairs += episodes(few, options.device, options.repeats, options.steps, queries)
    pairs += [expansion(width, options.repeats) for width in WIDTHS]
    rows = [HEADER, *(pair.row() for pair in pairs)]
    show(rows)
    settings = {"repeats": str(options.repeats), "workers": str(options.workers)}
    print("; ".join(f"{name} {value}" for name, value in {**settings, **before}.items()))
    if options.csv:
        write_csv(options.csv, rows, {**settings, **before})
    return 0 if all(pair.met for pair in pairs) else 1


def _steps(task: Task, device: str, repeats: int, workers: int, *, more: bool) -> list[Pair]:
    """Our step beside the plain one; with `more` also with the attack in bfloat16, where the CPU has units for it, and beside
    the published step, which has no target."""
    in_full = (task.batch, task.steps, device) == (128, 7, "cpu") and torch.get_num_threads() > 1
    kinds = [(task, TARGETS, False)]
    if more and bf16_units(device):
        kinds.append((replace(task, attack_precision="bf16"), BF16_TARGETS, False))
    if more:
        kinds.append((task, {}, True))
    with elsewhere(PlainProgram, task, device, workers) as plain:
        check_agreement(task, Ours(task, device).trainer.model, plain, device)
        return [
            step_beside(
                plain,
                one,
                device,
                repeats=repeats,
                target=targets.get(task.backbone) if in_full else None,
                published=published,
            )
            for one, targets, published in kinds
        ]


if __name__ == "__main__":
    sys.exit(main())
