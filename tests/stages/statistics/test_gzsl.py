from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from stages.statistics.gzsl import curve, figures, harmonic, summarise_gzsl
from stages.statistics.intervals import Estimate, wilson
from stages.statistics.seen_unseen import SeenUnseen, limits

SEEN, CLASSES = 3, 5


def noisy(seed: int, *, points: int = 90, step: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Cosines (P, 5) and labels (P,), every class there, the seen ones favoured; `step` rounds them so that many are equal."""
    draw = np.random.default_rng(seed)
    labels = np.concatenate((np.arange(CLASSES), draw.integers(0, CLASSES, points - CLASSES)))
    cosines = draw.normal(0, 0.3, (points, CLASSES))
    cosines[np.arange(points), labels] += 0.3
    cosines[:, :SEEN] += 0.2
    return (cosines if step is None else np.round(cosines / step) * step), labels


def by_hand(cosines: np.ndarray, labels: np.ndarray, bias: float) -> tuple[float, float]:
    """S and U as their definition says, class by class."""
    said = (cosines - bias * (np.arange(CLASSES) < SEEN)).argmax(1)
    each = [float((said[labels == at] == at).mean()) for at in range(CLASSES)]
    return float(np.mean(each[:SEEN])), float(np.mean(each[SEEN:]))


@pytest.mark.parametrize("step", [None, 0.125])
def test_the_curve_is_that_of_the_definition_at_every_bias(step: float | None) -> None:
    cosines, labels = noisy(0, step=step)
    samples = SeenUnseen(labels, SEEN, CLASSES)
    limit = limits(cosines, labels, SEEN)
    biases, s, u = curve(samples, limit)
    # between two breakpoints nothing changes: look in the middle of each interval
    ends = biases[1:]
    middles = np.concatenate(([ends[0] - 1], (ends[:-1] + ends[1:]) / 2, [ends[-1] + 1]))
    for at, bias in enumerate(middles):
        seen, novel = by_hand(cosines, labels, bias)
        assert (s[at], u[at]) == pytest.approx((seen, novel), abs=1e-12)
        right = samples.right(limit, bias)
        said = (cosines - bias * (np.arange(CLASSES) < SEEN)).argmax(1)
        assert np.array_equal(right, said == labels)
    assert u[0] == 0
    assert s[-1] == pytest.approx(0, abs=1e-12)
    assert (np.diff(u) >= 0).all()
    assert (np.diff(s) <= 1e-12).all()


@pytest.mark.parametrize("step", [None, 0.125])
def test_the_area_is_the_trapezoid_under_the_exact_curve(step: float | None) -> None:
    cosines, labels = noisy(1, step=step)
    samples = SeenUnseen(labels, SEEN, CLASSES)
    limit = limits(cosines, labels, SEEN)
    told = figures(samples, limit, seed=0)
    states = [by_hand(cosines, labels, bias) for bias in _between(limit)]
    area = sum((one[0] + two[0]) / 2 * (two[1] - one[1]) for one, two in pairwise(states))
    assert told.ausuc.area == pytest.approx(area, abs=1e-12)
    assert area_under(samples, limit) == pytest.approx(area, abs=1e-12)
    assert 0 < told.ausuc.low < area < told.ausuc.high < 1


def area_under(samples: SeenUnseen, limit: np.ndarray) -> float:
    _, seen, novel = curve(samples, limit)
    return float(((seen[1:] + seen[:-1]) / 2 * np.diff(novel)).sum())


def _between(limit: np.ndarray) -> np.ndarray:
    ends = np.unique(limit[np.isfinite(limit)])
    return np.concatenate(([ends[0] - 1], (ends[:-1] + ends[1:]) / 2, [ends[-1] + 1]))


def test_s_u_and_h_are_per_class_means_not_per_image_ones() -> None:
    # class 0: 1 of 1 right, class 1: 1 of 4, novel class 2: 3 of 4
    labels = np.array([0, 1, 1, 1, 1, 2, 2, 2, 2])
    right = np.array([1, 1, 0, 0, 0, 1, 1, 1, 0], dtype=bool)
    limit = np.where(labels < 2, np.where(right, 0.5, -0.5), np.where(right, -0.5, 0.5))
    told = figures(SeenUnseen(labels, 2, 3), limit, seed=0)
    assert told.S.accuracy == pytest.approx(0.625)
    assert told.U.accuracy == pytest.approx(0.75)
    assert told.H.accuracy == pytest.approx(2 * 0.625 * 0.75 / 1.375)
    # one class is a plain share
    assert (told.U.low, told.U.high) == pytest.approx(wilson(3, 4))


def test_perfect_and_hopeless_models() -> None:
    labels = np.repeat(np.arange(4), 10)
    apart = np.where(labels < 2, 0.5, -0.5)  # right over a range of biases on both sides
    best = figures(SeenUnseen(labels, 2, 4), apart, seed=0)
    assert best.S.accuracy == best.U.accuracy == best.H.accuracy == 1
    assert best.ausuc.area == pytest.approx(1)
    assert best.ausuc.high <= 1
    assert best.S.low < 1
    never = np.where(labels < 2, -np.inf, np.inf)
    worst = figures(SeenUnseen(labels, 2, 4), never, seed=0)
    for one in (worst.S, worst.U, worst.H):
        assert one.accuracy == one.low == 0
        assert 0 < one.high < 0.3
    assert worst.ausuc.area == worst.ausuc.low == 0
    assert 0 < worst.ausuc.high < 0.1
    assert area_under(SeenUnseen(labels, 2, 4), never) == 0


def test_an_area_of_1_is_not_certain() -> None:
    cosines, labels = noisy(3)
    cosines[np.arange(len(labels)), labels] += 9
    perfect = figures(SeenUnseen(labels, SEEN, CLASSES), limits(cosines, labels, SEEN), seed=0).ausuc
    assert perfect.area == pytest.approx(1)
    assert 0.5 < perfect.low < 0.99


def test_the_interval_of_h_holds_it_and_follows_both_sides() -> None:
    narrow = harmonic(Estimate(0.6, 0.59, 0.61), Estimate(0.3, 0.29, 0.31))
    wide = harmonic(Estimate(0.6, 0.5, 0.7), Estimate(0.3, 0.2, 0.4))
    assert narrow.accuracy == wide.accuracy == pytest.approx(0.4)
    assert wide.low < narrow.low < 0.4 < narrow.high < wide.high
    # H is steeper in the smaller of the two
    assert (
        harmonic(Estimate(0.6, 0.6, 0.6), Estimate(0.3, 0.25, 0.35)).high
        > harmonic(Estimate(0.6, 0.55, 0.65), Estimate(0.3, 0.3, 0.3)).high
    )


def test_intervals_cover_as_often_as_they_say() -> None:
    # true accuracies of five classes, 12 images each: how often do S, U and H lie in their intervals?
    draw = np.random.default_rng(0)
    true = np.array([0.9, 0.7, 0.5, 0.1, 0.05])
    labels = np.repeat(np.arange(5), 12)
    samples = SeenUnseen(labels, 3, 5)
    wanted = (true[:3].mean(), true[3:].mean())
    wanted = (*wanted, 2 * wanted[0] * wanted[1] / sum(wanted))
    held = np.zeros(3)
    for _ in range(200):
        right = draw.random(60) < true[labels]
        limit = np.where(labels < 3, np.where(right, 0.5, -0.5), np.where(right, -0.5, 0.5))
        told = figures(samples, limit, seed=0)
        held += [one.low <= want <= one.high for one, want in zip((told.S, told.U, told.H), wanted, strict=True)]
    assert (held / 200 > 0.92).all(), held


def test_the_worst_case_is_at_every_bias_below_each_attack_and_each_attack_below_clean() -> None:
    cosines, labels = noisy(2)
    samples = SeenUnseen(labels, SEEN, CLASSES)
    draw = np.random.default_rng(5)
    found = {"clean": limits(cosines, labels, SEEN)}
    for name in ("pgd-20", "fgsm"):
        found[name] = limits(cosines + draw.normal(0, 0.2, cosines.shape), labels, SEEN)
    told = summarise_gzsl(samples, found, seed=0)
    under = {name: samples.worst((found["clean"], value)) for name, value in found.items()}
    worst = samples.worst(list(under.values()))
    for bias in np.linspace(-1, 1, 21):
        together = np.logical_and.reduce([samples.right(value, bias) for value in found.values()])
        assert np.array_equal(samples.right(worst, bias), together)
    for name, value in told.attacks.items():
        assert told.worst.ausuc.area <= value.ausuc.area <= told.clean.ausuc.area
        assert told.worst.H.accuracy <= value.H.accuracy <= told.clean.H.accuracy, name
    assert set(told.curves) == {"clean", "pgd-20", "fgsm", "worst"}


def test_the_same_seed_gives_the_same_record_and_curves_are_short() -> None:
    cosines, labels = noisy(3, points=2000)
    samples, found = SeenUnseen(labels, SEEN, CLASSES), {"clean": limits(cosines, labels, SEEN)}
    one, two, other = (summarise_gzsl(samples, found, seed=seed) for seed in (0, 0, 1))
    assert one == two
    assert one.clean.ausuc.low != other.clean.ausuc.low
    shown = one.curves["clean"]
    assert 100 < len(shown.bias) <= 202
    _, seen, novel = curve(samples, found["clean"])
    assert (shown.seen[0], shown.novel[-1]) == (
        pytest.approx(seen[0], abs=1e-6),
        pytest.approx(novel[-1], abs=1e-6),
    )
