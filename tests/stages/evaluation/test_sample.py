from __future__ import annotations

import pytest
import torch

from stages.data.image_set import DataProvenance, ImageSet
from stages.errors import UsageError
from stages.evaluation.sample import Sample, sample_note, subset_of

COUNTS = {"ant": 12, "bee": 5, "cat": 1}


def numbered() -> ImageSet:
    """Images that carry their own number, the classes mixed."""
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(list(COUNTS.values())))
    labels = labels[torch.randperm(18, generator=torch.Generator().manual_seed(3))]
    images = torch.arange(18, dtype=torch.uint8)[:, None, None, None].expand(18, 3, 2, 2).contiguous()
    return ImageSet(images, labels, tuple(COUNTS), DataProvenance("x"))


def kept(sample: Sample) -> list[int]:
    return subset_of(numbered(), sample).images[:, 0, 0, 0].tolist()


def test_at_most_so_many_of_a_class_and_all_of_a_smaller_one() -> None:
    some = subset_of(numbered(), Sample(per_class=4))
    assert some.counts() == [4, 4, 1]
    whole = numbered()
    for number, label in zip(some.images[:, 0, 0, 0].tolist(), some.labels.tolist(), strict=True):
        assert whole.labels[number] == label


def test_at_most_so_many_in_all_evenly_over_the_classes() -> None:
    assert subset_of(numbered(), Sample(images=8)).counts() == [4, 3, 1]
    assert subset_of(numbered(), Sample(images=9, per_class=6)).counts() == [4, 4, 1]
    assert kept(Sample(images=500, per_class=500)) == list(range(18))
    assert kept(Sample()) == list(range(18))


def test_the_draw_follows_from_its_seed_and_a_smaller_one_is_part_of_it() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert kept(Sample(images=8)) == kept(Sample(images=8))
    assert torch.equal(torch.get_rng_state(), state)
    assert len({tuple(kept(Sample(images=8, seed=seed))) for seed in range(5)}) > 1
    assert set(kept(Sample(images=5))) < set(kept(Sample(images=9)))
    assert set(kept(Sample(per_class=2))) < set(kept(Sample(per_class=4)))
    assert kept(Sample(images=9)) == sorted(kept(Sample(images=9)))


def test_numbers_that_leave_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="--max-images is 0; choose at least 1"):
        Sample(images=0)
    with pytest.raises(UsageError, match="--max-per-class is -1"):
        Sample(per_class=-1)
    with pytest.raises(UsageError, match="--max-images 2 leaves some of the 3 classes without an image; give --max-images 3"):
        subset_of(numbered(), Sample(images=2))


def test_a_report_says_how_many_of_how_many() -> None:
    assert sample_note(Sample(images=8, seed=4), 8, 1800) == "a subset: 8 of 1,800 images, sampled with seed 4"
