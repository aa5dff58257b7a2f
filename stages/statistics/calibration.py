"""Confidence that means something: a temperature, a bias on the seen classes, and how far confidence is from accuracy.

The temperature divides the logits (Guo et al., ICML 2017, Sec. 4.2). The bias is subtracted from the cosines of the seen
classes where they compete with others (calibrated stacking: Chao et al., ECCV 2016). Both are fitted on validation images,
never on novel classes or test images. Neither changes the training, an attack, or an accuracy that is not said to be at the
bias. No torch.
"""

from __future__ import annotations

import numpy as np

from stages.files.artifact_params import BiasFit, Calibration, SeenUnseenShares

__all__ = ["BINS", "BiasFit", "Calibration", "SeenUnseenShares", "expected_calibration_error", "fit_temperature", "softmax"]

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

    One more image, on which every class is equally likely, is added (as Platt, 1999, does for two classes): without it, images
    that are all classified correctly would make every later answer certain. Its weight is 1 of N + 1.

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
