from __future__ import annotations

from itertools import pairwise

import pytest

from stages.training.schedules import SCHEDULES, learning_rate


def rates(schedule: str, epochs: int, warm_up: float = 0.0, steps_per_epoch: int = 7, lr: float = 0.05) -> list[float]:
    steps = range(epochs * steps_per_epoch)
    return [learning_rate(schedule, lr, step, steps_per_epoch, epochs, warm_up=warm_up) for step in steps]


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 10, 15, 35, 45, 100, 200])
def test_step_drops_once_at_60_percent_of_the_epochs(epochs: int) -> None:
    for step, rate in enumerate(rates("step", epochs)):
        epoch = step // 7
        # 60 % in whole numbers; nothing more happens at 80 %
        assert rate == pytest.approx(0.05 if 10 * epoch < 6 * epochs else 0.005)


def test_step_changes_between_epochs_and_never_within_one() -> None:
    found = rates("step", 10)
    assert found[6 * 7 - 1] == 0.05
    assert found[6 * 7] == pytest.approx(0.005)
    assert len(set(found)) == 2


def test_cosine_falls_from_the_rate_to_zero() -> None:
    found = rates("cosine", 10)
    assert found[0] == 0.05
    assert found[35] == pytest.approx(0.025)
    assert all(one > two for one, two in pairwise(found))
    assert 0 < found[-1] < 0.05 * 0.002
    assert learning_rate("cosine", 0.05, 70, 7, 10) == pytest.approx(0, abs=1e-12)


def test_one_cycle_rises_to_its_peak_at_30_percent_and_falls() -> None:
    found = rates("one-cycle", 10)
    assert found[0] == pytest.approx(0.05 / 25)
    assert max(found) == found[21] == pytest.approx(0.05)
    assert all(one < two for one, two in pairwise(found[:22]))
    assert all(one > two for one, two in pairwise(found[21:]))
    assert learning_rate("one-cycle", 0.05, 70, 7, 10) == pytest.approx(0.05 * 1e-4)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_of_one_step(schedule: str) -> None:
    assert 0 < learning_rate(schedule, 0.05, 0, 1, 1) <= 0.05


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_warm_up_changes_nothing(schedule: str) -> None:
    steps = range(70)
    assert rates(schedule, 10, warm_up=0.0) == [learning_rate(schedule, 0.05, step, 7, 10) for step in steps]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("warm_up", "climbing"), [(1, 7), (2, 14), (0.5, 3.5), (1 / 7, 1), (0.01, 0.07), (8, 56)])
def test_warm_up_climbs_in_a_straight_line_to_the_schedule(schedule: str, warm_up: float, climbing: float) -> None:
    plain, found = rates(schedule, 10), rates(schedule, 10, warm_up)
    for step, (without, rate) in enumerate(zip(plain, found, strict=True)):
        assert rate == pytest.approx(without * min(1, (step + 1) / climbing)), step
    after = round(climbing + 0.5)
    assert found[after:] == plain[after:]


def test_the_first_warm_step_and_the_last() -> None:
    found = rates("step", 10, warm_up=2)
    assert found[0] == pytest.approx(0.05 / 14)
    assert found[12] < found[13] == 0.05
    assert all(one < two for one, two in pairwise(found[:14]))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_warm_up_longer_than_the_run_never_ends(schedule: str) -> None:
    plain, found = rates(schedule, 2), rates(schedule, 2, warm_up=5)
    assert found == pytest.approx([rate * (step + 1) / 35 for step, rate in enumerate(plain)])
    assert max(found) < 0.05 * 14 / 35 + 1e-12
