"""The images of one data set of a benchmark, shared by its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stages.benchmark.class_names import matched, read_class_names
from stages.benchmark.presence import Presence
from stages.classes import fold
from stages.data.image_set import ImageSet
from stages.data.load import load_images
from stages.data.sources import open_source


class SharedImages:
    """The images of one data set, read once for all models that take them in one size.

    Args:
        data: where they are.
    """

    def __init__(self, data: Presence) -> None:
        self._data, self._one, self._request = data, data.one, data.request()
        self._read: dict[Any, ImageSet] = {}
        self._matched: tuple[list[str], list[str]] | None = None

    @property
    def names(self) -> list[str]:
        """The candidates, as prompts and reports call them. Raises as `class_names.matched`."""
        return self._names()[1]

    def _names(self) -> tuple[list[str], list[str]]:
        if self._matched is None:
            given = read_class_names(self._one)
            source = open_source(self._request)
            self._request = replace(self._request, split=self._data.split_of(source.splits))
            self._matched = matched(self._one, given, source.classes, source.name)
        return self._matched

    def read(self, reading: Mapping[str, Any], seen: Sequence[str]) -> ImageSet:
        """The images, read as a model was trained, with the names of the benchmark.

        Args:
            reading: see `Origin.reading`.
            seen: the classes that the model was trained on; of data with a single split a tenth of their images is read.
        """
        own, names = self._names()
        request = self._request.as_in(reading)
        trained = {fold(name) for name in seen}
        divided = [mine for mine, name in zip(own, names, strict=True) if fold(name) in trained]
        key = (request.resize, request.white, tuple(divided))
        if key not in self._read:
            self._read.clear()  # the models of one size mostly follow each other, and memory is dear
            images = load_images(
                request, side="test", classes=own, classes_from=f"the data set '{self._one.name}'", divided=divided
            )
            self._read[key] = replace(images, classes=tuple(names))
        return self._read[key]
