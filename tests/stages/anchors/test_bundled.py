from __future__ import annotations

import pytest

from stages.anchors.bundled import bundled_classes
from stages.classes import check_unique, read_class_file
from stages.data.shapes import shape_classes
from stages.errors import UsageError
from tests.where import SHARED


def test_the_bundled_cifar_fs_list() -> None:
    names, groups = bundled_classes("cifar-fs")
    assert [len(group) for group in (groups.seen, groups.val, groups.novel)] == [64, 16, 20]
    assert groups.of("all") == tuple(range(100))
    check_unique(names, where="the bundled list")
    assert len(names) == 100


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_the_bundled_cifar_fs_list_is_the_published_one() -> None:
    assert bundled_classes("cifar-fs")[0] == read_class_file(SHARED / "anchors" / "cifar-fs_classes.txt")


def test_the_bundled_shapes_list() -> None:
    names, groups = bundled_classes("shapes")
    assert names == list(shape_classes())
    assert [len(group) for group in (groups.seen, groups.val, groups.novel)] == [48, 0, 16]


def test_an_unknown_bundled_list() -> None:
    with pytest.raises(UsageError, match="bundled lists: shapes, cifar-fs"):
        bundled_classes("imagenet")
