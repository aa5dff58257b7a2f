"""What the folders of an image folder are: classes, or splits that contain class folders."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.classes import fold
from stages.data.folders.class_level import check_level, check_split_level, is_generic
from stages.data.folders.splits import KEYWORDS, split_of_folder, splits_of_stems, words_of
from stages.data.folders.walk import Found, list_folder, walk, why_no_image
from stages.errors import InputError
from stages.text import as_text, listed

OUTSIDE = "outside a class folder"
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
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
        """Whether its name is a word for a split and nothing more, such as 'train' or 'test_set'."""
        return split_of_folder(self.name) is not None

    @property
    def may_name_split(self) -> bool:
        """Whether there is a word for a split in its name."""
        return not KEYWORDS.keys().isdisjoint(words_of(self.name))

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
        raise _no_class_folders(path, name, bool(beside.files))
    kind = layout or _decide(path, folders, name)
    if layout is None and kind == "classes":
        check_level(path, name, {folder.name: (folder.own, folder.inner) for folder in folders if folder.has_images})
    found = _as_splits(folders, name) if kind == "splits" else _as_classes(path, folders)
    if kind == "splits":
        check_split_level(found.classes, name)
    if layout is None and kind == "splits":
        for folder in folders:
            inner = {inside: _levels(below) for inside, below in folder.inner.items() if below.files}
            check_level(path, name, inner, folder.name)
    found.passed_over[""] = found.passed_over.get("", Counter()) + beside.passed + _outside(len(beside.files))
    return found


def _no_class_folders(path: Path, name: str, images: bool) -> InputError:
    """The error for a folder without folders to read: says what is in it."""
    names = sorted(as_text(entry) for entry in os.listdir(path))
    if images:
        what = "has images, but not in class folders"
    else:
        what = f"has no class folders, only {listed(names, 4)}" if names else "is empty"
    unpack = any(name.casefold().endswith(ARCHIVES) for name in names)
    return InputError(
        f"the folder '{name}' {what}",
        f"{'unpack the archives, and ' if unpack else ''}put the images into one folder per class",
    )


def _levels(found: Found) -> tuple[Found, dict[str, Found]]:
    """The images directly in a folder, and those of each folder in it, of all images below it."""
    own, inner = Found([], Counter()), dict[str, Found]()
    for file in found.files:
        inside, _, rest = file.partition("/")
        (inner.setdefault(inside, Found([], Counter())) if rest else own).files.append(rest or file)
    return own, inner


def _decide(path: Path, folders: Sequence[TopFolder], name: str) -> str:
    """'splits' where all names are words for splits and images lie in class folders; 'classes' where nothing is like splits."""
    splits = [folder for folder in folders if folder.names_split and folder.has_inner_images]
    if splits and all(folder.names_split and not folder.own.files for folder in folders):
        return "splits"
    own_everywhere = all(folder.own.files for folder in folders) and not all(folder.names_split for folder in folders)
    if splits and not own_everywhere:
        raise _two_readings(folders, splits, name)
    if not splits:
        _check_not_like_splits(path, [folder for folder in folders if folder.has_images], name)
    return "classes"


def _check_not_like_splits(path: Path, folders: Sequence[TopFolder], name: str) -> None:
    """Raise InputError where folders that are no splits by their names alone may be so by these and what is in them."""
    for folder in folders:
        _check_no_splits_in(path, folder, name, alone=len(folders) == 1 or is_generic(folder.name))
    if folders and all(folder.may_name_split and not folder.has_inner_images for folder in folders):
        names = listed([folder.name for folder in folders], 4)
        raise InputError(
            f"the folder '{name}' can be read as the classes {names} or as the splits {names}, whose images have no class",
            "put the images of each split into class folders, or read the folders as classes with --layout classes",
        )
    if len(folders) < 2 or any(folder.own.files for folder in folders):
        return
    inner = [{fold(inside) for inside, found in folder.inner.items() if found.files} for folder in folders]
    if len(set.intersection(*inner)) > 1 or all(folder.may_name_split for folder in folders):
        raise _two_readings(folders, folders, name)


def _check_no_splits_in(path: Path, folder: TopFolder, name: str, *, alone: bool) -> None:
    """Raise InputError where a folder contains splits: several, or one at any depth where it is no class beside others."""
    inner = [inside for inside, found in folder.inner.items() if found.files and split_of_folder(inside)]
    several = len({split_of_folder(inside) for inside in inner}) > 1
    if alone and not several:
        paths = [f"{inside}/{file}" for inside, found in folder.inner.items() for file in found.files]
        inner = sorted({part for path in paths for part in path.split("/")[:-1] if split_of_folder(part)})
    if several or (alone and inner):
        files = (f"{inside}/{file}".split("/") for inside, found in folder.inner.items() for file in found.files)
        parts = next(parts for parts in files if inner[0] in parts[:-1])
        data = "/".join([str(path), folder.name, *parts[: parts.index(inner[0])]])
        raise InputError(
            f"the folder '{folder.name}' of '{name}' contains the splits {listed(inner, 4)}, "
            "so it is a class or data of its own",
            f"give --data {shlex.quote(data)}, put the class folders into split folders ({inner[0]}/{folder.name}), or "
            "read all its images as one class of one split with --layout classes",
        )


def _two_readings(folders: Sequence[TopFolder], splits: Sequence[TopFolder], name: str) -> InputError:
    inner = sorted({inside for folder in splits for inside, found in folder.inner.items() if found.files})
    return InputError(
        f"the folder '{name}' can be read as the classes {listed([folder.name for folder in folders], 4)} or as "
        f"the splits {listed([folder.name for folder in splits], 4)} of the classes {listed(inner, 4)}",
        f"choose with {CHOICES}, or remove the folders that do not belong to the data",
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
        split = splits_of_stems([folder.name], last=True)[0] or as_text(folder.name)
        if split in found.classes:
            raise InputError(
                f"the folder '{name}' has the {split} split twice ('{folder.name}')",
                "keep one of them, or choose --layout classes",
            )
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
