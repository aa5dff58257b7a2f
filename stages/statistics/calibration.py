"""Calibration: a temperature, a bias on the seen classes, and how far confidence is from accuracy.

The temperature divides the logits (Guo et al., ICML 2017, Sec. 4.2). The bias is subtracted from the cosines of the seen
classes where they compete with others (calibrated stacking: Chao et al., ECCV 2016). Both are fitted on validation images,
never on novel classes or test images. Neither changes the training, an attack, or an accuracy that is not said to be at the
bias. No torch.

The temperature is fitted with all the validation classes as candidates and used for any number of names. How much it depends
on that number was measured once, see tests/benchmarks/LOG.md.
"""

from __future__ import annotations

import numpy as np

from stages.files.artifact_params import BiasFit, Calibration, SeenUnseenShares
from stages.files.artifacts import Artifact
from stages.statistics.gzsl import curve, harmonic_mean
from stages.statistics.seen_unseen import SeenUnseen, limits

__all__ = [
    "BINS",
    "Calibration",
    "FittedBias",
    "calibration_lines",
    "calibration_of",
    "calibration_warning",
    "expected_calibration_error",
    "fit_bias",
    "fit_calibration",
    "fit_temperature",
    "softmax",
    "temperature_text",
]
# a bias on the cosines of the seen classes, and what it was fitted on
FittedBias = tuple[float, BiasFit]

BINS = 15
# the temperature relative to the logits' scale: outside, every answer is certain, or every class equally likely
_RANGE = (1e-3, 1e3)


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The probabilities (N, C) of logits (N, C) divided by the temperature, float64."""
    scaled = np.asarray(logits, np.float64) / temperature
    found = np.exp(scaled - scaled.max(1, keepdims=True))
    return found / found.sum(1, keepdims=True)


def fit_temperature(logits: np.ndarray, labels: np.ndarray, *, scale: float = 1.0) -> float:
    """The temperature of the lowest negative log-likelihood (Guo et al., ICML 2017, Sec. 4.2).

    The targets are smoothed, as Platt's (1999) for two classes: N / (N + 1) of the correct class and 1 / (N + 1) of all
    classes alike. Otherwise images that are all classified correctly would make every later answer certain.

    Args:
        logits: (N, C), C > 1.
        labels: (N,) correct classes.
        scale: of the logits, 1 / tau; the result is within a factor of 1,000 of it.
    """
    from scipy.optimize import brentq

    values = np.asarray(logits, np.float64)
    values = values - values.mean(1, keepdims=True)
    right = values[np.arange(len(values)), labels].sum() * len(values) / (len(values) + 1)

    def slope(log_temperature: float) -> float:
        """The derivative of the negative log-likelihood by 1 / temperature, which increases with it."""
        return float((softmax(values, np.exp(log_temperature)) * values).sum() - right)

    low, high = (float(np.log(scale * end)) for end in _RANGE)
    if slope(high) >= 0:  # the logits say nothing, or the opposite
        return float(np.exp(high))
    if slope(low) <= 0:
        return float(np.exp(low))
    return float(np.exp(brentq(slope, low, high, xtol=1e-12, rtol=1e-12)))


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """The mean distance of confidence and accuracy over `bins` equal-width bins of confidence, weighted by their images.

    ECE = sum over bins of (images in it / N) * |accuracy - mean confidence|, where the confidence is the largest probability
    and bin m holds those in ((m - 1) / bins, m / bins] (Guo et al., ICML 2017, Eq. 3; 15 bins as there).

    Args:
        probabilities: (N, C).
        labels: (N,) correct classes.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(place, right - confidence, bins)
    return float(np.abs(gap).sum() / len(labels))


def fit_bias(cosines: np.ndarray, labels: np.ndarray, seen: int) -> FittedBias | None:
    """The bias with the largest H of held-out images of seen classes and images of classes that stand in for novel ones.

    S and U are means over the classes that have images, at every bias exactly (see `gzsl.curve`); of the interval of biases
    with the largest H, the first if there are several, the middle is taken.

    Args:
        cosines: (N, C), the seen classes first.
        labels: (N,) correct classes, of both kinds.
        seen: how many of the C are seen.

    Returns None where H is 0 at every bias.
    """
    limit = limits(cosines, labels, seen)
    present, own = np.unique(labels, return_inverse=True)
    samples = SeenUnseen(own, int((present < seen).sum()), len(present))
    starts, of_seen, of_novel = curve(samples, limit)
    h = np.array([harmonic_mean(one, other) for one, other in zip(of_seen, of_novel, strict=True)])
    at = int(h.argmax())
    if h[at] <= 0:
        return None
    bias = float((starts[at] + starts[at + 1]) / 2)  # at the last start S is 0
    before, after = (_shares(samples, limit, at_bias) for at_bias in (0.0, bias))
    counts = {"seen_classes": samples.seen, "classes": samples.classes - samples.seen}
    images = {"seen_images": int(samples.own.sum()), "images": int((~samples.own).sum())}
    return bias, BiasFit(**counts, **images, before=before, after=after)


