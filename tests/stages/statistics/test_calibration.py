"""Temperature, bias on the seen classes, and the expected calibration error, against plain implementations."""

from __future__ import annotations

import numpy as np
import pytest

from stages.statistics.calibration import (
    calibration_lines,
    calibration_warning,
    expected_calibration_error,
    fit_bias,
    fit_calibration,
    fit_temperature,
    softmax,
)


def drawn(count: int = 400, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random logits, and labels that they tell something about."""
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((count, classes))
    return logits, (logits + generator.gumbel(size=logits.shape)).argmax(1)


def nll(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    return float(-np.log(softmax(logits, temperature)[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 3.0])
def test_the_temperature_of_synthetic_logits_is_found(temperature: float) -> None:
    rows = np.random.default_rng(0).standard_normal((40, 3))
    # every label as often as its probability says
    counts = np.round(softmax(rows) * 1e5).astype(int)
    logits = np.repeat(rows, 3, axis=0).repeat(counts.reshape(-1), axis=0) * temperature
    labels = np.tile(np.arange(3), 40).repeat(counts.reshape(-1))
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=1e-3)


def test_no_other_temperature_is_likelier() -> None:
    logits, labels = drawn(4000)
    found = fit_temperature(logits, labels)
    best = min(np.geomspace(0.1, 10, 4001), key=lambda one: nll(logits, labels, one))
    assert found == pytest.approx(best, rel=2e-3)


def test_the_temperature_grows_with_the_logits() -> None:
    logits, labels = drawn()
    assert fit_temperature(100 * logits, labels, scale=100) == pytest.approx(100 * fit_temperature(logits, labels), rel=1e-9)


def test_images_that_are_all_right_do_not_make_answers_certain() -> None:
    labels = np.arange(40) % 4
    logits = np.eye(4)[labels]
    confidence = softmax(logits, fit_temperature(logits, labels)).max(1)
    assert confidence == pytest.approx(1 - 0.75 / 41)  # the smoothed target: 40 / 41 + 1 / 41 / 4


def test_logits_that_say_the_opposite_make_all_classes_equally_likely() -> None:
    labels = np.arange(40) % 4
    assert fit_temperature(-np.eye(4)[labels], labels) == pytest.approx(1000)
    assert fit_temperature(np.zeros((40, 4)), labels) == pytest.approx(1000)


def plain_error(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> float:
    total = 0.0
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    for at in range(bins):
        inside = (confidence > at / bins) & (confidence <= (at + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize(("bins", "scale"), [(15, 0.1), (15, 3.0), (10, 1.0), (1, 1.0)])
def test_the_calibration_error_is_that_of_a_plain_program(bins: int, scale: float) -> None:
    logits, labels = drawn()
    found = softmax(scale * logits)
    assert expected_calibration_error(found, labels, bins) == pytest.approx(plain_error(found, labels, bins), abs=1e-12)


def test_certain_answers_have_the_error_of_their_mistakes() -> None:
    assert expected_calibration_error(np.eye(4), np.array([0, 1, 2, 0])) == pytest.approx(0.25)


def gzsl_samples(seed: int = 0) -> tuple[np.ndarray, np.ndarray, int]:
    """Cosines that favour the first three of five classes, which are seen; uneven numbers of images."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(5), (30, 10, 20, 25, 8))
    cosines = generator.standard_normal((len(labels), 5)) / 4 + np.eye(5)[labels] / 3
    cosines[:, :3] += 0.3
    return cosines, labels, 3


def shares(cosines: np.ndarray, labels: np.ndarray, seen: int, bias: float) -> tuple[float, float, float]:
    """S, U and H of the decisions."""
    moved = cosines - bias * (np.arange(cosines.shape[1]) < seen)
    right = moved.argmax(1) == labels
    each = np.array([right[labels == one].mean() for one in np.unique(labels)])
    own = np.unique(labels) < seen
    s, u = each[own].mean(), each[~own].mean()
    return s, u, 2 * s * u / (s + u) if s + u else 0.0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_other_bias_has_a_larger_h(seed: int) -> None:
    cosines, labels, seen = gzsl_samples(seed)
    found = fit_bias(cosines, labels, seen)
    assert found is not None
    bias, fit = found
    best = max(shares(cosines, labels, seen, one)[2] for one in np.linspace(-2, 2, 8001))
    assert pytest.approx(shares(cosines, labels, seen, bias)) == (fit.after.S, fit.after.U, fit.after.H)
    assert pytest.approx(best, abs=1e-3) == fit.after.H
    assert best - 1e-12 <= fit.after.H
    assert pytest.approx(shares(cosines, labels, seen, 0)) == (fit.before.S, fit.before.U, fit.before.H)
    assert (fit.seen_classes, fit.classes, fit.seen_images, fit.images) == (3, 2, 60, 33)


def test_classes_without_images_are_candidates_and_count_in_no_mean() -> None:
    cosines, labels, seen = gzsl_samples()
    kept = labels != 1
    found = fit_bias(cosines[kept], labels[kept], seen)
    assert found is not None
    assert pytest.approx(shares(cosines[kept], labels[kept], seen, found[0])) == (
        found[1].after.S,
        found[1].after.U,
        found[1].after.H,
    )
    assert found[1].seen_classes == 2


def test_where_no_bias_gets_both_right_there_is_none() -> None:
    labels = np.array([0, 1, 2, 3])
    assert fit_bias(np.eye(4)[[1, 0, 3, 2]], labels, 2) is None


def test_a_calibration_says_what_it_did() -> None:
    logits, labels = drawn(4000)
    made = fit_calibration(5 * logits, labels, None, scale=1, source="validation classes", no_bias="none were held out")
    assert (made.images, made.classes, made.bias, made.no_bias) == (4000, 5, None, "none were held out")
    assert made.ece_before == pytest.approx(expected_calibration_error(softmax(5 * logits), labels))
    assert made.ece_after == pytest.approx(expected_calibration_error(softmax(5 * logits, made.temperature), labels))
    assert made.ece_before > 0.2 > 0.02 > made.ece_after
    assert calibration_warning(made) == ""


def test_a_temperature_that_makes_confidence_worse_is_not_used() -> None:
    # 30 images that are sure and right, 30 that are wrong by a hair, 30 that are unsure and right: under-trained
    logits = np.repeat([[4.0, 0.0, 0.0], [0.6, 0.5, 0.0], [0.3, 0.0, 0.0]], 30, axis=0)
    labels = np.repeat([0, 1, 0], 30)
    likeliest = fit_temperature(logits, labels)
    assert nll(logits, labels, likeliest) < nll(logits, labels, 1.0)
    before, worse = (expected_calibration_error(softmax(logits, one), labels) for one in (1.0, likeliest))
    assert worse > before
    made = fit_calibration(logits, labels, None, scale=1, source="validation classes", no_bias="none were held out")
    assert (made.temperature, made.ece_before, made.ece_after) == (1, before, before)
    assert (made.unused_temperature, made.unused_ece) == (likeliest, worse)
    assert f"{100 * worse:.1f} % with the fitted {likeliest:.4g}" in calibration_lines(made)[0]
    assert "the confidences are not calibrated" in calibration_warning(made)


@pytest.mark.parametrize("scale", [1.0, 14.29])
def test_a_temperature_at_the_end_of_its_range_is_not_used(scale: float) -> None:
    labels = np.arange(40) % 4
    logits = -scale * np.eye(4)[labels]  # never right
    made = fit_calibration(logits, labels, None, scale=scale, source="validation classes", no_bias="none were held out")
    assert made.unused_temperature == pytest.approx(1000 * scale)
    assert made.unused_ece is not None
    assert made.unused_ece < made.ece_before == made.ece_after
    assert made.temperature == 1
    assert f"with the fitted {1000 * scale:,.0f}" in calibration_lines(made)[0]
    assert "at the end of its range, as the logits do not say which class is right" in calibration_warning(made)
