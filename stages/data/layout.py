"""What the folders of an image folder are: classes, or splits that contain class folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.data.splits import KEYWORDS, splits_of_stems
from stages.data.walk import Found, list_folder, walk, why_no_image
from stages.errors import InputError

OUTSIDE = "outside a class folder"
CHOICES = "--layout classes or --layout splits"


@dataclass(frozen=True)
class TopFolder:
    """A folder directly in the data.

    Attributes:
        name: of the folder.
        own: the images directly in it.
        inner: for each folder in it, the images below that.
    """

    name: str
    own: Found
    inner: dict[str, Found]

    @property
    def has_inner_images(self) -> bool:
        """Whether a folder in it contains an image."""
        return any(found.files for found in self.inner.values())

    @property
    def has_images(self) -> bool:
        """Whether it contains an image at any depth."""
        return bool(self.own.files) or self.has_inner_images

    @property
    def names_split(self) -> bool:
        """Whether its name is a word for a split, such as 'train'."""
        return self.name.casefold() in KEYWORDS

    @property
    def passed(self) -> Counter[str]:
        """The files in it that are no images, by reason."""
        return _total([self.own.passed, *(found.passed for found in self.inner.values())])


@dataclass(frozen=True)
class ImageFolder:
    """Class folders, by split.

    Attributes:
        classes: split -> class -> its images; the file names are relative to the data.
        passed_over: split -> reason -> number of files; '' for those outside the splits.
    """

    classes: dict[str, dict[str, list[str]]]
    passed_over: dict[str, Counter[str]]


def read_top_folders(path: Path) -> tuple[list[TopFolder], Found]:
    """The folders in `path`, sorted by name, and the images that lie beside them. Raises InputError."""
    listing = list_folder(path, why_no_image)
    folders = []
    for name in sorted([*listing.folders, *listing.links]):
        top = path / name
        own = list_folder(top, why_no_image)
        inner = {inside: walk(top / inside, why_no_image, above=(path, top)) for inside in sorted([*own.folders, *own.links])}
        folders.append(TopFolder(name, Found(own.files, own.passed), inner))
    return folders, Found(listing.files, listing.passed)


def read_image_folder(path: Path, name: str, layout: str | None) -> ImageFolder:
    """Read the class folders of `path`, split or not; without splits there is the one split 'train'.

    Args:
        path: the folder.
        name: of the data, for messages.
        layout: 'classes' or 'splits', what the folders in `path` are; None decides by their names and contents.

    Raises InputError when both are possible, and when there are no class folders.
    """
    folders, beside = read_top_folders(path)
    if not folders:
        what = "images, but not in class folders" if beside.files else "no class folders"
        raise InputError(f"the folder '{name}' has {what}", "put the images into one folder per class")
    found = _as_splits(folders, name) if (layout or _decide(folders, name)) == "splits" else _as_classes(path, folders)
    found.passed_over[""] = found.passed_over.get("", Counter()) + beside.passed + _outside(len(beside.files))
    return found


def _decide(folders: Sequence[TopFolder], name: str) -> str:
    """'splits' where all names are words for splits and all images lie in class folders; 'classes' without such a folder."""
    if not any(folder.names_split and folder.has_inner_images for folder in folders):
        for folder in folders:
            _check_no_splits_in(folder, name)
        return "classes"
    if all(folder.names_split and not folder.own.files for folder in folders):
        return "splits"
    if all(folder.own.files for folder in folders) and not all(folder.names_split for folder in folders):
        return "classes"
    splits = [folder for folder in folders if folder.names_split and folder.has_inner_images]
    inner = sorted({inside for folder in splits for inside, found in folder.inner.items() if found.files})
    raise InputError(
        f"the folder '{name}' can be read as the classes {listed([folder.name for folder in folders])} or as "
        f"the splits {listed([folder.name for folder in splits])} of the classes {listed(inner)}",
        f"choose with {CHOICES}, or remove the folders that do not belong to the data",
    )


def _check_no_splits_in(folder: TopFolder, name: str) -> None:
    inner = [inside for inside, found in folder.inner.items() if found.files and inside.casefold() in KEYWORDS]
    if len({KEYWORDS[inside.casefold()] for inside in inner}) > 1:
        raise InputError(
            f"the folder '{folder.name}' of '{name}' contains the splits {listed(inner)}, so it is a class or data of its own",
            f"give '{folder.name}' itself as the data, put the class folders into split folders ({inner[0]}/{folder.name}), or "
            "read all its images as one class of one split with --layout classes",
        )


def _as_classes(path: Path, folders: Sequence[TopFolder]) -> ImageFolder:
    # a class is walked as a whole, so that links within it do not make an image count twice
    read = {one.name: walk(path / one.name, why_no_image, above=(path,)) if one.inner else one.own for one in folders}
    files = {name: [f"{name}/{file}" for file in found.files] for name, found in read.items()}
    return ImageFolder({"train": files}, {"train": _total([found.passed for found in read.values()])})


def _as_splits(folders: Sequence[TopFolder], name: str) -> ImageFolder:
    found = ImageFolder({}, {"": Counter()})
    for folder in folders:
        passed = folder.passed + _outside(len(folder.own.files))
        if not folder.inner:
            found.passed_over[""] += passed
            continue
        split = splits_of_stems([folder.name], last=True)[0] or folder.name
        if split in found.classes:
            raise InputError(f"the folder '{name}' has the {split} split twice ('{folder.name}')", "keep one of them")
        found.classes[split] = {
            inside: [f"{folder.name}/{inside}/{file}" for file in below.files] for inside, below in folder.inner.items()
        }
        found.passed_over[split] = passed
    if not found.classes:
        raise InputError(f"the folders of '{name}' contain no class folders", "leave --layout splits out")
    return found


def _total(counts: Sequence[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total


def _outside(count: int) -> Counter[str]:
    return Counter({OUTSIDE: count} if count else {})


def listed(names: Sequence[str]) -> str:
    """The first names, for a message."""
    shown = ", ".join(f"'{name}'" for name in names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
