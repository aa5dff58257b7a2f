"""How time and memory grow with the number of images, classes and episodes, as ratios to linear growth.

Each measurement is in a process of its own, the two sizes of a row in turns. A ratio of 1 is linear growth, one below it is
less: something does not grow. Memory is the growth of the peak over the same work on the smallest size. Linux only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))


from stages.attacks.spec import parse_attacks
from stages.evaluation.protocol import Protocol
from stages.threat import ThreatModel
from stages.training.loop import Trainer
from tests.benchmarks.task import Task
from tests.benchmarks.timing import environment, show, write_csv
from tests.stages.evaluation.models import Group, evaluate

SMALLEST = 2
TIMES = 4  # from the smaller to the larger size
BACKBONE = "conv4-8"
HEADER = ["what", "from", "to", "ms", "ms", "time/linear", "lowest", "highest", "MB", "MB", "memory/linear"]


@dataclass(frozen=True)
class Growth:
    """A piece of work of any size: `run(size)`, and its smaller size."""

    what: str
    run: Callable[[int], None]
    size: int


def epoch_of(images: int) -> None:
    """One epoch of LAAT with a single attack step."""
    task = Task(BACKBONE, batch=64, steps=1, images=images)
    trainer = Trainer(task.model(), task.anchors(), task.image_set(), task.settings(), "cpu")
    for _ in trainer.steps():
        pass


def batch_against(classes: int) -> None:
    """Two training steps against so many anchors."""
    task = Task(BACKBONE, batch=64, steps=1, images=128, classes=classes)
    trainer = Trainer(task.model(), task.anchors(), task.image_set(), task.settings(), "cpu")
    for _ in trainer.steps():
        pass


def evaluation_of(episodes: int) -> None:
    """PGD-2 on episodes of 5 classes with 10 queries each."""
    task = Task(BACKBONE, images=400, classes=10, width=64)
    images = task.image_set()
    group = Group(images.classes, task.anchors(), images.images, images.labels)
    protocol = Protocol("episodes", ways=5, queries=10, episodes=episodes)
    evaluate(task.model().eval(), group, protocol, parse_attacks(["pgd-2"]), ThreatModel("1/255"))


GROWTHS = (
    Growth("training epoch, images", epoch_of, 1024),
    Growth("training step, classes", batch_against, 1000),
    Growth("evaluation, episodes", evaluation_of, 32),
)


def measured(run: Callable[[int], None], size: int) -> tuple[float, float]:
    """Seconds, and growth of the peak memory in MB, of `run(size)` in a process of its own."""
    context = multiprocessing.get_context("fork")  # what this process has imported is there
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(there, run, size))
    process.start()
    there.close()
    try:
        seconds, megabytes = here.recv()
    finally:
        process.join()
    return seconds, megabytes


def _run(connection: Connection, run: Callable[[int], None], size: int) -> None:
    run(SMALLEST)  # imports, and everything that is done once
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, start = _memory("VmRSS"), time.perf_counter()
    run(size)
    connection.send((time.perf_counter() - start, _memory("VmHWM") - before))


def _memory(entry: str) -> float:
    """MB of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(entry))
    return int(line.split()[1]) * 1024 / 1e6


def growth_row(growth: Growth, size: int, repeats: int) -> list[str]:
    """Cells in the order of `HEADER`: medians, and the median, lowest and highest ratio of a pair."""
    pairs = [(measured(growth.run, size), measured(growth.run, TIMES * size)) for _ in range(repeats)]
    ratios = sorted(large[0] / small[0] / TIMES for small, large in pairs)
    seconds = [statistics.median(pair[at][0] for pair in pairs) for at in (0, 1)]
    memory = [statistics.median(pair[at][1] for pair in pairs) for at in (0, 1)]
    times = [f"{1000 * one:.4g}" for one in seconds]
    shown = [f"{one:.2f}" for one in (statistics.median(ratios), ratios[0], ratios[-1])]
    sizes = [f"{size:,}", f"{TIMES * size:,}"]
    return [growth.what, *sizes, *times, *shown, *(f"{one:.1f}" for one in memory), _ratio(memory[1], TIMES * memory[0])]


def _ratio(one: float, other: float) -> str:
    return f"{one / other:.2f}" if other else ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=int, default=1, metavar="N", help="divide all sizes by N (default 1)")
    parser.add_argument("--repeats", type=int, default=3, help="timed pairs (default 3)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table to this file")
    options = parser.parse_args(arguments)
    before = environment("cpu")
    rows = [HEADER, *(growth_row(one, max(SMALLEST, one.size // options.part), options.repeats) for one in GROWTHS)]
    show(rows)
    print("; ".join(f"{name} {value}" for name, value in {"repeats": str(options.repeats), **before}.items()))
    if options.csv:
        write_csv(options.csv, rows, {"repeats": str(options.repeats), **before})
    return 0


if __name__ == "__main__":
    sys.exit(main())
