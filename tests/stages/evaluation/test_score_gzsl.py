"""The generalized protocol on a model whose answers can be worked out by hand: seen red and green, novel blue."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from stages.attacks.spec import parse_attacks
from stages.evaluation.protocol import Protocol
from stages.reports.results import GroupResult
from stages.statistics.seen_unseen import SeenUnseen
from stages.threat import ThreatModel
from tests.stages.evaluation.models import Channels, Group, coloured, evaluate
from tests.stages.evaluation.test_score import NAMES, THREAT, group, lead

ATTACKS = parse_attacks(["pgd-20", "margin-pgd-20"])
SEEN = 2


def seen_and_novel(one: Group) -> Group:
    return Group(one.classes, one.anchors, one.images, one.labels, seen=SEEN)


def run(one: Group, threat: ThreatModel | None = THREAT, batch_size: int = 256) -> GroupResult:
    attacks = ATTACKS if threat else ()
    return evaluate(Channels(0.38), seen_and_novel(one), Protocol("gzsl"), attacks, threat, batch_size=batch_size)


def noisy() -> Group:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(80, 120, (90, 3, 4, 4), generator=generator, dtype=torch.uint8)
    labels = torch.arange(3).repeat_interleave(torch.tensor([40, 20, 30]))
    for at, label in enumerate(labels.tolist()):
        images[at, label] += at % 25
    return Group(NAMES, torch.eye(3), images, labels)


def test_s_u_and_h_are_those_worked_out_by_hand() -> None:
    # an L-inf attack of 8 levels closes a lead of up to 16: of each pair the first falls; the last blue is seen as green
    result = evaluate(Channels(), seen_and_novel(group()), Protocol("gzsl"), ATTACKS, THREAT)
    found = result.gzsl
    assert found is not None
    assert (found.seen_classes, found.novel_classes) == (2, 1)
    assert found.clean.S.accuracy == 1
    assert found.clean.U.accuracy == pytest.approx(2 / 3)
    assert found.clean.H.accuracy == pytest.approx(0.8)
    assert found.worst.S.accuracy == pytest.approx(0.5)
    assert found.worst.U.accuracy == pytest.approx(1 / 3)
    assert found.worst.H.accuracy == pytest.approx(0.4)
    assert result.clean.accuracy == pytest.approx(6 / 7)


def test_the_attack_crosses_the_border_between_seen_and_novel() -> None:
    # reds next to blue alone: within the seen classes no attack of this size could do anything
    images = coloured([(110, 0, 100)] * 3 + [lead(90, 1)] * 3 + [lead(90, 2)] * 3)
    result = run(Group(NAMES, torch.eye(3), images, torch.arange(3).repeat_interleave(3)))
    assert result.gzsl is not None
    assert result.gzsl.clean.S.accuracy == 1
    assert result.gzsl.worst.S.accuracy == 0.5


def test_the_figures_at_bias_0_are_those_of_the_decisions() -> None:
    result = run(noisy())
    rows, found = result.rows, result.gzsl
    assert rows is not None
    assert found is not None
    correct = rows.correct()
    correct["worst"] = np.logical_and.reduce(list(correct.values()))
    for name, shown in {"clean": found.clean, **found.attacks, "worst": found.worst}.items():
        each = [correct[name][rows.label == at].mean() for at in range(3)]
        assert shown.S.accuracy == pytest.approx(np.mean(each[:SEEN])), name
        assert shown.U.accuracy == pytest.approx(each[2]), name
    assert 0 < found.worst.H.accuracy < found.clean.H.accuracy < 1
    assert 0 < found.worst.ausuc.area < found.clean.ausuc.area < 1


def test_away_from_bias_0_fallen_points_do_not_rise_again_at_once() -> None:
    # every colour leads by 10 levels: all fall at bias 0, to an iterate just beyond the border
    images = coloured([lead(10, 0)] * 4 + [lead(10, 1)] * 4 + [lead(10, 2)] * 4)
    result = run(Group(NAMES, torch.eye(3), images, torch.arange(3).repeat_interleave(4)))
    assert result.rows is not None
    assert result.gzsl is not None
    limit = result.rows.attacks["margin-pgd-20"].limit
    assert limit is not None
    novel = limit[result.rows.label == 2]
    clean = result.rows.clean.limit
    assert clean is not None
    # the lead of +10 becomes one of -6 at least on the better of the others
    assert (novel > 0.3 * -clean[result.rows.label == 2]).all()


@pytest.mark.parametrize("bias", [-0.3, -0.1, 0.1, 0.3])
def test_the_robust_curve_is_no_higher_than_clean_and_at_least_what_an_attack_at_that_bias_leaves(bias: float) -> None:
    one = noisy()
    result = run(one)
    rows = result.rows
    assert rows is not None
    sides = SeenUnseen(rows.label.astype(np.int64), SEEN, 3)
    assert rows.clean.limit is not None
    clean = sides.right(rows.clean.limit, bias)
    limit = rows.attacks["margin-pgd-20"].limit
    assert limit is not None
    claimed = clean & sides.right(limit, bias)
    true = _attacked_at(one, bias)
    assert claimed.sum() < clean.sum()
    # an upper bound, and not a loose one
    assert true.mean() - 0.02 <= claimed.mean() <= true.mean() + 0.15


def _attacked_at(one: Group, bias: float) -> np.ndarray:
    """Robust samples when the attack runs at this bias, a fourth direction of the head that is always 1."""

    class Biased(Channels):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat((super().forward(x), torch.ones(len(x), 1)), 1)

    anchors = torch.cat((torch.eye(3), torch.tensor([[-bias], [-bias], [0.0]])), 1)
    biased = Group(one.classes, anchors, one.images, one.labels)
    found = evaluate(Biased(0.38), biased, Protocol(), parse_attacks(["margin-pgd-20"]), THREAT)
    return found.correct["margin-pgd-20"]


def test_the_batch_size_changes_nothing() -> None:
    small, large = (run(noisy(), batch_size=size).gzsl for size in (7, 500))
    assert small is not None
    assert large is not None
    for one, two in ((small.clean, large.clean), (small.worst, large.worst)):
        assert one.H.accuracy == two.H.accuracy
        assert one.ausuc.area == pytest.approx(two.ausuc.area, abs=0.01)


def test_without_an_attack_and_at_eps_0_the_worst_case_is_clean() -> None:
    alone = run(noisy(), None).gzsl
    assert alone is not None
    assert alone.attacks == {}
    assert alone.worst == alone.clean
    nothing = run(noisy(), ThreatModel(Fraction(0))).gzsl
    assert nothing is not None
    assert nothing.worst.H == nothing.clean.H
    assert nothing.worst.ausuc.area == pytest.approx(nothing.clean.ausuc.area, abs=1e-6)
    assert alone.clean == nothing.clean


def test_other_protocols_know_nothing_of_it() -> None:
    for protocol in (Protocol(), Protocol("episodes", ways=2, queries=2, episodes=3)):
        result = evaluate(Channels(), seen_and_novel(group()), protocol)
        assert result.gzsl is None
