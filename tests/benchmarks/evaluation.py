"""Benchmarks of the evaluation: attacks on N-way episodes against a plain loop over the episodes, and AutoAttack's attacks
against pyautoattack called directly, both on PyTorch's own layers in another process.

Every sample is correctly classified when clean and, at an eps of 0.0001/255, under attack. So nothing is gained by skipping
misclassified samples. On a trained model the gain is larger; the plain loop attacks every sample with every step, as published
programs do.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch

from stages.attacks.spec import AttackSpec, parse_attacks
from stages.evaluation.protocol import Protocol
from stages.models.embedding import place
from stages.threat import ThreatModel
from tests.benchmarks.elsewhere import Ask, elsewhere
from tests.benchmarks.evaluation_task import AUTOATTACK, SCALE, THREAT, EvaluationTask, evaluation_task
from tests.benchmarks.plain_evaluation import PlainEvaluation
from tests.benchmarks.reference import wait
from tests.benchmarks.timing import HEADER, Pair, alternate, environment, show, write_csv
from tests.stages.evaluation.models import evaluate

TARGET = 2.0  # on 2 CPU cores, conv4-64


def seconds(task: EvaluationTask, protocol: Protocol, specs: list[AttackSpec], batch_size: int) -> float:
    """Seconds of an evaluation by `laat`. Raises AssertionError unless every sample is classified correctly."""
    wait(task.device)
    start = time.perf_counter()
    found = evaluate(task.model, task.group, protocol, specs, THREAT, batch_size=batch_size, scale=SCALE)
    wait(task.device)
    assert found.worst.accuracy == 1
    return time.perf_counter() - start


def episodes_pair(
    plain: Ask, task: EvaluationTask, spec: AttackSpec, repeats: int, batch_size: int, target: float | None = None
) -> Pair:
    """Seconds of an evaluation of the episodes; `plain` asks a `PlainEvaluation` on the same task."""
    how = task.protocol
    return alternate(
        f"{spec.name}, {how.episodes} episodes of {how.ways} x {how.queries}",
        lambda: seconds(task, how, [spec], batch_size),
        lambda: float(plain("episodes", spec.name)),
        repeats,
        target,
    )


def library_pair(
    plain: Ask, task: EvaluationTask, steps: int, repeats: int, batch_size: int, target: float | None = None
) -> Pair:
    """Seconds of the suite aa-few-class, all-way, `steps` steps and queries an attack."""
    specs = parse_attacks([f"{name}-{steps}" for name in AUTOATTACK])
    return alternate(
        f"aa-few-class, {steps} steps, {len(task.group.labels)} images",
        lambda: seconds(task, Protocol(), specs, batch_size),
        lambda: float(plain("autoattack", steps, batch_size)),
        repeats,
        target,
    )


def decisions_apart(task: EvaluationTask, spec: AttackSpec, batch_size: int) -> float:
    """Share of samples where the device and the CPU decide differently, at an eps where about half are misclassified."""
    how = replace(task.protocol, episodes=min(task.protocol.episodes, 4))

    def stands(device: str, threat: ThreatModel) -> np.ndarray:
        model = task.model
        place(model, device)
        found = evaluate(model, task.group, how, [spec], threat, batch_size=batch_size, scale=SCALE)
        return found.correct[spec.name]

    for power in range(-6, 5):
        threat = ThreatModel(Fraction(2) ** power / 255)
        there = stands(task.device, threat)
        if there.mean() < 0.6:
            break
    here = stands("cpu", threat)
    place(task.model, task.device)
    return float((there != here).mean())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="conv4-64", help="default: conv4-64")
    parser.add_argument("--attacks", nargs="+", default=["fgsm", "pgd-20", "margin-pgd-20"], metavar="NAME")
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--queries", type=int, default=20, help="per class, of 5 classes (default 20)")
    parser.add_argument("--library-steps", type=int, default=10, help="0 skips AutoAttack (default 10)")
    parser.add_argument("--repeats", type=int, default=5, help="timed pairs (default 5)")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--device", default="cpu", help="torch device (default cpu)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table to this file")
    options = parser.parse_args(arguments)
    before = environment(options.device)
    given = (options.backbone, options.device, options.episodes, options.queries)
    task = evaluation_task(*given)
    in_full = (options.backbone, options.device, options.episodes * options.queries) == ("conv4-64", "cpu", 160)
    target = TARGET if in_full and torch.get_num_threads() > 1 else None
    with elsewhere(PlainEvaluation, *given) as plain:
        specs = parse_attacks(options.attacks)
        pairs = [episodes_pair(plain, task, spec, options.repeats, options.batch_size, target) for spec in specs]
        rows = [[*HEADER, "points/s", "episodes/s"]]
        for pair in pairs:
            took = statistics.median(pair.ours)
            rows.append([*pair.row(), f"{task.points / took:.0f}", f"{task.protocol.episodes / took:.2f}"])
        if options.library_steps:
            pairs.append(library_pair(plain, task, options.library_steps, options.repeats, options.batch_size, target))
            rows.append([*pairs[-1].row(), f"{len(task.group.labels) / statistics.median(pairs[-1].ours):.0f}", ""])
    show(rows)
    settings = {"backbone": options.backbone, "batch size": str(options.batch_size), "repeats": str(options.repeats)}
    print("; ".join(f"{name} {value}" for name, value in {**settings, **before}.items()))
    if options.csv:
        write_csv(options.csv, rows, {**settings, **before})
    return 0 if all(pair.met for pair in pairs) else 1


if __name__ == "__main__":
    sys.exit(main())
