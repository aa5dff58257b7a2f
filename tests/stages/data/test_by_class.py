from __future__ import annotations

import numpy as np
import pytest

from stages.data.by_class import rows_by_class


@pytest.mark.parametrize(("count", "classes"), [(0, 0), (0, 3), (5, 1), (40, 7), (10, 30)])
def test_the_rows_of_each_class_are_those_with_its_label(count: int, classes: int) -> None:
    labels = np.random.default_rng(0).integers(-1, classes + 1, count)  # also labels that are no class
    found = rows_by_class(labels, classes)
    assert len(found) == classes
    for at, rows in enumerate(found):
        np.testing.assert_array_equal(rows, np.flatnonzero(labels == at))
