"""The benchmarks count correctly, compare equal work, and run from start to end."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stages.devices import bf16_units
from stages.models.backbones import RESNET12_WIDTHS
from stages.models.classifier import unit
from stages.models.embedding import place
from tests.benchmarks.operations import attack_operations, forward_operations, outer_operations, step_operations
from tests.benchmarks.reference import PlainProgram, plain_network, published_attack
from tests.benchmarks.task import Task
from tests.benchmarks.timing import Pair
from tests.stages.training.plain_step import plain_attack

HERE = Path(__file__).parent


def conv_operations(inputs: int, outputs: int, kernel: int, side: int) -> int:
    return 2 * inputs * outputs * kernel**2 * side**2


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("OUT", None)
    command = [sys.executable, str(HERE / program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


def test_operations_of_conv4_are_those_of_its_layers() -> None:
    task = Task("conv4-8", batch=3, steps=7)
    first = conv_operations(3, 8, 3, 32)
    forward = first + sum(conv_operations(8, 8, 3, side) for side in (16, 8, 4)) + 2 * 8 * task.width
    assert forward_operations(task) == forward
    assert attack_operations(task) == 2 * forward
    assert outer_operations(task) == 3 * forward - first
    assert step_operations(task) == 3 * (7 * 2 * forward + 2 * (3 * forward - first))


def test_operations_of_resnet12_are_those_of_its_layers() -> None:
    forward, inputs = 2 * RESNET12_WIDTHS[-1] * 512, 3
    for side, width in zip((32, 16, 8, 4), RESNET12_WIDTHS, strict=True):
        forward += conv_operations(inputs, width, 3, side) + 2 * conv_operations(width, width, 3, side)
        forward += conv_operations(inputs, width, 1, side)
        inputs = width
    assert forward_operations(Task("resnet12")) == forward


@pytest.mark.parametrize("backbone", ["conv4-8", "resnet12"])
@pytest.mark.parametrize("training", [True, False])
def test_the_plain_network_is_ours_in_other_words(backbone: str, training: bool) -> None:
    task = Task(backbone, images=8)
    x = task.image_set().images.float() / 255
    ours = task.model().train()
    with torch.no_grad():
        ours(x)  # running statistics that are not those of a fresh network
        plain = plain_network(ours).train(training)
        place(ours, "cpu")
        ours.train(training)
        torch.testing.assert_close(plain(x), unit(ours(x)), rtol=0, atol=1e-5)


def test_the_reference_learns() -> None:
    program = PlainProgram(Task("conv4-8", batch=8, steps=1, images=8, classes=4, width=8), "cpu", workers=0)
    losses = [float(program.step()) for _ in range(20)]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_the_published_attack_is_the_plain_one_with_more_gradients() -> None:
    task = Task("conv4-8", images=4, classes=4)
    model, x, y = plain_network(task.model()).double(), task.image_set().images.double() / 255, torch.arange(4)
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    anchors, how = task.anchors().double(), {"eps": 0.1, "steps": 3, "step": 0.03}
    plain, published = (attack(model, anchors, x, y, noise.double(), **how) for attack in (plain_attack, published_attack))
    assert torch.equal(plain, published)
    assert (plain - x).abs().max() == pytest.approx(0.1)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_ratio_is_taken_pair_by_pair() -> None:
    pair = Pair("x", ours=[1.0, 2.0, 1.0], reference=[2.0, 6.0, 1.5], target=2.1)
    assert pair.ratios == [1.5, 2.0, 3.0]
    assert (pair.ratio, pair.met) == (2.0, False)


def test_bench_from_beginning_to_end(tmp_path: Path) -> None:
    table = tmp_path / "bench.csv"
    small = (
        "--backbones",
        "conv4-8",
        "--repeats",
        "1",
        "--batch-size",
        "4",
        "--steps",
        "1",
        "--workers",
        "1",
        "--tuning",
        "tecoa",
    )
    done = run("bench.py", *small, "--csv", str(table))
    assert done.returncode == 0, done.stderr
    assert "conv4-8" in done.stdout
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # a LAAT step to two programs and maybe in bfloat16, one of tecoa, four on episodes and three expansions
    assert len(rows) == 10 + bool(bf16_units("cpu"))
    assert sum("to the published step" in row["what"] for row in rows) == 1
    assert all(float(row["plain/ours"]) > 0 and row["torch"] == torch.__version__ and row["device"] for row in rows)


def test_the_gpu_measurements_walk_their_path_on_the_cpu(tmp_path: Path) -> None:
    done = run("gpu.py", "--device", "cpu", "--tiny", "--workers", "0", "--out", str(tmp_path / "new"))
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "new" / "gpu.json").read_text(encoding="utf-8"))
    assert figures["of the bf16 matrix rate, conv4-8"]["share"] > 0
    assert figures["agreement, conv4-8, float32"]["embeddings"] < 1e-5
    assert "environment" in figures
    assert "failed" not in (tmp_path / "new" / "gpu.csv").read_text(encoding="utf-8")


def test_without_a_gpu_the_gpu_measurements_say_so() -> None:
    done = run("gpu.py")
    assert done.returncode == 4
    assert "no CUDA device" in done.stderr
    assert "--tiny" in done.stderr
    assert not done.stdout


def test_evaluations_against_plain_programs_from_beginning_to_end(tmp_path: Path) -> None:
    table = tmp_path / "evaluation.csv"
    small = ("--backbone", "conv4-8", "--repeats", "1", "--episodes", "2", "--queries", "4", "--library-steps", "2")
    done = run("evaluation.py", *small, "--attacks", "pgd-2", "--csv", str(table))
    assert done.returncode == 0, done.stderr
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2  # an attack on episodes, and AutoAttack's four
    assert all(float(row["plain/ours"]) > 0 and float(row["points/s"]) > 0 for row in rows)


def test_growth_from_beginning_to_end(tmp_path: Path) -> None:
    done = run("growth.py", "--part", "1000", "--repeats", "1", "--csv", str(tmp_path / "growth.csv"))
    assert done.returncode == 0, done.stderr
    with (tmp_path / "growth.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["from"], row["to"]) for row in rows] == [("2", "8")] * 3
    assert all(float(row["time/linear"]) > 0 for row in rows)


def test_the_growth_with_the_number_of_classes_from_beginning_to_end(tmp_path: Path) -> None:
    done = run("many_classes.py", "--classes", "20", "--repeats", "1", "--csv", str(tmp_path / "growth.csv"))
    assert done.returncode == 0, done.stderr
    with (tmp_path / "growth.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["classes"] == "20"
    assert all(float(row[f"{command} s"]) > 0 for command in ("anchors", "expand", "inspect"))
    assert float(row["plain/ours"]) > 0
