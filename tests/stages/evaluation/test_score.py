from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from stages.attacks.spec import parse_attacks
from stages.data.episodes import draw_episodes
from stages.errors import InputError, UsageError
from stages.evaluation import score
from stages.evaluation.points import episode_points
from stages.evaluation.protocol import Protocol
from stages.statistics.intervals import student_t, wilson
from stages.threat import ThreatModel
from tests.stages.evaluation.models import Channels, Group, coloured, evaluate

THREAT = ThreatModel(Fraction(8, 255))
ALL = parse_attacks(["fgsm", "pgd-20", "cw-linf", "margin-pgd-20"])
NAMES = ("red", "green", "blue")


def lead(levels: int, channel: int) -> tuple[int, int, int]:
    """A grey of 100 whose `channel` leads the others by `levels`."""
    return tuple(100 + levels * (at == channel) for at in range(3))  # type: ignore[return-value]


def group() -> Group:
    # an L-inf attack of 8 levels closes a lead of up to 16: of each pair the first falls; the last image is wrong
    images = coloured([lead(10, 0), lead(40, 0), lead(10, 1), lead(40, 1), lead(10, 2), lead(40, 2), lead(40, 1)])
    return Group(NAMES, torch.eye(3), images, torch.tensor([0, 0, 1, 1, 2, 2, 2]))


def test_all_way_answers_are_those_worked_out_by_hand() -> None:
    result = evaluate(Channels(), group(), Protocol(), ALL, THREAT, batch_size=4)
    assert result.correct["clean"].tolist() == [True, True, True, True, True, True, False]
    for spec in ALL:
        assert result.correct[spec.name].tolist() == [False, True, False, True, False, True, False], spec.name
    assert (result.classes, result.ways, result.images, result.points, result.episodes) == (3, 3, 7, 7, 0)
    assert result.clean.accuracy == pytest.approx(6 / 7)
    assert (result.clean.low, result.clean.high) == wilson(6, 7)
    assert result.worst.accuracy == pytest.approx(3 / 7)
    assert result.interval == "Wilson 95 % over images"


def test_eps_0_changes_nothing() -> None:
    result = evaluate(Channels(), group(), Protocol(), ALL, ThreatModel(Fraction(0)))
    assert result.worst == result.clean


def test_without_an_attack_the_worst_case_is_the_clean_accuracy() -> None:
    result = evaluate(Channels(), group(), Protocol())
    assert result.attacks == {}
    assert result.worst == result.clean


def test_an_episode_is_judged_by_its_own_head() -> None:
    # a greenish 'red' is wrong against green and right against blue
    images = coloured([(120, 140, 60)] * 4 + [lead(60, 1)] * 4 + [lead(60, 2)] * 4)
    mixed = Group(NAMES, torch.eye(3), images, torch.arange(3).repeat_interleave(4))
    protocol = Protocol("episodes", ways=2, shots=0, queries=2, episodes=30, seed=5)
    result = evaluate(Channels(), mixed, protocol, ALL, THREAT)
    sampled = draw_episodes(mixed.labels, NAMES, episodes=30, ways=2, shots=0, queries=2, seed=5)
    expected = [
        not (red == 0 and other == 1) for pair in sampled.classes.tolist() for red, other in (pair, pair[::-1]) for _ in "12"
    ]
    assert 0 < sum(expected) < len(expected)
    assert result.correct["clean"].tolist() == expected
    for spec in ALL:  # every lead is over 16, so nothing falls
        assert result.correct[spec.name].tolist() == expected
    assert (result.classes, result.ways, result.points, result.episodes) == (3, 2, 120, 30)
    per_episode = np.reshape(expected, (30, 4)).mean(1)
    assert (result.clean.low, result.clean.high) == student_t(per_episode)
    assert result.interval == "Student t 95 % over episodes"


def test_shots_make_the_head_from_support_images() -> None:
    # the anchors are of the wrong classes: only the support images are informative
    images = coloured([lead(60, 0)] * 4 + [lead(60, 1)] * 4 + [lead(60, 2)] * 4)
    turned = Group(NAMES, torch.eye(3).roll(1, 0), images, torch.arange(3).repeat_interleave(4))
    zero, one, two = (
        evaluate(Channels(0.4), turned, Protocol("episodes", ways=3, shots=shots, queries=2, episodes=5)) for shots in (0, 1, 2)
    )
    assert zero.clean.accuracy == 0
    assert one.clean.accuracy == two.clean.accuracy == 1


