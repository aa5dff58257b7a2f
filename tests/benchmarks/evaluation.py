"""Benchmarks of the evaluation: attacks on N-way episodes against a loop over the episodes, and AutoAttack's attacks against
pyautoattack called directly.

Every sample is correctly classified when clean and, at an eps of 0.0001/255, under attack. So nothing is gained by skipping
misclassified samples, and the ratio measures batching only. On a trained model the gain is larger; the plain loop attacks every
sample with every step, as published programs do.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from stages.attacks.spec import AttackSpec, parse_attacks
from stages.attacks.suites import SUITES
from stages.data.episodes import Episodes, draw_episodes
from stages.evaluation.protocol import Protocol
from stages.models.classifier import unit
from stages.models.embedding import EmbeddingModel, place
from stages.models.frozen import frozen
from stages.pixels import to_pixels
from stages.threat import ThreatModel
from tests.benchmarks.reference import wait
from tests.benchmarks.task import Task
from tests.benchmarks.timing import HEADER, Pair, alternate, environment, show, write_csv
from tests.stages.evaluation.models import Group, evaluate

THREAT = ThreatModel(Fraction(1, 2550000))
SCALE = 10.0
CLASSES, A_CLASS = 6, 40
AUTOATTACK = SUITES["aa-few-class"].attacks


@dataclass(frozen=True)
class Setting:
    """What both programs evaluate: a model and images that it classifies correctly among all anchors, so in every episode."""

    model: EmbeddingModel
    group: Group
    device: str
    protocol: Protocol

    @property
    def points(self) -> int:
        """Number of queries in all episodes."""
        return self.protocol.episodes * self.protocol.ways * self.protocol.queries


def make_setting(backbone: str, device: str, *, episodes: int, queries: int) -> Setting:
    """Coloured noise, classified by an untrained model with anchors that are fitted to its embeddings."""
    task = Task(backbone, width=64)
    torch.manual_seed(0)
    model = task.model().eval()
    place(model, device)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat_interleave(4 * A_CLASS)
    tint = torch.randint(32, 224, (CLASSES, 3, 1, 1), generator=generator)[labels]
    noise = torch.randint(-24, 25, (len(labels), 3, task.size, task.size), generator=generator)
    images = (tint + noise).clamp(0, 255).to(torch.uint8)
    rows = torch.arange(len(labels))
    with torch.no_grad():
        found = torch.cat([unit(model(to_pixels(images, part, device))).cpu() for part in rows.split(128)])
    exact = found.double()
    wanted = torch.nn.functional.one_hot(labels, CLASSES).double() - 1 / CLASSES
    fitted = torch.linalg.solve(exact.T @ exact + 1e-6 * torch.eye(exact.shape[1]).double(), exact.T @ wanted)
    anchors = (fitted.T / fitted.norm(dim=0).max()).float()
    right = (found @ anchors.T).argmax(1) == labels
    kept = torch.cat([rows[right & (labels == at)][:A_CLASS] for at in range(CLASSES)])
    counts = torch.bincount(labels[kept], minlength=CLASSES)
    names = [f"class {at}" for at in range(CLASSES)]
    assert int(counts.min()) >= queries, f"too few images that are right: {counts.tolist()}"
    protocol = Protocol("episodes", ways=5, queries=queries, episodes=episodes)
    return Setting(model, Group(names, anchors, images[kept], labels[kept]), device, protocol)


def plain_episodes(setting: Setting, episodes: Episodes, spec: AttackSpec) -> list[Tensor]:
    """A plain program: a loop over the episodes, with all attack steps for every image."""
    said = []
    step, radius, device = spec.step_size(THREAT), THREAT.radius, setting.device
    for classes, query in zip(episodes.classes, episodes.query, strict=True):
        head = setting.group.anchors[classes].to(device)
        x = setting.group.images[query.reshape(-1)].to(device).float() / 255
        y = torch.arange(len(classes), device=device).repeat_interleave(query.shape[1])
        with torch.no_grad():
            said.append((unit(setting.model(x)) @ head.T).argmax(1).cpu())
        x_adv = x.clone()
        if spec.random_start:
            x_adv = (x + torch.empty_like(x).uniform_(-radius, radius)).clamp(0, 1)
        for _ in range(spec.steps):
            x_adv = x_adv.detach().requires_grad_(True)
            logits = SCALE * unit(setting.model(x_adv)) @ head.T
            if spec.loss == "ce":
                loss = cross_entropy(logits, y, reduction="sum")
            else:
                loss = (logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]).sum()
            (grad,) = torch.autograd.grad(loss, x_adv)
            x_adv = (x_adv.detach() + step * grad.sign()).clamp(x - radius, x + radius).clamp(0, 1)
        with torch.no_grad():
            said.append((unit(setting.model(x_adv.detach())) @ head.T).argmax(1).cpu())
    return said


def episodes_pair(setting: Setting, spec: AttackSpec, repeats: int, batch_size: int) -> Pair:
    """Seconds of an evaluation of the episodes; both programs must classify every sample correctly."""
    how, group = setting.protocol, setting.group

    def ours() -> float:
        wait(setting.device)
        start = time.perf_counter()
        found = evaluate(setting.model, group, how, [spec], THREAT, batch_size=batch_size, scale=SCALE)
        wait(setting.device)
        assert found.worst.accuracy == 1
        return time.perf_counter() - start

    def plain() -> float:
        wait(setting.device)
        start = time.perf_counter()
        drawn = draw_episodes(
            group.labels, group.classes, episodes=how.episodes, ways=how.ways, shots=0, queries=how.queries, seed=how.seed
        )
        with frozen(setting.model):
            said = plain_episodes(setting, drawn, spec)
        wait(setting.device)
        right = torch.arange(how.ways).repeat_interleave(how.queries)
        assert all(torch.equal(one, right) for one in said)
        return time.perf_counter() - start

    return alternate(f"{spec.name}, {how.episodes} episodes of {how.ways} x {how.queries}", ours, plain, repeats)


def decisions_apart(setting: Setting, spec: AttackSpec, batch_size: int) -> float:
    """Share of samples where the device and the CPU decide differently, at an eps where about half are misclassified."""
    how = replace(setting.protocol, episodes=min(setting.protocol.episodes, 4))

    def stands(device: str, threat: ThreatModel) -> np.ndarray:
        model = setting.model
        place(model, device)
        found = evaluate(model, setting.group, how, [spec], threat, batch_size=batch_size, scale=SCALE)
        return found.correct[spec.name]

    for power in range(-6, 5):
        threat = ThreatModel(Fraction(2) ** power / 255)
        there = stands(setting.device, threat)
        if there.mean() < 0.6:
            break
    here = stands("cpu", threat)
    place(setting.model, setting.device)
    return float((there != here).mean())


def library_pair(setting: Setting, steps: int, repeats: int, batch_size: int) -> Pair:
    """Seconds of the suite aa-few-class, all-way, `steps` steps and queries an attack; every sample must stay correct."""
    from pyautoattack import AutoAttack

    group, device = setting.group, setting.device
    specs = parse_attacks([f"{name}-{steps}" for name in AUTOATTACK])

    def ours() -> float:
        wait(device)
        start = time.perf_counter()
        found = evaluate(setting.model, group, Protocol(), specs, THREAT, batch_size=batch_size, scale=SCALE)
        wait(device)
        assert found.worst.accuracy == 1
        return time.perf_counter() - start

    def library() -> float:
        wait(device)
        start = time.perf_counter()
        heads = group.anchors.to(device)
        x = group.images.to(device).float() / 255
        y = group.labels.to(device)
        with frozen(setting.model):
            attack = AutoAttack(
                lambda images: SCALE * unit(setting.model(images)) @ heads.T,
                norm="Linf",
                eps=THREAT.radius,
                seed=0,
                device=device,
                version="custom",
                attacks=list(AUTOATTACK),
            )
            for one in (attack.apgd, attack.apgd_targeted, attack.fab):
                one.n_iter, one.n_restarts = steps, 1
            for one in (attack.apgd_targeted, attack.fab):
                one.n_target_classes = CLASSES - 1
            attack.square.n_queries = steps
            x_adv, *_ = attack.run_standard_evaluation(x, y, batch_size=batch_size)
        with torch.no_grad():
            assert bool(((unit(setting.model(x_adv)) @ heads.T).argmax(1) == y).all())
        wait(device)
        return time.perf_counter() - start

    return alternate(f"aa-few-class, {steps} steps, {len(group.labels)} images", ours, library, repeats)


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
    setting = make_setting(options.backbone, options.device, episodes=options.episodes, queries=options.queries)
    header = [*HEADER, "points/s", "episodes/s"]
    rows = [header]
    for spec in parse_attacks(options.attacks):
        pair = episodes_pair(setting, spec, options.repeats, options.batch_size)
        seconds = sorted(pair.ours)[len(pair.ours) // 2]
        rows.append([*pair.row(), f"{setting.points / seconds:.0f}", f"{setting.protocol.episodes / seconds:.2f}"])
    if options.library_steps:
        pair = library_pair(setting, options.library_steps, options.repeats, options.batch_size)
        seconds = sorted(pair.ours)[len(pair.ours) // 2]
        rows.append([*pair.row(), f"{len(setting.group.labels) / seconds:.0f}", ""])
    show(rows)
    settings = {"backbone": options.backbone, "batch size": str(options.batch_size), "repeats": str(options.repeats)}
    print("; ".join(f"{name} {value}" for name, value in {**settings, **before}.items()))
    if options.csv:
        write_csv(options.csv, rows, {**settings, **before})
    return 0


if __name__ == "__main__":
    sys.exit(main())
