from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from stages.data.image_set import DataProvenance, ImageSet
from stages.errors import InputError


def small_set() -> ImageSet:
    images = torch.arange(6 * 3 * 2 * 2).reshape(6, 3, 2, 2).to(torch.uint8)
    labels = torch.tensor([0, 1, 2, 0, 1, 0])
    return ImageSet(images, labels, ("polar_bear", "cat", "dog", "owl"), DataProvenance("zoo", ("train",)))


def test_restricting_keeps_images_and_renumbers_labels() -> None:
    zoo = small_set()
    restricted = zoo.restricted_to(["Dog", "Polar  bear"], names_from="the anchors")
    assert restricted.classes == ("Dog", "Polar  bear")
    assert restricted.labels.tolist() == [1, 0, 1, 1]
    assert torch.equal(restricted.images, zoo.images[[0, 2, 3, 5]])
    assert restricted.provenance == zoo.provenance


def test_restricting_to_an_unknown_class_names_both_sides() -> None:
    with pytest.raises(InputError, match=r"the anchors.*the data 'zoo'.*'cow'"):
        small_set().restricted_to(["cow"], names_from="the anchors")


def test_restricting_to_a_class_without_images_is_an_error() -> None:
    with pytest.raises(InputError, match=r"'zoo' has no image of 'owl'"):
        small_set().restricted_to(["cat", "owl"], names_from="the anchors")


def test_restricting_to_a_class_given_twice_is_an_error() -> None:
    with pytest.raises(InputError, match="twice"):
        small_set().restricted_to(["cat", "Cat"], names_from="the anchors")


def test_take_follows_the_indices() -> None:
    taken = small_set().take([4, 4, 0])
    assert taken.labels.tolist() == [1, 1, 0]
    assert torch.equal(taken.images[2], small_set().images[0])
    assert taken.counts() == [1, 2, 0, 0]


def test_mean_and_std_agree_with_numpy() -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (500, 3, 2, 3), dtype=torch.uint8, generator=generator)
    images[:, 1] //= 2
    labels = torch.zeros(len(images), dtype=torch.int64)
    mean, std = ImageSet(images, labels, ("one",), DataProvenance("noise")).mean_std()
    pixels = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 2, 3)), rtol=1e-12)


def test_the_range_of_each_channel() -> None:
    images = torch.full((5000, 3, 1, 2), 7, dtype=torch.uint8)
    images[4999, 1, 0, 1], images[3, 2, 0, 0] = 9, 0
    zoo = ImageSet(images, torch.zeros(5000, dtype=torch.int64), ("one",), DataProvenance("zoo"))
    assert zoo.channel_ranges() == [(7, 7), (7, 9), (0, 7)]
    assert zoo.take([]).channel_ranges() == []


def test_mean_of_no_image_is_an_error() -> None:
    with pytest.raises(InputError, match="no image"):
        small_set().take([]).mean_std()


def test_hash_depends_on_pixels_labels_and_classes_only() -> None:
    zoo = small_set()
    assert zoo.sha256() == ImageSet(zoo.images.clone(), zoo.labels, zoo.classes, DataProvenance("other")).sha256()
    brighter = zoo.images.clone()
    brighter[5, 2, 1, 1] += 1
    variants = [
        zoo,
        ImageSet(brighter, zoo.labels, zoo.classes, zoo.provenance),
        ImageSet(zoo.images, zoo.labels.flip(0), zoo.classes, zoo.provenance),
        ImageSet(zoo.images, zoo.labels, zoo.classes[:3], zoo.provenance),
        ImageSet(zoo.images.reshape(6, 3, 1, 4), zoo.labels, zoo.classes, zoo.provenance),
    ]
    assert len({variant.sha256() for variant in variants}) == len(variants)


def test_hash_does_not_depend_on_the_memory_layout() -> None:
    zoo = small_set()
    last = ImageSet(zoo.images.to(memory_format=torch.channels_last), zoo.labels, zoo.classes, zoo.provenance)
    assert last.sha256() == zoo.sha256()


def test_provenance_is_jsonable() -> None:
    record = DataProvenance("zoo", ("train", "test"), resize=32, skipped_corrupt=2, notes=("a",)).to_record()
    assert json.loads(json.dumps(record)) == record
    assert record["splits"] == ["train", "test"]


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.ones(2, dtype=torch.int64)),
    ],
)
def test_tensors_of_another_kind_are_refused(images: torch.Tensor, labels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"images are|labels"):
        ImageSet(images, labels, ("one",), DataProvenance("x"))
