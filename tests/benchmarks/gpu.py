"""All GPU benchmarks in one command: python tests/benchmarks/gpu.py

In order: accuracy of the device against the CPU in float64; the rate of its matrix units; training steps of conv4-512 and
resnet12, float32 and bf16, against the plain float32 program; the time of an epoch of CIFAR-FS's size; the evaluation of
episodes, its decisions compared with the CPU and its speed with a plain loop. A short table follows, and all figures go to
gpu.csv and gpu.json in --out.

`--device cpu --tiny` runs the same code without a GPU, at a size whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from stages.attacks.spec import parse_attacks
from tests.benchmarks.agreement import ALLOWED, disagreement
from tests.benchmarks.device_rate import matrix_rate
from tests.benchmarks.elsewhere import elsewhere
from tests.benchmarks.evaluation import decisions_apart, episodes_pair
from tests.benchmarks.evaluation_task import evaluation_task
from tests.benchmarks.operations import step_operations
from tests.benchmarks.plain_evaluation import PlainEvaluation
from tests.benchmarks.task import Task
from tests.benchmarks.timing import environment, show, write_csv
from tests.benchmarks.training_step import Ours, training_step

BACKBONES = ("conv4-512", "resnet12")
PRECISIONS = ("bf16", "float32")
EPOCHS = 100
RATIO, SHARE, MINUTES, EPISODES = 3.0, 0.45, 7.0, 5.0  # targets on an H200-class GPU
# share of decisions under attack that may differ between devices: float32 rounds differently, and a step takes signs
APART = 0.01
HEADER = ["what", "measured", "target", "met"]


@dataclass(frozen=True)
class Size:
    """The amount of work of each measurement."""

    backbones: tuple[str, ...] = BACKBONES
    batch: int = 128
    steps: int = 7
    images: int = 38_400  # the training images of CIFAR-FS
    side: int | None = None  # of the matrices whose product is timed
    judged: bool = True  # against the targets
    repeats: int = 7
    a_turn: int = 20
    episodes: int = 40
    queries: int = 20
    evaluated: int = 2048  # samples per batch of an evaluation

    def task(self, backbone: str, precision: str) -> Task:
        """The training task to time."""
        return Task(backbone, self.batch, self.steps, precision, self.images)


TINY = Size(
    ("conv4-8",), batch=4, steps=1, images=16, side=64, judged=False, repeats=1, a_turn=1, episodes=2, queries=4, evaluated=32
)


class Findings:
    """Figures, written to files after every measurement, so that an interrupted run keeps what it has."""

    def __init__(self, device: str, folder: Path | None) -> None:
        self.rows = [HEADER]
        self.figures: dict[str, Any] = {"environment": environment(device)}
        self.failed = False
        self._folder = folder

    def add(self, what: str, measured: str, target: str = "", met: bool | None = None, **figures: Any) -> None:
        """Add a row to the table, and its figures to the JSON."""
        self.rows.append([what, measured, target, "" if met is None else "yes" if met else "NO"])
        self.figures[what] = {**figures, **({} if met is None else {"met": met})}
        print(f"{what}: {measured}", flush=True)
        self.write()

    def attempt(self, what: str, measure: Callable[[], None]) -> None:
        """Run one measurement; a failure becomes a row, and the others continue."""
        try:
            measure()
        except Exception as error:
            self.failed = True
            self.add(what, f"failed: {type(error).__name__}: {str(error)[:80]}", met=False)

    def write(self) -> None:
        """Write the table and the figures to the folder, if there is one."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        write_csv(self._folder / "gpu.csv", self.rows, self.figures["environment"])
        (self._folder / "gpu.json").write_text(json.dumps(self.figures, indent=1), encoding="utf-8")


def measure(device: str, size: Size, workers: int, full: bool, folder: Path | None) -> Findings:
    """All measurements, in the order of the docstring above."""
    found = Findings(device, folder)
    for backbone in size.backbones:
        for precision in PRECISIONS:
            name, task = f"agreement, {backbone}, {precision}", size.task(backbone, precision)
            found.attempt(name, lambda n=name, t=task: _agreement(found, n, t, device))
    rates: dict[str, float] = {}
    for name, dtype in (("bf16", torch.bfloat16), ("float32", torch.float32)):
        found.attempt(f"matrix rate, {name}", lambda n=name, d=dtype: _rate(found, n, d, device, size, rates))
    for backbone in size.backbones:
        for precision in PRECISIONS:
            task = size.task(backbone, precision)
            found.attempt(task.title, lambda t=task: _step(found, t, device, size, workers, rates))
    task = size.task(size.backbones[0], "bf16")
    found.attempt("epochs", lambda: _epochs(found, task, device, EPOCHS if full else 1, size.judged))
    for backbone in size.backbones:
        found.attempt(f"evaluation, {backbone}", lambda b=backbone: _evaluation(found, b, device, size))
    return found


def _agreement(found: Findings, name: str, task: Task, device: str) -> None:
    far = disagreement(task, device)
    text = ", ".join(f"{part} {value:.1e}" for part, value in far.items())
    allowed = ALLOWED[task.precision]
    met = all(value <= allowed[part] for part, value in far.items())
    found.failed |= not met
    found.add(name, text, ", ".join(f"{value:g}" for value in allowed.values()), met, **far)


