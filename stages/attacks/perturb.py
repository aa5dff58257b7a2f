"""Running a named attack on a queue of samples, and judging its results by a fresh forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from stages.attacks.ensemble import EnsembleSpec
from stages.attacks.gradient import Finished, projected_gradient
from stages.attacks.losses import LOSSES
from stages.attacks.spec import AttackSpec
from stages.attacks.start import StartNoise
from stages.attacks.target import Judged, Progress, Target, checked_width, decide, full_precision, to_pixels
from stages.models.classifier import frozen, unit
from stages.threat import ThreatModel


def attack_points(
    target: Target,
    rows: Tensor,
    spec: AttackSpec,
    threat: ThreatModel,
    *,
    seed: int,
    batch_size: int,
    early_stop: bool = True,
) -> Iterator[Judged]:
    """Attack samples and judge the results.

    A sample is fallen once an iterate is misclassified; that iterate is its result. The results are checked against the
    threat model, and the predictions come from a fresh forward pass over them. With restarts, each one attacks what still
    stands by that pass; the result of a sample that stands to the end is the last one's. Random starts belong to the row (see
    StartNoise), so the outcome depends on the batch size by float rounding only.

    Args:
        target: the samples and what judges them.
        rows: (M,) int64 on the CPU, ascending: which of the samples to attack.
        spec: the attack.
        threat: the ball.
        seed: the attack's seed; the stream is told apart by the attack's name.
        batch_size: samples in one forward pass.
        early_stop: False takes every step for every sample, fallen or not (for images that are to transfer).

    Yields:
        Judged samples, each once, in any order.

    Raises:
        ComputeError: non-finite outputs or images, or a result outside the threat model.
    """
    labels = target.labels.cpu()
    for restart in range(spec.restarts):
        if isinstance(spec, EnsembleSpec):
            from stages.attacks.autoattack import ensemble_attacked  # pyautoattack takes its time to import

            results = ensemble_attacked(target, rows, spec, threat, seed=seed, batch_size=batch_size, early_stop=early_stop)
        else:
            results = _gradient_attack(
                target, rows, spec, threat, seed=seed, batch_size=batch_size, early_stop=early_stop, restart=restart
            )
        standing = []
        for done in _gathered(results, batch_size):
            judged = _judged(target, done, threat)
            if restart == spec.restarts - 1:
                yield judged
                continue
            fell = judged.predicted.cpu() != labels[judged.rows]
            standing.append(judged.rows[~fell])
            if bool(fell.any()):
                yield judged.part(fell)
        if standing:
            rows = torch.cat(standing).sort().values


def _judged(target: Target, done: Finished, threat: ThreatModel) -> Judged:
    threat.check(done.x_adv, done.x)
    with torch.no_grad():
        logits = target.victim(done.x_adv, done.rows)
    return Judged(done.rows.cpu(), done.x_adv, decide(logits), logits)


def _gradient_attack(
    target: Target,
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

    def load(part: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal noise
        x = target.source(part)
        if not spec.random_start:
            return x, x
        noise = noise or StartNoise(seed, spec.stream(restart), tuple(x.shape[1:]))
        return x, threat.random_start(x, noise.rows(part + target.first_row).to(x.device))

    def objective(x_adv: Tensor, at: Tensor) -> tuple[Tensor, Tensor | None]:
        logits = target.victim(x_adv, at)
        right = target.labels[at.to(target.labels.device)].to(logits.device)
        return loss(logits, right), decide(logits) != right if early_stop else None

    return projected_gradient(
        objective, load, rows, threat, steps=spec.steps, step_size=spec.step_size(threat), batch_size=batch_size
    )


def _gathered(results: Iterator[Finished], size: int) -> Iterator[Finished]:
    """The same results in batches of about `size`, so that few large forward passes judge them."""
    held: list[Finished] = []
    for done in results:
        held.append(done)
        if sum(len(part.rows) for part in held) >= size:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(parts: Sequence[Finished]) -> Finished:
    return Finished(
        torch.cat([part.rows for part in parts]),
        torch.cat([part.x for part in parts]),
        torch.cat([part.x_adv for part in parts]),
    )


def attack_images(
    model: nn.Module,
    anchors: Tensor,
    images: Tensor,
    labels: Tensor,
    spec: AttackSpec,
    *,
    threat: ThreatModel,
    seed: int,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    scale: float = 1.0,
    early_stop: bool = True,
    first_row: int = 0,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Adversarial images against one head of all the anchors.

    Args:
        model: (n, 3, H, W) in [0, 1] -> unit embeddings (n, D); left in the modes it came in.
        anchors: (C, D), unit rows.
        images: (N, 3, H, W) uint8.
        labels: (N,) int64 into the anchors.
        spec: the attack.
        threat: the ball.
        seed: of the random starts.
        batch_size: images in one forward pass.
        device: where the model is.
        scale: the logits are scale * cosine (1 / tau of training).
        early_stop: True leaves an image that the model already gets wrong as it is, and keeps the first iterate that
            falls; False attacks every image with every step.
        first_row: of the first image, where these are a part of a larger set: each then starts as it does there.
        progress: called with every forward pass; what it raises ends the attack.

    Returns:
        x_adv (N, 3, H, W) float32 in [0, 1], clean and attacked predictions (N,) int64, all on the CPU.

    Raises:
        InputError: anchors of another width than the model's embeddings.
        ComputeError: non-finite outputs or gradients, or a result outside the threat model.
    """
    count = len(images)
    heads = anchors.to(device, torch.float32)
    x_adv = torch.empty(images.shape, dtype=torch.float32)
    clean, attacked = torch.empty(count, dtype=torch.int64), torch.empty(count, dtype=torch.int64)

    done = 0

    def tell() -> None:
        if progress is not None:
            progress(done, count, spec.name)

    def victim(x: Tensor, rows: Tensor) -> Tensor:
        tell()
        return scale * checked_width(unit(model(x)), heads) @ heads.T

    with frozen(model), full_precision(), torch.no_grad():
        for part in torch.arange(count).split(batch_size):
            x = to_pixels(images, part, device)
            clean[part] = decide(victim(x, part)).cpu()
            x_adv[part] = x.cpu()
        attacked.copy_(clean)
        rows = (clean == labels.cpu()).nonzero()[:, 0] if early_stop else torch.arange(count)
        done = count - len(rows)
        tell()
        target = Target(victim, lambda part: to_pixels(images, part, device), labels.to(device), first_row)
        results = attack_points(target, rows, spec, threat, seed=seed, batch_size=batch_size, early_stop=early_stop)
        for judged in results:
            x_adv[judged.rows] = judged.x_adv.cpu()
            attacked[judged.rows] = judged.predicted.cpu()
            done += len(judged.rows)
            tell()
    return x_adv, clean, attacked