def test_the_head_of_several_shots_is_their_normalised_mean() -> None:
    embeddings = torch.nn.functional.normalize(torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.arange(3).repeat(4)
    sampled = draw_episodes(labels, NAMES, episodes=2, ways=2, shots=3, queries=1, seed=0)
    points = episode_points(sampled, torch.eye(3, 4), embeddings)
    mean = embeddings[sampled.support[1, 0]].sum(0)
    torch.testing.assert_close(points.heads[1, 0], mean / mean.norm())
    assert points.head.tolist() == [0, 0, 1, 1]
    assert points.label.tolist() == [0, 1, 0, 1]


def noisy_group() -> Group:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(80, 120, (60, 3, 4, 4), generator=generator, dtype=torch.uint8)
    labels = torch.arange(3).repeat(20)
    for at, label in enumerate(labels.tolist()):
        images[at, label] += at % 25
    return Group(NAMES, torch.eye(3), images, labels)


@pytest.mark.parametrize("protocol", [Protocol(), Protocol("episodes", ways=2, shots=0, queries=5, episodes=12)])
def test_the_worst_case_is_never_above_any_attack_and_no_attack_above_clean(protocol: Protocol) -> None:
    result = evaluate(Channels(0.38), noisy_group(), protocol, ALL, THREAT)
    assert 0 < result.worst.accuracy < result.clean.accuracy < 1
    for name in result.attacks:
        assert not (result.correct[name] & ~result.correct["clean"]).any()
        assert result.worst.accuracy <= result.attacks[name].accuracy <= result.clean.accuracy
    together = np.logical_and.reduce([result.correct[name] for name in ("clean", *result.attacks)])
    assert result.worst.accuracy == together.mean()


def test_the_batch_size_does_not_change_the_decisions() -> None:
    protocol = Protocol("episodes", ways=2, shots=1, queries=5, episodes=12)
    results = [evaluate(Channels(0.38), noisy_group(), protocol, ALL, THREAT, batch_size=size) for size in (1, 17, 500)]
    for other in results[1:]:
        for name, decisions in results[0].correct.items():
            assert np.array_equal(decisions, other.correct[name])


def test_two_attacks_meet_the_same_episodes() -> None:
    protocol = Protocol("episodes", ways=2, queries=5, episodes=12)
    one = evaluate(Channels(0.38), noisy_group(), protocol, ALL[:1], THREAT, seed=0)
    two = evaluate(Channels(0.38), noisy_group(), protocol, ALL[1:], THREAT, seed=7)
    assert np.array_equal(one.correct["clean"], two.correct["clean"])
    both = evaluate(Channels(0.38), noisy_group(), protocol, ALL[::-1], THREAT, seed=0)
    assert np.array_equal(one.correct["fgsm"], both.correct["fgsm"])


def test_each_distinct_image_is_embedded_once() -> None:
    model = Channels()
    evaluate(model, group(), Protocol("episodes", ways=2, queries=1, episodes=50), batch_size=3)
    assert len(model.judged) <= 3  # batches of 3 of 7 images


def test_points_that_are_wrong_when_clean_are_not_attacked() -> None:
    good, model = group(), Channels()
    turned = Group(NAMES, good.anchors, good.images, (good.labels + (torch.arange(7) < 6)) % 3)
    result = evaluate(model, turned, Protocol(), ALL, THREAT)
    assert result.clean.accuracy == 0
    assert all(value.accuracy == 0 for value in result.attacks.values())
    assert model.attacked == []


def test_the_model_comes_back_as_it_was() -> None:
    model = Channels().train()
    evaluate(model, group(), Protocol(), ALL, THREAT)
    assert model.training
    assert model.weight.requires_grad
    assert model.weight.grad is None


def test_progress_counts_what_clean_and_each_attack_cost_every_point() -> None:
    shown: list[tuple[int, int, str]] = []
    evaluate(Channels(), group(), Protocol(), ALL[:2], THREAT, batch_size=2, progress=lambda *news: shown.append(news))
    counts = [done for done, _, _ in shown]
    assert counts == sorted(counts)
    total = 7 * (1 + 3 + 60)  # a clean pass, a gradient, twenty gradients
    assert shown[0] == (7, total, "clean 85.7%")
    assert shown[-1] == (total, total, "pgd-20 42.9%")  # 3 of 7
    assert 7 * (1 + 3) in counts
    assert {note.split()[0] for _, _, note in shown} == {"clean", "fgsm", "pgd-20"}


def test_what_cannot_be_evaluated_is_refused() -> None:
    with pytest.raises(UsageError, match="fgsm needs a threat model"):
        evaluate(Channels(), group(), Protocol(), ALL)
    with pytest.raises(UsageError, match="unknown --protocol 'some-way'"):
        Protocol("some-way")
    with pytest.raises(UsageError, match="--ways 4 is more than the 3 classes"):
        evaluate(Channels(), group(), Protocol("episodes", ways=4))
    with pytest.raises(UsageError, match="class 'red' has 2 images, an episode needs 3 queries"):
        evaluate(Channels(), group(), Protocol("episodes", ways=2, queries=3))
    wide = Group(NAMES, torch.eye(3, 9), group().images, group().labels)
    with pytest.raises(InputError, match="anchors have width 9, the model's embeddings 3"):
        evaluate(Channels(), wide, Protocol())


def test_images_of_other_classes_are_refused() -> None:
    good = group()
    with pytest.raises(InputError, match="no images of these classes"):
        evaluate(Channels(), replace(good, images=good.images[:0], labels=good.labels[:0]), Protocol())
    with pytest.raises(InputError, match="images are of 3 classes and the classifier has 2"):
        score.evaluate(good.classifier(Channels()).over(NAMES[:2]), good.image_set(), Protocol())
    with pytest.raises(InputError, match="class 'red' where the classifier has 'blue'"):
        score.evaluate(good.classifier(Channels()).over(NAMES[::-1]), good.image_set(), Protocol())


def test_rows_hold_what_each_image_met() -> None:
    rows = evaluate(Channels(), group(), Protocol(), ALL, THREAT, batch_size=3, scale=16.0).rows
    assert rows is not None
    assert rows.image.tolist() == list(range(7))
    assert rows.label.tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert rows.episode.tolist() == [-1] * 7
    assert rows.clean.predicted.tolist() == [0, 0, 1, 1, 2, 2, 1]
    assert not rows.clean.norm.any()
    # (110, 100, 100) and (140, 100, 100) as unit vectors: the first number minus the second
    small, large = 10 / np.sqrt(110**2 + 2 * 100**2), 40 / np.sqrt(140**2 + 2 * 100**2)
    assert rows.clean.margin == pytest.approx([small, large, small, large, small, large, -large], abs=1e-6)
    for name, found in rows.attacks.items():
        assert (found.predicted[[0, 2, 4]] != rows.label[[0, 2, 4]]).all(), name
        assert (found.margin[[0, 2, 4]] <= 0).all()
        assert ((found.margin > 0) == (found.predicted == rows.label)).all()
        assert (found.margin <= rows.clean.margin + 1e-6).all()
        assert found.norm[:6] == pytest.approx(np.minimum(found.norm[:6], 8 / 255), abs=1e-6)
        assert (found.norm[:6] > 0).all()
        # wrong when clean: not attacked, it stays as it was
        assert (found.predicted[6], found.margin[6], found.norm[6]) == (1, rows.clean.margin[6], 0)


def test_rows_of_episodes_name_classes_and_the_episodes_are_kept() -> None:
    protocol = Protocol("episodes", ways=2, shots=3, queries=4, episodes=6, seed=2)
    one = noisy_group()
    rows = evaluate(Channels(0.38), one, protocol, ALL[:1], THREAT).rows
    assert rows is not None
    sampled = draw_episodes(one.labels, NAMES, episodes=6, ways=2, shots=3, queries=4, seed=2)
    assert np.array_equal(rows.heads, sampled.classes.numpy())
    assert np.array_equal(rows.support, sampled.support.numpy())
    assert np.array_equal(rows.image, sampled.query.numpy().ravel())
    assert np.array_equal(rows.label, one.labels.numpy()[rows.image])
    assert np.array_equal(rows.episode, np.arange(6).repeat(8))
    inside = rows.heads[rows.episode]
    for found in (rows.clean, *rows.attacks.values()):
        assert (inside == found.predicted[:, None]).any(1).all()


def test_every_figure_is_computed_from_the_rows() -> None:
    protocol = Protocol("episodes", ways=2, shots=0, queries=5, episodes=12)
    result = evaluate(Channels(0.38), noisy_group(), protocol, ALL, THREAT)
    rows = result.rows
    assert rows is not None
    clean = rows.clean.predicted == rows.label
    worst = clean.copy()
    assert result.clean.accuracy == clean.mean()
    for name, found in rows.attacks.items():
        right = clean & (found.predicted == rows.label)
        worst &= right
        assert result.attacks[name].accuracy == right.mean()
        assert (result.attacks[name].low, result.attacks[name].high) == student_t(right.reshape(12, -1).mean(1))
    assert result.worst.accuracy == worst.mean()