def _shares(samples: SeenUnseen, limit: np.ndarray, bias: float) -> SeenUnseenShares:
    weights, right = samples.weights(), samples.right(limit, bias)
    seen, novel = (min(1.0, float(weights[right & own].sum())) for own in (samples.own, ~samples.own))
    return SeenUnseenShares(S=seen, U=novel, H=harmonic_mean(seen, novel))


def fit_calibration(
    logits: np.ndarray, labels: np.ndarray, bias: FittedBias | None, *, scale: float, source: str, no_bias: str
) -> Calibration:
    """The calibration of a classifier with these logits (N, C) for images with these labels (N,).

    Where the fitted temperature does not lower the expected calibration error, for example after too little training, it is 1.
    It is also 1 where the fitted one is at an end of its range, for example because the logits say nothing about the class.

    Args:
        logits, labels: of the images that the temperature is fitted on.
        bias: see `fit_bias`.
        scale: 1 / tau.
        source: of these images.
        no_bias: why there is no bias, where there is none.
    """
    temperature = fit_temperature(logits, labels, scale=scale)
    before, after = (expected_calibration_error(softmax(logits, one), labels) for one in (1.0, temperature))
    found = {"temperature": temperature, "source": source, "images": len(labels), "classes": logits.shape[1]}
    if after >= before or not _inside(temperature / scale):
        found |= {"temperature": 1.0, "unused_temperature": temperature, "unused_ece": after}
        after = before
    of_bias = {"no_bias": no_bias} if bias is None else {"bias": bias[0], "bias_fit": bias[1]}
    return Calibration.model_validate({**found, **of_bias, "ece_before": before, "ece_after": after})


def _inside(relative: float) -> bool:
    """Whether a temperature, relative to the logits' scale, is not at an end of its range."""
    low, high = _RANGE
    return low * (1 + 1e-6) < relative < high * (1 - 1e-6)


def calibration_of(artifact: Artifact) -> Calibration | None:
    """The calibration in a checkpoint, whose record was checked when it was read; None in older ones."""
    record = artifact.params.get("calibration")
    return None if record is None else Calibration.model_validate(record)


def calibration_lines(found: Calibration | None, *, anchored: bool = True) -> list[str]:
    """What a calibration is, for people; nothing of a model that is not `anchored`, which has no confidences."""
    if found is None and not anchored:
        return []
    if found is None:
        return ["calibration: none; confidences are those of the temperature of training"]
    lines = [f"calibration: {temperature_text(found)}"]
    fit = found.bias_fit
    if found.bias is None or fit is None:
        return [*lines, f"no bias on the seen classes: {found.no_bias}"]
    moved = [f"{name} {_percent(getattr(fit.before, name))} -> {_percent(getattr(fit.after, name))}" for name in "SUH"]
    of = f"{fit.seen_images:,} held-out images of {fit.seen_classes} seen classes, {fit.images:,} of {fit.classes} others"
    return [*lines, f"bias on the seen classes: {found.bias:.4f}, {', '.join(moved)} ({of})"]


def temperature_text(found: Calibration) -> str:
    """The temperature, and the calibration error before and after, on the images that it was fitted on."""
    of = f"on the {found.images:,} images that it was fitted on: {found.classes} classes, {found.source}"
    if found.unused_temperature is None or found.unused_ece is None:
        error = f"expected calibration error {_percent(found.ece_before)} -> {_percent(found.ece_after)}"
        return f"temperature {_number(found.temperature)}, {error} ({of})"
    error = f"expected calibration error {_percent(found.ece_before)}, and {_percent(found.unused_ece)}"
    return f"temperature 1, as in training; {error} with the fitted {_number(found.unused_temperature)} ({of})"


def calibration_warning(found: Calibration | None) -> str:
    """What a user of the confidences must know: that they are no closer to accuracy than without a calibration; or ''."""
    if found is None or found.lowers_error:
        return ""
    kept = "that of training is kept" if found.unused_temperature else "`laat calibrate` would keep that of training"
    why = "the fitted temperature does not lower the expected calibration error"
    if found.unused_ece is not None and found.unused_ece < found.ece_before:
        why = "the fitted temperature is at the end of its range, as the logits do not say which class is right"
    return f"the confidences are not calibrated: {why}; {kept}"


def _number(temperature: float) -> str:
    return f"{temperature:,.0f}" if temperature >= 999.5 else f"{temperature:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
