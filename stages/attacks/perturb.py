"""Running a named attack on samples or images, and judging its results by a separate forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from stages.attacks.ensemble import EnsembleSpec
from stages.attacks.gradient import projected_gradient
from stages.attacks.losses import LOSSES
from stages.attacks.samples import Finished, Judged, Samples
from stages.attacks.spec import AttackSpec
from stages.attacks.start import StartNoise
from stages.models.classifier import Classifier, Progress, decide, inference
from stages.models.pixels import check_pixels, to_pixels
from stages.threat import ThreatModel


def attack_samples(
    samples: Samples,
    rows: Tensor,
    spec: AttackSpec,
    threat: ThreatModel,
    *,
    seed: int,
    batch_size: int,
    early_stop: bool = True,
) -> Iterator[Judged]:
    """Attack samples and judge the results.

    The attack of a sample ends at its first iterate that is misclassified; that iterate is its result. The results are checked
    against the threat model, and the predictions come from a separate forward pass over them. With restarts, each one attacks
    the samples that are still classified correctly; the result of a sample that stays so is that of the last restart. Random
    starts belong to the row (see StartNoise), so the outcome depends on the batch size by float rounding only.

    Args:
        samples: the samples and their classifier.
        rows: (M,) int64 on the CPU, ascending: which of the samples to attack.
        spec: the attack.
        threat: the threat model.
        seed: the attack's seed; the attack's name selects the stream.
        batch_size: samples in one forward pass.
        early_stop: False takes every step for every sample, misclassified or not (for images that are to transfer).

    Yields:
        Judged samples, each once, in any order.

    Raises:
        ComputeError: non-finite outputs or images, or a result outside the threat model.
    """
    labels = samples.labels.cpu()
    for restart in range(spec.restarts):
        if isinstance(spec, EnsembleSpec):
            from stages.attacks.autoattack import ensemble_attacked  # pyautoattack takes its time to import

            results = ensemble_attacked(samples, rows, spec, threat, seed=seed, batch_size=batch_size, early_stop=early_stop)
        else:
            results = _gradient_attack(
                samples, rows, spec, threat, seed=seed, batch_size=batch_size, early_stop=early_stop, restart=restart
            )
        correct = []
        for done in _gathered(results, batch_size):
            judged = _judged(samples, done, threat)
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
    spec: AttackSpec,
    *,
    threat: ThreatModel,
    seed: int,
    batch_size: int = 256,
    early_stop: bool = True,
    first_row: int = 0,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Adversarial images against a classifier with one head.

    Args:
        classifier: left in the modes it came in.
        images: (N, 3, H, W), uint8 or float in [0, 1].
        labels: (N,) int64 into its classes.
        spec: the attack.
        threat: the threat model.
        seed: of the random starts.
        batch_size: images in one forward pass.
        early_stop: True leaves an image that is misclassified already as it is, and keeps the first iterate that is
            misclassified; False attacks every image with every step.
        first_row: of the first image, where these are part of a larger set: each then starts as it does there.
        progress: called with every forward pass; what it raises ends the attack.

    Returns:
        x_adv (N, 3, H, W) float32 in [0, 1], clean and attacked predictions (N,) int64, all on the CPU.

    Raises:
        InputError: other pixels, or anchors of another width than the model's embeddings.
        ComputeError: non-finite outputs or gradients, or a result outside the threat model.
    """
    check_pixels(images)
    count, device = len(images), classifier.device
    x_adv = torch.empty(images.shape, dtype=torch.float32)
    clean, attacked = torch.empty(count, dtype=torch.int64), torch.empty(count, dtype=torch.int64)
    done = 0

    def tell(_: int = 0) -> None:
        if progress is not None:
            progress(done, count, spec.name)

    def source(rows: Tensor) -> Tensor:
        return to_pixels(images, rows, device)

    samples = Samples(classifier, source, labels.to(device), first_row, tell)
    with inference(classifier):
        for rows in torch.arange(count).split(batch_size):
            x = source(rows)
            clean[rows] = decide(samples.scores(x, rows.to(device))).cpu()
            x_adv[rows] = x.cpu()
        attacked.copy_(clean)
        chosen = (clean == labels.cpu()).nonzero()[:, 0] if early_stop else torch.arange(count)
        done = count - len(chosen)
        tell()
        for judged in attack_samples(samples, chosen, spec, threat, seed=seed, batch_size=batch_size, early_stop=early_stop):
            x_adv[judged.rows] = judged.x_adv.cpu()
            attacked[judged.rows] = judged.predicted.cpu()
            done += len(judged.rows)
            tell()
    return x_adv, clean, attacked


def _judged(samples: Samples, done: Finished, threat: ThreatModel) -> Judged:
    threat.check(done.x_adv, done.x)
    with torch.no_grad():
        logits = samples.scores(done.x_adv, done.rows)
    return Judged(done.rows.cpu(), done.x_adv, decide(logits), logits)


def _gradient_attack(
    samples: Samples,
    rows: Tensor,
    spec: AttackSpec,
    threat: ThreatModel,
    *,
    seed: int,
    batch_size: int,
    early_stop: bool,
    restart: int,
) -> Iterator[Finished]:
    loss = LOSSES[spec.loss]
    noise: StartNoise | None = None

    def load(chosen: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal noise
        x = samples.source(chosen)
        if not spec.random_start:
            return x, x
        noise = noise or StartNoise(seed, spec.stream(restart), tuple(x.shape[1:]))
        return x, threat.random_start(x, noise.rows(chosen + samples.first_row).to(x.device))

    def objective(x_adv: Tensor, at: Tensor) -> tuple[Tensor, Tensor | None]:
        logits = samples.scores(x_adv, at)
        right = samples.labels[at.to(samples.labels.device)].to(logits.device)
        return loss(logits, right), decide(logits) != right if early_stop else None

    return projected_gradient(
        objective, load, rows, threat, steps=spec.steps, step_size=spec.step_size(threat), batch_size=batch_size
    )


def _gathered(results: Iterator[Finished], size: int) -> Iterator[Finished]:
    """The same results in batches of about `size`, so that few large forward passes judge them."""
    held: list[Finished] = []
    for done in results:
        held.append(done)
        if sum(len(one.rows) for one in held) >= size:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(results: Sequence[Finished]) -> Finished:
    rows, x, x_adv = (torch.cat([getattr(one, name) for one in results]) for name in ("rows", "x", "x_adv"))
    return Finished(rows, x, x_adv)
