from __future__ import annotations

import numpy as np
import pytest

from stages.data.folders.splits import Choice, choose_splits, part_of_division, splits_of_stems
from stages.errors import InputError, UsageError


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("train-00000-of-00002", "train"),
        ("test-00000-of-00001-0f3a9b", "test"),
        ("val-00000-of-00001", "validation"),
        ("unlabelled-00000-of-00001", "unlabelled"),
        ("train", "train"),
        ("cifar_test", "test"),
        ("pets.validation.v2", "validation"),
        ("training_0", "train"),
        ("contest", None),
        ("pictures", None),
    ],
)
def test_split_of_a_file_name(stem: str, split: str | None) -> None:
    assert splits_of_stems([stem]) == [split]


@pytest.mark.parametrize(
    ("available", "side", "chosen"),
    [
        (["train", "test"], "train", "train"),
        (["train", "test"], "test", "test"),
        (["train", "validation", "test"], "test", "test"),
        (["train", "validation"], "test", "validation"),
        (["train", "val"], "test", "val"),
        (["train", "eval", "test"], "test", "test"),
        (["train", "eval"], "test", "eval"),
    ],
)
def test_a_side_takes_its_split(available: list[str], side: str, chosen: str) -> None:
    assert choose_splits(available, None, side, source="x") == Choice((chosen,))  # type: ignore[arg-type]


@pytest.mark.parametrize("split", [None, "test"])
def test_several_splits_of_a_side_are_refused(split: str | None) -> None:
    with pytest.raises(UsageError, match="several test splits: 'eval', 'testing'; choose one with --split"):
        choose_splits(["train", "eval", "testing"], split, "test", source="x")
    assert choose_splits(["train", "eval", "testing"], "eval", "test", source="x") == Choice(("eval",))


@pytest.mark.parametrize(
    ("stems", "splits"),
    [
        (["lab-test-images-train", "lab-test-images-test"], ["train", "test"]),
        (["train-lab-test", "test-lab-test"], ["train", "test"]),
        (["lab-test_train-00000-of-00002", "lab-test_train-00001-of-00002", "lab-test_val"], ["train", "train", "validation"]),
        (["lab-test-train", "lab-test-extra"], ["train", None]),
        (["train-train", "test"], ["train", "test"]),
        (["train2", "val2017"], ["train", "validation"]),
        (["latest", "contest", "trainers", "evaluate"], [None] * 4),
        (["lab-test-extra-00000-of-00001"], ["test"]),
    ],
)
def test_words_that_all_names_share_name_no_split(stems: list[str], splits: list[str | None]) -> None:
    assert splits_of_stems(stems) == splits


@pytest.mark.parametrize("stems", [["train-test"], ["train-val", "test"], ["lab-test-train-0", "lab-test-train-1"]])
def test_a_name_of_two_splits_is_refused(stems: list[str]) -> None:
    with pytest.raises(InputError, match=f"'{stems[0]}' names two splits"):
        splits_of_stems(stems)


@pytest.mark.parametrize("only", ["train", "test", "everything"])
def test_a_single_split_is_divided_unless_named(only: str) -> None:
    assert choose_splits([only], None, "train", source="x") == Choice((only,), "train")
    assert choose_splits([only], None, "test", source="x") == Choice((only,), "test")
    assert choose_splits([only], only, "test", source="x") == Choice((only,))
    for both in ("train+test", "test + Training"):
        assert choose_splits([only], both, "test", source="x") == Choice((only,), joined=True)
    with pytest.raises(UsageError, match="has no split"):
        choose_splits([only], "train+validation", "train", source="x")


def test_several_splits_are_taken_in_the_order_given() -> None:
    assert choose_splits(["train", "test"], "test + train", "train", source="x") == Choice(("test", "train"))


def test_a_split_may_be_named_by_another_word() -> None:
    assert choose_splits(["train", "validation"], "val", "test", source="x") == Choice(("validation",))


@pytest.mark.parametrize("split", ["extra", "train+extra", "train+", ""])
def test_an_unknown_split_lists_those_there_are(split: str) -> None:
    with pytest.raises(UsageError, match=r"'birds' has no split '.*'.*'train', 'test'"):
        choose_splits(["train", "test"], split, "train", source="birds")


def test_a_split_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        choose_splits(["train", "test"], "train+train", "train", source="x")


@pytest.mark.parametrize(("available", "side"), [(["train", "extra"], "test"), (["a", "b"], "train")])
def test_a_side_without_a_split_asks_for_one(available: list[str], side: str) -> None:
    with pytest.raises(UsageError, match=f"no {side} split.*--split"):
        choose_splits(available, None, side, source="x")  # type: ignore[arg-type]


def test_division_covers_each_class_once() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [100, 25, 2, 1]))
    classes = ["a", "b", "c", "d"]
    train, test = (part_of_division(labels, classes, part) for part in ("train", "test"))  # type: ignore[arg-type]
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert np.all(np.diff(train) > 0)
    assert np.bincount(labels[test], minlength=4).tolist() == [10, 3, 1, 0]
    assert np.bincount(labels[train], minlength=4).tolist() == [90, 22, 1, 1]


def test_division_of_a_class_does_not_depend_on_the_others() -> None:
    alone = part_of_division(np.zeros(50, dtype=np.int64), ["polar bear"], "test")
    labels = np.concatenate([np.ones(50, dtype=np.int64), np.zeros(7, dtype=np.int64)])
    among = part_of_division(labels, ["ape", "Polar_Bear"], "test")
    assert among[among < 50].tolist() == alone.tolist()
    assert alone.tolist() != part_of_division(np.zeros(50, dtype=np.int64), ["ape"], "test").tolist()


def test_division_is_pinned() -> None:
    assert part_of_division(np.zeros(30, dtype=np.int64), ["cat"], "test").tolist() == [2, 3, 11]


def test_only_the_classes_to_divide_are_divided() -> None:
    labels = np.repeat([0, 1], 50)
    for part, count in (("train", 45), ("test", 5)):
        rows = part_of_division(labels, ["Polar_Bear", "ape"], part, divided=["polar bear", "owl"])  # type: ignore[arg-type]
        assert np.bincount(labels[rows]).tolist() == [count, 50]
        whole = part_of_division(labels, ["Polar_Bear", "ape"], part)  # type: ignore[arg-type]
        assert rows[rows < 50].tolist() == whole[whole < 50].tolist()
