"""Run an attack on samples or images, and classify its results in a separate forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from stages.attacks.gradient import projected_gradient
from stages.attacks.losses import LOSSES
from stages.attacks.samples import Finished, Judged, Samples
from stages.attacks.spec import AttackPlan, EnsembleSpec
from stages.attacks.start import StartNoise
from stages.models.classifier import Classifier, Progress, decide
from stages.models.frozen import inference
from stages.models.wrapped import begin_draws, mean_of_draws
from stages.pixels import check_pixels, to_pixels
from stages.threat import ThreatModel


def attack_samples(samples: Samples, rows: Tensor, plan: AttackPlan) -> Iterator[Judged]:
    """Attack samples and classify the results.

    The result of a sample is its first misclassified iterate, or the iterate after the last step. It is checked against the
    threat model. Each restart attacks the samples that are still classified correctly. Random starts belong to the row (see
    StartNoise), so results depend on the batch size by float rounding only.

    A model that averages over random draws is attacked with every step, because an image on its boundary is misclassified by
    chance. What it draws belongs to the attack and its first row.

    Args:
        samples: the samples and their classifier.
        rows: (M,) int64 on the CPU, ascending: which of the samples to attack.
        plan: the attack.

    Yields:
        Judged samples, each once, in any order.

    Raises:
        ComputeError: non-finite outputs or images, or a result outside the threat model.
    """
    spec, labels = plan.spec, samples.labels.cpu()
    if begin_draws(samples.classifier, f"{spec.stream(0)}/{int(rows[0]) + samples.first_row if len(rows) else 0}"):
        plan = replace(plan, early_stop=False)
    for restart in range(spec.restarts):
        if isinstance(spec, EnsembleSpec):
            from stages.attacks.autoattack import ensemble_attacked  # importing pyautoattack is slow

            results = ensemble_attacked(samples, rows, plan)
        else:
            results = _gradient_attack(samples, rows, plan, restart)
        correct = []
        for done in _rebatched(results, plan.batch_size):
            judged = _judged(samples, done, plan.threat)
            if restart == spec.restarts - 1:
                yield judged
                continue
            wrong = judged.predicted.cpu() != labels[judged.rows]
            correct.append(judged.rows[~wrong])
            if bool(wrong.any()):
                yield judged.where(wrong)
        if correct:
            rows = torch.cat(correct).sort().values


def attack_images(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    plan: AttackPlan,
    *,
    first_row: int = 0,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Adversarial images for a classifier with one head.

    Args:
        classifier: its train/eval modes are restored.
        images: (N, 3, H, W), uint8 or float in [0, 1].
        labels: (N,) int64, positions in its classes.
        plan: the attack. With early stop, images that are misclassified when clean are returned unchanged.
        first_row: row of the first image in a larger set, for the same random starts as in that set.
        progress: called with every forward pass; may raise to end the attack.

    Returns:
        x_adv (N, 3, H, W) float32 in [0, 1], clean and attacked predictions (N,) int64, all on the CPU.

    Raises:
        InputError: other pixels, or anchors of another width than the model's embeddings.
        ComputeError: non-finite outputs or gradients, or a result outside the threat model.
    """
    check_pixels(images)
    classifier = mean_of_draws(classifier, plan.eot, plan.seed)
    count, device = len(images), classifier.device
    x_adv = torch.empty(images.shape, dtype=torch.float32)
    clean = torch.empty(count, dtype=torch.int64)
    done = 0

    def show(_: int = 0) -> None:
        if progress is not None:
            progress(done, count, plan.spec.name)

    def source(rows: Tensor) -> Tensor:
        return to_pixels(images, rows, device)

    samples = Samples(classifier, source, labels.to(device), first_row, show)
    with inference(classifier):
        for rows in torch.arange(count).split(plan.batch_size):
            x = source(rows)
            clean[rows] = decide(samples.scores(x, rows.to(device))).cpu()
            x_adv[rows] = x.cpu()
        attacked = clean.clone()
        chosen = (clean == labels.cpu()).nonzero()[:, 0] if plan.early_stop else torch.arange(count)
        done = count - len(chosen)
        show()
        for judged in attack_samples(samples, chosen, plan):
            x_adv[judged.rows] = judged.x_adv.cpu()
            attacked[judged.rows] = judged.predicted.cpu()
            done += len(judged.rows)
            show()
    return x_adv, clean, attacked


def _judged(samples: Samples, done: Finished, threat: ThreatModel) -> Judged:
    threat.check(done.x_adv, done.x)
    with torch.no_grad():
        logits = samples.scores(done.x_adv, done.rows)
    return Judged(done.rows.cpu(), done.x_adv, decide(logits), logits)


def _gradient_attack(samples: Samples, rows: Tensor, plan: AttackPlan, restart: int) -> Iterator[Finished]:
    spec, threat, loss = plan.spec, plan.threat, LOSSES[plan.spec.loss]
    noise: StartNoise | None = None

    def load(chosen: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal noise
        x = samples.source(chosen)
        if not spec.random_start:
            return x, x
        noise = noise or StartNoise(plan.seed, spec.stream(restart), tuple(x.shape[1:]))
        return x, threat.random_start(x, noise.rows(chosen + samples.first_row).to(x.device))

    def objective(x_adv: Tensor, at: Tensor) -> tuple[Tensor, Tensor | None]:
        logits = samples.scores(x_adv, at)
        right = samples.labels_of(at).to(logits.device)
        return loss(logits, right), decide(logits) != right if plan.early_stop else None

    size = spec.step_size(threat)
    return projected_gradient(objective, load, rows, threat, steps=spec.steps, step_size=size, batch_size=plan.batch_size)


def _rebatched(results: Iterator[Finished], size: int) -> Iterator[Finished]:
    """The same results in batches of about `size`: few large forward passes are faster."""
    held: list[Finished] = []
    for done in results:
        held.append(done)
        if sum(len(one.rows) for one in held) >= size:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(results: list[Finished]) -> Finished:
    return Finished(*(torch.cat([getattr(one, name) for one in results]) for name in ("rows", "x", "x_adv")))
