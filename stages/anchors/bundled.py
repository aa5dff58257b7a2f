"""The class lists of the package, with their groups."""

from __future__ import annotations

from importlib import resources

from stages.classes import ClassGroups
from stages.data.shapes import SEEN, shape_classes
from stages.errors import UsageError

# the file of each list, and how many of its classes are seen and for validation
_FILES = {"cifar-fs": ("cifar_fs.txt", 64, 16), "fc100": ("fc100.txt", 60, 20)}
BUNDLED_LISTS = ("shapes", *_FILES)


def bundled_classes(name: str) -> tuple[list[str], ClassGroups]:
    """The names and groups of a bundled list: seen, validation and novel classes.

    'shapes' has 48, 0 and 16 of them; 'cifar-fs' 64, 16 and 20 (Bertinetto et al., ICLR 2019); 'fc100' 60, 20 and 20
    (Oreshkin et al., NeurIPS 2018). The last two split the classes of CIFAR-100; FC100 splits by superclass, so that
    novel classes have no close relatives among the seen ones.
    """
    if name == "shapes":
        classes = list(shape_classes())
        return classes, ClassGroups.from_counts(len(classes), SEEN)
    if name in _FILES:
        file, seen, val = _FILES[name]
        text = resources.files("stages.anchors").joinpath(file).read_text(encoding="utf-8")
        classes = [line for line in text.splitlines() if line and not line.startswith("#")]
        return classes, ClassGroups.from_counts(len(classes), seen, val)
    raise UsageError(f"no bundled class list '{name}'", f"bundled lists: {', '.join(BUNDLED_LISTS)}")
