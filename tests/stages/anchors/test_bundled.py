from __future__ import annotations

import pytest

from stages.anchors.bundled import bundled_classes
from stages.classes import check_unique, read_class_file
from stages.data.shapes import shape_classes
from stages.errors import UsageError
from tests.where import SHARED


@pytest.mark.parametrize(("name", "sizes"), [("cifar-fs", [64, 16, 20]), ("fc100", [60, 20, 20])])
def test_the_bundled_splits_of_cifar_100(name: str, sizes: list[int]) -> None:
    names, groups = bundled_classes(name)
    assert [len(group) for group in (groups.seen, groups.val, groups.novel)] == sizes
    assert groups.of("all") == tuple(range(100))
    check_unique(names, where="the bundled list")
    assert sorted(names) == sorted(bundled_classes("cifar-fs")[0])


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_the_bundled_cifar_fs_list_is_the_published_one() -> None:
    assert bundled_classes("cifar-fs")[0] == read_class_file(SHARED / "anchors" / "cifar-fs_classes.txt")


def test_the_bundled_shapes_list() -> None:
    names, groups = bundled_classes("shapes")
    assert names == list(shape_classes())
    assert [len(group) for group in (groups.seen, groups.val, groups.novel)] == [48, 0, 16]


def test_an_unknown_bundled_list() -> None:
    with pytest.raises(UsageError, match="bundled lists: shapes, cifar-fs, fc100"):
        bundled_classes("imagenet")
