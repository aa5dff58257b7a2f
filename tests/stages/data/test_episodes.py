from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.data.episodes import Episodes, draw_episodes
from stages.errors import UsageError

NAMES = ["ant", "bee", "cat", "dog", "emu", "fox", "gnu"]
LABELS = torch.arange(7).repeat(10)[torch.randperm(70, generator=torch.Generator().manual_seed(0))]


def draw(**changed: int) -> Episodes:
    numbers = {"episodes": 20, "ways": 5, "shots": 2, "queries": 4, "seed": 0} | changed
    return draw_episodes(LABELS, NAMES, **numbers)


@settings(max_examples=40, deadline=None)
@given(
    episodes=st.integers(1, 8),
    ways=st.integers(2, 7),
    shots=st.integers(0, 5),
    queries=st.integers(1, 5),
    seed=st.integers(0, 10**6),
)
def test_every_episode_has_distinct_classes_and_distinct_images_of_them(
    episodes: int, ways: int, shots: int, queries: int, seed: int
) -> None:
    drawn = draw(episodes=episodes, ways=ways, shots=shots, queries=queries, seed=seed)
    assert drawn.classes.shape == (episodes, ways)
    assert drawn.support.shape == (episodes, ways, shots)
    assert drawn.query.shape == (episodes, ways, queries)
    images = torch.cat((drawn.support, drawn.query), dim=2)
    assert torch.equal(LABELS[images], drawn.classes[:, :, None].expand_as(images))
    for one in range(episodes):
        assert len(drawn.classes[one].unique()) == ways
        assert len(images[one].unique()) == images[one].numel()


def test_episodes_follow_from_their_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = draw(), draw(), draw(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.query, again.query)
    assert torch.equal(first.support, again.support)
    assert not torch.equal(first.classes, other.classes)


def test_the_first_episodes_do_not_depend_on_how_many_are_drawn() -> None:
    assert torch.equal(draw(episodes=5).query, draw(episodes=50).query[:5])


def test_the_queries_do_not_depend_on_the_shots() -> None:
    assert torch.equal(draw(shots=0).query, draw(shots=5).query)


def test_over_many_episodes_classes_and_images_are_drawn_evenly() -> None:
    drawn = draw(episodes=2000, shots=0)
    counts = drawn.classes.flatten().bincount()
    assert (counts - 2000 * 5 / 7).abs().max() < 150
    images = drawn.query.flatten().bincount(minlength=70)
    assert images.min() > 0.7 * images.float().mean()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ways": 8}, "--ways 8 is more than the 7 classes"),
        ({"episodes": 0}, "--episodes 0 is too few; give --episodes 1"),
        ({"ways": 1}, "--ways 1 is too few"),
        ({"queries": 0}, "--queries 0 is too few"),
        ({"shots": -1}, "--shots -1 is too few; give --shots 0"),
    ],
)
def test_numbers_that_make_no_episode_are_refused(changed: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        draw(**changed)


def test_a_class_with_too_few_images_is_named_with_its_count() -> None:
    labels = LABELS[(LABELS != 2) | (torch.arange(70) < 35)]
    count = int((labels == 2).sum())
    with pytest.raises(UsageError, match=rf"class 'cat' has {count} images, an episode needs 1 shots \+ 9 queries"):
        draw_episodes(labels, NAMES, episodes=1, ways=2, shots=1, queries=9, seed=0)
    with pytest.raises(UsageError, match="class 'owl' has 0 images, an episode needs 1 queries"):
        draw_episodes(LABELS, [*NAMES, "owl"], episodes=1, ways=2, shots=0, queries=1, seed=0)