def _rate(found: Findings, name: str, dtype: torch.dtype, device: str, size: Size, rates: dict[str, float]) -> None:
    rates[name] = matrix_rate(device, dtype, size.side)
    found.add(f"matrix rate, {name}", f"{rates[name] / 1e12:.4g} TFLOP/s", operations_a_second=rates[name])


def _step(found: Findings, task: Task, device: str, size: Size, workers: int, rates: dict[str, float]) -> None:
    target = RATIO if size.judged and task.precision == "bf16" else None
    pair = training_step(task, device, repeats=size.repeats, a_turn=size.a_turn, workers=workers, target=target)
    seconds, plain = statistics.median(pair.ours), statistics.median(pair.reference)
    text = f"{pair.ratio:.2f}x the plain reference ({pair.ratios[0]:.2f} to {pair.ratios[-1]:.2f}): "
    text += f"{1000 * seconds:.4g} ms against {1000 * plain:.4g} ms"
    wanted = "" if target is None else f"{target:g}x"
    met = None if target is None else pair.met
    found.add(task.title, text, wanted, met, ours=pair.ours, reference=pair.reference, ratio=pair.ratio)
    rate = step_operations(task) / seconds
    if task.precision in rates:
        share = rate / rates[task.precision]
        met = share >= SHARE if target is not None else None
        name = f"of the {task.precision} matrix rate, {task.backbone}"
        wanted = "" if met is None else f"{SHARE:.0%}"
        found.add(name, f"{share:.1%}", wanted, met, share=share, operations_a_step=step_operations(task))


def _epochs(found: Findings, task: Task, device: str, epochs: int, judged: bool) -> None:
    """Training steps only: no scoring of epochs, no files."""
    ours = Ours(task, device)
    ours.seconds(2)  # warm-up; the timed epoch may start in the middle of one
    steps = -(-task.images // task.batch)
    seconds = ours.seconds(epochs * steps) * EPOCHS / epochs
    how = "measured" if epochs == EPOCHS else f"from {epochs} epoch of {steps} steps"
    text = f"{seconds / 60:.2f} min ({how})"
    found.add(
        f"{EPOCHS} epochs of {task.images} images, {task.backbone}, {task.precision}",
        text,
        f"{MINUTES:g} min" if judged else "",
        seconds / 60 <= MINUTES if judged else None,
        seconds=seconds,
        epochs_measured=epochs,
    )


def _evaluation(found: Findings, backbone: str, device: str, size: Size) -> None:
    """PGD-20 on 5-way episodes: decisions against the CPU where half of the samples are misclassified; speed where none is."""
    (spec,) = parse_attacks(["pgd-20"])
    given = (backbone, device, size.episodes, size.queries)
    task = evaluation_task(*given)
    apart = decisions_apart(task, spec, size.evaluated)
    met = apart <= APART
    found.failed |= not met
    found.add(f"decisions unlike the CPU's, {backbone}", f"{apart:.2%}", f"{APART:.0%}", met, share=apart)
    with elsewhere(PlainEvaluation, *given) as plain:
        pair = episodes_pair(plain, task, spec, size.repeats, size.evaluated)
    text = f"{pair.ratio:.2f}x a loop over them ({pair.ratios[0]:.2f} to {pair.ratios[-1]:.2f}): "
    text += f"{task.protocol.episodes / statistics.median(pair.ours):.3g} episodes/s"
    wanted = f"{EPISODES:g}x" if size.judged else ""
    met = pair.ratio >= EPISODES if size.judged else None
    found.add(f"pgd-20 on episodes, {backbone}", text, wanted, met, ours=pair.ours, reference=pair.reference, ratio=pair.ratio)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="torch device (default cuda)")
    parser.add_argument("--tiny", action="store_true", help="a few images and a small model, to test this program")
    parser.add_argument("--backbones", nargs="+", metavar="NAME", help=f"default: {' '.join(BACKBONES)}")
    parser.add_argument("--repeats", type=int, help="timed pairs (default 7)")
    workers = min(8, os.cpu_count() or 1)
    parser.add_argument("--workers", type=int, default=workers, help=f"loader processes of the plain program (here {workers})")
    parser.add_argument("--full", action="store_true", help=f"measure all {EPOCHS} epochs instead of one")
    out = Path(os.environ["OUT"]) if os.environ.get("OUT") else None
    parser.add_argument("--out", type=Path, default=out, metavar="DIR", help="folder for gpu.csv and gpu.json (default: $OUT)")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device found: use a machine that has one, or try --device cpu --tiny", file=sys.stderr)
        return 4
    size = TINY if options.tiny else Size()
    if options.backbones:
        size = replace(size, backbones=tuple(options.backbones))
    if options.repeats:
        size = replace(size, repeats=options.repeats)
    found = measure(options.device, size, options.workers, options.full, options.out)
    print()
    show(found.rows)
    print("; ".join(f"{name} {value}" for name, value in found.figures["environment"].items()))
    return 1 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
