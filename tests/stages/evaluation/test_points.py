from __future__ import annotations

import pytest
import torch

from stages.data.episodes import Episodes, draw_episodes
from stages.evaluation.points import episode_points

LABELS = torch.arange(3).repeat(8)
ANCHORS = torch.eye(3, 4)


def embeddings() -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), dim=1)


def draw(shots: int) -> Episodes:
    return draw_episodes(LABELS, ("a", "b", "c"), episodes=3, ways=2, shots=shots, queries=2, seed=0)


@pytest.mark.parametrize(("shots", "blend"), [(1, 2.0), (5, 2.0), (3, 0.5)])
def test_a_blended_head_is_the_weighted_sum_of_name_and_images(shots: int, blend: float) -> None:
    sampled, shown = draw(shots), embeddings()
    heads = episode_points(sampled, ANCHORS, shown, blend=blend).heads
    for episode in range(3):
        for way in range(2):
            name = ANCHORS[sampled.classes[episode, way]]
            # K times the mean is the sum
            wanted = blend * name + shown[sampled.support[episode, way]].sum(0)
            torch.testing.assert_close(heads[episode, way], wanted / wanted.norm())


def test_raw_support_embeddings_weigh_by_their_norm_as_in_the_published_program() -> None:
    sampled, norms = draw(2), torch.linspace(5, 15, 24)[:, None]
    raw = embeddings() * norms
    heads = episode_points(sampled, ANCHORS, raw, blend=2, support_embeddings="raw").heads
    wanted = 2 * ANCHORS[sampled.classes] + raw[sampled.support].sum(2)
    torch.testing.assert_close(heads, torch.nn.functional.normalize(wanted, dim=-1))
    # by default the norms do not matter
    torch.testing.assert_close(
        episode_points(sampled, ANCHORS, raw, blend=2).heads, episode_points(sampled, ANCHORS, embeddings(), blend=2).heads
    )


def test_without_blending_images_alone_and_with_much_of_it_names_alone() -> None:
    sampled, shown = draw(2), embeddings()
    mean = shown[sampled.support].mean(2)
    torch.testing.assert_close(episode_points(sampled, ANCHORS, shown).heads, torch.nn.functional.normalize(mean, dim=-1))
    torch.testing.assert_close(episode_points(sampled, ANCHORS, shown, blend=1e8).heads, ANCHORS[sampled.classes])


def test_without_shots_there_is_nothing_to_blend() -> None:
    sampled = draw(0)
    one, two = (episode_points(sampled, ANCHORS, embeddings(), blend=blend) for blend in (0.0, 2.0))
    assert torch.equal(one.heads, two.heads)
    assert torch.equal(one.heads, ANCHORS[sampled.classes])


def test_the_same_queries_whatever_the_shots() -> None:
    points = [episode_points(draw(shots), ANCHORS, embeddings()) for shots in (0, 1, 5)]
    for other in points[1:]:
        assert torch.equal(points[0].image, other.image)
        assert torch.equal(points[0].label, other.label)
