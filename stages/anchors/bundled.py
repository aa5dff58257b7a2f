"""The class lists of the package, with their groups."""

from __future__ import annotations

from importlib import resources

from stages.classes import ClassGroups
from stages.data.shapes import SEEN, shape_classes
from stages.errors import UsageError

BUNDLED_LISTS = ("shapes", "cifar-fs")


def bundled_classes(name: str) -> tuple[list[str], ClassGroups]:
    """The names and groups of a bundled list: 'shapes' (48 seen, 16 novel) or 'cifar-fs' (64 seen, 16 val, 20 novel).

    CIFAR-FS is the split of Bertinetto et al., ICLR 2019.
    """
    if name == "shapes":
        classes = list(shape_classes())
        return classes, ClassGroups.from_counts(len(classes), SEEN)
    if name == "cifar-fs":
        text = resources.files("stages.anchors").joinpath("cifar_fs.txt").read_text(encoding="utf-8")
        classes = [line for line in text.splitlines() if line and not line.startswith("#")]
        return classes, ClassGroups.from_counts(len(classes), 64, 16)
    raise UsageError(f"no bundled class list '{name}'", f"bundled lists: {', '.join(BUNDLED_LISTS)}")
